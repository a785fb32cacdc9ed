"""The Python-based backend ``onnxruntime``, seen through a real Triton server."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import onnx_models
from support.serving import in_parallel

from tritonforge_client import Client, TritonError
from tritonforge_client.datatypes import BY_DATA_TYPE
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

GATHERING = "dynamic_batching { max_queue_delay_microseconds: 300000 preferred_batch_size: 8 }"
PARAMETERS = {
    "intra_op_thread_count": "2",
    "inter_op_thread_count": "2",
    "execution_mode": "1",
    "enable_mem_arena": "false",
    "enable_mem_pattern": "0",
    "session.use_device_allocator_for_initializers": "1",
    "memory.enable_memory_arena_shrinkage": "cpu:0",
    "share_session_between_instances": "on",
    "unknown_to_the_backend": "anything",
}
OPTIONS = {
    **{
        f"parameter {key}": f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in PARAMETERS.items()
    },
    **{f"graph level {level}": f"optimization {{ graph {{ level: {level} }} }}" for level in (-1, 0, 1, 2)},
}


def option_model(option: str) -> str:
    return option.replace(" ", "_").replace("-", "minus_").replace(".", "_")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    repository = tmp_path_factory.mktemp("repository")
    onnx_models.all_data_types(repository)
    onnx_models.scalars(repository)
    onnx_models.scalar_rows(repository)
    onnx_models.negation(repository, "gathered", GATHERING)
    onnx_models.negation(repository, "two_instances", "instance_group { kind: KIND_CPU count: 2 }")
    onnx_models.negation(repository, "any_kind", "instance_group { kind: KIND_AUTO count: 1 }")
    onnx_models.negation(repository, "cached", "response_cache { enable: true }")
    onnx_models.negation(
        repository,
        "warmed",
        'model_warmup { name: "ones" batch_size: 2 inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 '
        "random_data: true } } }",
    )
    onnx_models.lookup(repository, "lookup", GATHERING)
    onnx_models.optional_offset(repository)
    onnx_models.external_weights(repository)
    onnx_models.doubled_rows(repository)
    onnx_models.without_config(repository)
    in_folder = onnx_models.negation(repository, "model_in_folder", file="model.onnx/model.onnx")
    assert (in_folder / "1" / "model.onnx").is_dir()
    for option, config in OPTIONS.items():
        onnx_models.negation(repository, option_model(option), config)
    with EmbeddedTriton(
        repository,
        model_control_mode="explicit",
        load_models=["*"],
        ready_timeout_s=120,
        stop_timeout_s=0,
        arguments=["--model-load-thread-count=16"],
    ) as triton:
        yield triton


@pytest.fixture(scope="module")
def client(server: EmbeddedTriton) -> Iterator[Client]:
    with Client(server.grpc_url) as connected:
        yield connected


def samples(data_type: str) -> NDArray[Any]:
    if data_type == "STRING":
        return np.array([["a", "é\n", ""], ["\0mid\0", "日本", "x" * 1000]], np.object_)
    dtype = BY_DATA_TYPE[f"TYPE_{data_type}"].dtype
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)  # type: ignore[type-var] # the kind was checked
        return np.array([[limits.min, 0, limits.max], [1, 2, 3]], dtype)
    return np.array([[0, 1, 0.5], [-1.5, 2, 1e-4]]).astype(dtype)


def as_text(array: NDArray[Any]) -> list[list[str]]:
    return [[item.decode() if isinstance(item, bytes) else item for item in row] for row in array]


@pytest.mark.parametrize("together", [False, True], ids=["alone", "gathered"])
def test_every_data_type_comes_back_as_it_went(client: Client, together: bool) -> None:
    inputs = {f"in_{key}": samples(key) for key in onnx_models.ELEMENT_TYPES}
    second = {name: array[::-1].copy() for name, array in inputs.items()}
    replies = in_parallel(client, "all_data_types", [inputs, second] if together else [inputs])
    for sent, reply in zip([inputs, second], replies, strict=False):
        for key in onnx_models.ELEMENT_TYPES:
            expected, got = sent[f"in_{key}"], reply[f"out_{key}"]
            if key == "STRING":
                assert as_text(got) == as_text(expected)
            else:
                assert got.dtype == expected.dtype
                np.testing.assert_array_equal(got, expected)


def test_bytes_that_are_not_text_fail_with_a_reason(client: Client) -> None:
    inputs = {f"in_{key}": samples(key) for key in onnx_models.ELEMENT_TYPES}
    inputs["in_STRING"] = np.array([[b"\xff", b"", b""], [b"", b"", b""]], np.object_)
    with pytest.raises(TritonError, match="'in_STRING' has an element that is not UTF-8 text"):
        client.infer("all_data_types", inputs)


def test_a_scalar_without_batching_is_sent_as_one_element(client: Client) -> None:
    value = client.infer("scalars", {"x": np.array([2.5], np.float32)}).value["y"]
    np.testing.assert_array_equal(value, np.array([-2.5], np.float32))


def test_an_empty_reshape_makes_scalar_rows(client: Client) -> None:
    value = client.infer("scalar_rows", {"x": np.array([[1], [2], [3]], np.float32)}).value["y"]
    np.testing.assert_array_equal(value, np.array([[-1], [-2], [-3]], np.float32))


def test_requests_at_the_same_time_run_as_one_batch(client: Client) -> None:
    (before,) = client.statistics("gathered")
    sizes = [1, 2, 1, 3, 1]  # 8 rows, the preferred size
    random = np.random.default_rng(0)
    requests: list[dict[str, NDArray[Any]]] = [{"x": random.random((rows, 4), np.float32)} for rows in sizes]
    for sent, reply in zip(requests, in_parallel(client, "gathered", requests), strict=True):
        np.testing.assert_array_equal(reply["y"], -sent["x"])
    (after,) = client.statistics("gathered")
    assert after.inference_count - before.inference_count == sum(sizes)
    assert after.execution_count - before.execution_count < len(sizes)


def test_a_failing_request_does_not_fail_its_batch_mates(client: Client) -> None:
    (before,) = client.statistics("lookup")
    indices = [0, 99, 2, 1]
    replies = in_parallel(client, "lookup", [{"x": np.array([[index]], np.int64)} for index in indices])
    (after,) = client.statistics("lookup")
    assert after.execution_count - before.execution_count < len(indices), "the requests never met in a batch"
    assert isinstance(replies[1], TritonError)
    assert "onnx runtime error 2: " in str(replies[1])
    assert "indices element out of data bounds" in str(replies[1])
    for index, reply in zip(indices, replies, strict=True):
        if index != 99:
            np.testing.assert_array_equal(reply["y"], [[10 + index]])


def test_only_the_outputs_asked_for_are_returned(client: Client) -> None:
    x = np.array([[2]], np.int64)
    wanted = [["negative"], ["y"], ["y", "negative"]]
    barrier = threading.Barrier(len(wanted))

    def call(outputs: list[str]) -> dict[str, NDArray[Any]]:
        barrier.wait()
        return client.infer("lookup", {"x": x}, outputs=outputs).value

    with ThreadPoolExecutor(len(wanted)) as pool:
        replies = list(pool.map(call, wanted))
    expected = {"negative": [[-2]], "y": [[12]]}
    for outputs, reply in zip(wanted, replies, strict=True):
        assert set(reply) == set(outputs)
        for name in outputs:
            np.testing.assert_array_equal(reply[name], expected[name])


def test_an_optional_input_may_be_left_out(client: Client) -> None:
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(client.infer("optional_offset", {"x": x}).value["y"], x + 100)
    offset = np.array([5], np.float32)
    np.testing.assert_array_equal(client.infer("optional_offset", {"x": x, "offset": offset}).value["y"], x + 5)


def test_a_named_model_file_with_external_weights(client: Client) -> None:
    value = client.infer("external_weights", {"x": np.zeros((1, 4), np.float32)}).value["y"]
    np.testing.assert_array_equal(value, [[1, 2, 3, 4]])


def test_rows_that_do_not_match_the_batch_are_an_error(client: Client) -> None:
    with pytest.raises(TritonError, match=r"output 'y' has shape \[6,4\] for a batch of 3 rows"):
        client.infer("doubled_rows", {"x": np.zeros((3, 4), np.float32)})


@pytest.mark.parametrize("model", ["two_instances", "any_kind", "warmed", "model_in_folder"])
def test_a_model_answers(client: Client, model: str) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    for _ in range(4):
        np.testing.assert_array_equal(client.infer(model, {"x": x}).value["y"], -x)


def test_each_instance_has_a_process(server: EmbeddedTriton) -> None:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    assert sum(b"/two_instances/1/" in command for command in commands) == 2


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_alone(client: Client, option: str) -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    np.testing.assert_array_equal(client.infer(option_model(option), {"x": x}).value["y"], -x)


def test_the_response_cache_answers_a_repeated_request(client: Client) -> None:
    x = np.ones((1, 4), np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(client.infer("cached", {"x": x}).value["y"], -x)
    (statistics,) = client.statistics("cached")
    assert statistics.inference_stats.cache_hit.count == 2
    assert statistics.execution_count == 1


def test_a_missing_config_is_completed(server: EmbeddedTriton) -> None:
    with urllib.request.urlopen(f"{server.http_url}/v2/models/without_config/config") as reply:
        config = json.load(reply)
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config
    assert [(entry["name"], entry["data_type"], entry["dims"]) for entry in config["input"]] == [
        ("x", "TYPE_FP32", [2, -1])
    ]
    assert config["output"][0]["dims"] == [2, -1]


def test_a_given_config_is_left_alone(server: EmbeddedTriton) -> None:
    with urllib.request.urlopen(f"{server.http_url}/v2/models/two_instances/config") as reply:
        config = json.load(reply)
    assert config["max_batch_size"] == 8
    assert "dynamic_batching" not in config


def test_load_and_unload(client: Client) -> None:
    client.unload_model("any_kind")
    assert not client.ready("any_kind")
    client.load_model("any_kind")
    assert client.ready("any_kind")
