"""The Python-based backend ``tensorrt``, seen through a real Triton server.

There is no GPU here: TensorRT and CUDA below the backend are stand-ins (``support.gpu_stand_in``) that copy and compute
later than they are asked to, as a GPU does. What a real GPU answers is tested in ``tests/gpu``.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import stand_in_plans
from support.serving import in_parallel
from support.stand_in_plans import negation, write_model, write_plan

from tritonforge_client import Client, TritonError
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

GATHERING = "dynamic_batching { max_queue_delay_microseconds: 300000 preferred_batch_size: 8 }"
DATATYPES = ("BOOL", "FP16", "FP32", "INT32", "INT64", "INT8", "UINT8")
WIDE = 50_000


def every_datatype(repository: Path, name: str) -> None:
    lines = ["max_batch_size: 8", GATHERING]
    for key in DATATYPES:
        lines.append(f'input {{ name: "in_{key}" data_type: TYPE_{key} dims: [3] }}')
        lines.append(f'output {{ name: "out_{key}" data_type: TYPE_{key} dims: [3] }}')
    write_plan(
        write_model(repository, name, "\n".join(lines)),
        tensors=[(f"{way}_{key}", str(BY_DATATYPE[key].dtype), [-1, 3]) for key in DATATYPES for way in ("in", "out")],
        outputs={f"out_{key}": ["copy", f"in_{key}"] for key in DATATYPES},
        profiles=[{f"in_{key}": ([1, 3], [4, 3], [8, 3]) for key in DATATYPES}],
    )


def two_of_each(repository: Path, name: str) -> None:
    """``total = a + b`` and ``negative = -a`` on rows of 2 to 6."""
    config = f"""
        max_batch_size: 8
        input [ {{ name: "a" data_type: TYPE_FP32 dims: [-1] }}, {{ name: "b" data_type: TYPE_FP32 dims: [-1] }} ]
        output [
          {{ name: "negative" data_type: TYPE_FP32 dims: [-1] }}, {{ name: "total" data_type: TYPE_FP32 dims: [-1] }}
        ]
        {GATHERING}
        """
    write_plan(
        write_model(repository, name, config),
        tensors=[(one, "float32", [-1, -1]) for one in ("a", "b", "total", "negative")],
        outputs={"total": ["add", "a", "b"], "negative": ["negative", "a"]},
        profiles=[{one: ([1, 2], [4, 4], [8, 6]) for one in ("a", "b")}],
    )


def profile_number(repository: Path, name: str, groups: str) -> None:
    """``number`` is the profile that ran; profile 0 takes up to 8 rows, profile 1 up to 2."""
    config = """
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [1] }
        output { name: "number" data_type: TYPE_FP32 dims: [1] }
        """
    write_plan(
        write_model(repository, name, config + groups),
        tensors=[("x", "float32", [-1, 1]), ("number", "float32", [-1, 1])],
        outputs={"number": ["profile", "x"]},
        profiles=[{"x": ([1, 1], [8, 1], [8, 1])}, {"x": ([1, 1], [2, 1], [2, 1])}],
        run_s=0.02,
    )


def scalar(repository: Path, name: str) -> None:
    config = """
        input { name: "x" data_type: TYPE_FP32 dims: [1] }
        output { name: "y" data_type: TYPE_FP32 dims: [1] }
        """
    write_plan(
        write_model(repository, name, config),
        tensors=[("x", "float32", []), ("y", "float32", [])],
        outputs={"y": ["negative", "x"]},
        profiles=[{"x": ([], [], [])}],
    )


def pooled(repository: Path, name: str) -> None:
    """``y`` has one row, however many ``x`` has."""
    path = negation(repository, name)
    write_plan(
        path,
        tensors=[("x", "float32", [-1, 4]), ("y", "float32", [1, 4])],
        outputs={"y": ["max", "x"]},
        profiles=[{"x": ([1, 4], [8, 4], [8, 4])}],
    )


def without_config(repository: Path, name: str) -> None:
    path = negation(repository, name)
    path.parent.with_name("config.pbtxt").unlink()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    repository = tmp_path_factory.mktemp("repository")
    graphs = "optimization { cuda { graphs: true } }"
    every_datatype(repository, "every_datatype")
    two_of_each(repository, "two_of_each")
    profile_number(repository, "tightest", "")
    profile_number(repository, "groups", 'instance_group [{ name: "g" profile: "1" }, { name: "g_0" profile: "0" }]')
    profile_number(repository, "small", 'instance_group { profile: "1" }')
    scalar(repository, "scalar")
    pooled(repository, "pooled")
    without_config(repository, "without_config")
    negation(repository, "plain")
    negation(repository, "graphs", graphs)
    negation(repository, "gathered", f"{GATHERING} {graphs}")
    negation(repository, "wide", "dynamic_batching {}" + graphs, dims=WIDE, run_s=0.005)
    negation(repository, "slow", run_s=0.2)
    negation(repository, "unloaded", run_s=0.3)
    negation(repository, "two_instances", "instance_group { count: 2 }")
    with (
        stand_in_plans.stand_in_backend(tmp_path_factory.mktemp("backends")),
        EmbeddedTriton(
            repository, model_control_mode="explicit", load_models=["*"], ready_timeout_s=120, stop_timeout_s=0
        ) as triton,
    ):
        yield triton
        assert copies_that_were_not_pinned(triton.log) == []


@pytest.fixture(scope="module")
def client(server: EmbeddedTriton) -> Iterator[Client]:
    with Client(server.grpc_url) as connected:
        yield connected


def copies_that_were_not_pinned(log: Sequence[str]) -> list[str]:
    return [line for line in log if "a copy from memory that is not pinned" in line or "cannot be pinned" in line]


def rows(count: int, dims: int = 4, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, dims), np.float32)


@pytest.mark.parametrize("model", ["plain", "graphs", "two_instances"])
def test_every_batch_size_once_and_again(client: Client, model: str) -> None:
    for turn in range(3):  # a CUDA graph is captured in the second turn and launched in the third
        for count in range(1, 9):
            x = rows(count, seed=turn)
            np.testing.assert_array_equal(client.infer(model, {"x": x}).value["y"], -x)


@pytest.mark.parametrize("together", [False, True], ids=["alone", "gathered"])
def test_every_datatype_comes_back_as_it_went(client: Client, together: bool) -> None:
    sent = []
    for seed in range(3 if together else 1):
        values = np.random.default_rng(seed).integers(0, 100, (seed + 1, 3))
        sent.append({f"in_{key}": values.astype(BY_DATATYPE[key].dtype) for key in DATATYPES})
    for inputs, reply in zip(sent, in_parallel(client, "every_datatype", sent), strict=True):
        for key in DATATYPES:
            assert reply[f"out_{key}"].dtype == BY_DATATYPE[key].dtype
            np.testing.assert_array_equal(reply[f"out_{key}"], inputs[f"in_{key}"])


def test_requests_at_the_same_time_run_as_one_batch(client: Client) -> None:
    (before,) = client.statistics("gathered")
    sizes = [1, 2, 1, 3, 1]  # 8 rows, the preferred size
    for turn in range(3):
        requests: list[dict[str, NDArray[Any]]] = [
            {"x": rows(size, seed=10 * turn + index)} for index, size in enumerate(sizes)
        ]
        for sent, reply in zip(requests, in_parallel(client, "gathered", requests), strict=True):
            np.testing.assert_array_equal(reply["y"], -sent["x"])
    (after,) = client.statistics("gathered")
    assert after.inference_count - before.inference_count == 3 * sum(sizes)
    assert after.execution_count - before.execution_count < 3 * len(sizes)


def test_requests_keep_their_memory_until_the_gpu_has_read_it(client: Client) -> None:
    """Copies run after ``execute`` has returned; the server must not have given the rows to somebody else by then."""

    def call(seed: int) -> None:
        for turn in range(20):
            x = rows(1 + seed % 3, WIDE, 100 * seed + turn)
            np.testing.assert_array_equal(client.infer("wide", {"x": x}).value["y"], -x)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(8)))


def test_two_batches_are_in_flight(client: Client) -> None:
    start = time.perf_counter()
    in_parallel(client, "slow", [{"x": rows(1)}] * 8)
    assert time.perf_counter() - start < 0.75 * 8 * 0.2  # one after the other would take all of it


def test_only_the_outputs_asked_for_are_returned(client: Client) -> None:
    wanted = [["total"], ["negative"], ["total", "negative"]]
    inputs: dict[str, NDArray[Any]] = {"a": rows(1), "b": rows(1, seed=1)}
    barrier = threading.Barrier(len(wanted))

    def call(outputs: list[str]) -> dict[str, NDArray[Any]]:
        barrier.wait()
        return client.infer("two_of_each", inputs, outputs=outputs).value

    with ThreadPoolExecutor(len(wanted)) as pool:
        replies = list(pool.map(call, wanted))
    expected = {"negative": -inputs["a"], "total": inputs["a"] + inputs["b"]}
    for outputs, reply in zip(wanted, replies, strict=True):
        assert set(reply) == set(outputs)
        for name in outputs:
            np.testing.assert_array_equal(reply[name], expected[name])


def test_a_shape_outside_the_profiles_fails_alone(client: Client) -> None:
    widths = [4, 7, 4, 1]
    requests: list[dict[str, NDArray[Any]]] = [{"a": rows(1, width), "b": rows(1, width)} for width in widths]
    for width, sent, reply in zip(widths, requests, in_parallel(client, "two_of_each", requests), strict=True):
        if width == 4:
            np.testing.assert_array_equal(reply["total"], sent["a"] * 2)
        else:
            assert f"unexpected shape [1, {width}] for input 'a': the plan takes [1, 2] to [8, 6]" in str(reply)


def test_a_run_that_fails_is_told_and_the_next_works(client: Client) -> None:
    x = rows(2)
    for _ in range(4):  # more often than there are slots
        with pytest.raises(TritonError, match="cudaStreamSynchronize failed on the GPU: got cudaErrorIllegalAddress"):
            client.infer("plain", {"x": np.full((2, 4), np.nan, np.float32)})
    np.testing.assert_array_equal(client.infer("plain", {"x": x}).value["y"], -x)


def test_an_output_without_the_rows_of_its_batch_is_an_error(client: Client) -> None:
    x = rows(3)
    np.testing.assert_array_equal(client.infer("pooled", {"x": x[:1]}).value["y"], np.full((1, 4), x[:1].max()))
    with pytest.raises(TritonError, match=r"output 'y' has shape \[1, 4\] for a batch of 3 rows"):
        client.infer("pooled", {"x": x})


def test_the_tightest_profile_runs(client: Client) -> None:
    found = [client.infer("tightest", {"x": rows(count, 1)}).value["number"][0, 0] for count in (1, 2, 3, 8)]
    assert found == [1, 1, 0, 0]


def test_each_instance_group_runs_its_own_profile(client: Client) -> None:
    replies = in_parallel(client, "groups", [{"x": rows(1, 1)}] * 16)
    assert {float(reply["number"][0, 0]) for reply in replies} == {0.0, 1.0}


def test_a_batch_beyond_the_profiles_of_its_instance_is_refused(client: Client) -> None:
    with pytest.raises(TritonError, match=r"no optimisation profile .* x \[1, 1\] to \[2, 1\], got x \[3, 1\]"):
        client.infer("small", {"x": rows(3, 1)})
    assert client.infer("small", {"x": rows(2, 1)}).value["number"].tolist() == [[1.0], [1.0]]


def test_a_scalar_without_batching_is_sent_as_one_element(client: Client) -> None:
    value = client.infer("scalar", {"x": np.array([2.5], np.float32)}).value["y"]
    np.testing.assert_array_equal(value, np.array([-2.5], np.float32))


def test_a_batch_of_no_rows_is_refused(client: Client) -> None:
    with pytest.raises(TritonError):
        client.infer("plain", {"x": np.zeros((0, 4), np.float32)})
    assert client.infer("plain", {"x": rows(1)}).value["y"].shape == (1, 4)


def test_a_missing_config_is_completed(server: EmbeddedTriton) -> None:
    with urllib.request.urlopen(f"{server.http_url}/v2/models/without_config/config") as reply:
        config = json.load(reply)
    assert config["max_batch_size"] == 8
    assert "dynamic_batching" in config
    assert [(entry["name"], entry["data_type"], entry["dims"]) for entry in config["input"]] == [
        ("x", "TYPE_FP32", [4])
    ]
    assert [(entry["name"], entry["dims"]) for entry in config["output"]] == [("y", [4])]


def test_what_is_in_flight_is_answered_before_a_model_goes(client: Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        x = rows(1)
        replies = [pool.submit(client.infer, "unloaded", {"x": x}) for _ in range(3)]
        time.sleep(0.1)
        client.unload_model("unloaded")
        for reply in replies:
            np.testing.assert_array_equal(reply.result().value["y"], -x)
    client.load_model("unloaded")
    np.testing.assert_array_equal(client.infer("unloaded", {"x": x}).value["y"], -x)


def test_tensorrt_8_shares_no_profile_between_batches_in_flight(tmp_path: Path) -> None:
    """The stand-in ends the backend's process, as TensorRT 8 does, when two contexts take one profile."""
    (tmp_path / "backends").mkdir()
    negation(tmp_path / "models", "slow", run_s=0.02, version=(8, 6, 0, 12))
    with (
        stand_in_plans.stand_in_backend(tmp_path / "backends", "8.6.0"),
        EmbeddedTriton(tmp_path / "models", stop_timeout_s=0) as server,
        Client(server.grpc_url) as client,
    ):
        requests: list[dict[str, NDArray[Any]]] = [{"x": rows(1, seed=seed)} for seed in range(8)]
        for sent, reply in zip(requests, in_parallel(client, "slow", requests), strict=True):
            np.testing.assert_array_equal(reply["y"], -sent["x"])


def test_memory_that_grows_is_pinned_again(tmp_path: Path) -> None:
    """The server starts with room for a few requests only, and takes more when they come."""
    lines: list[str] = []
    (tmp_path / "backends").mkdir()
    negation(tmp_path / "models", "wide", "dynamic_batching {}", dims=WIDE, run_s=0.02)
    with (
        stand_in_plans.stand_in_backend(tmp_path / "backends"),
        EmbeddedTriton(
            tmp_path / "models",
            arguments=["--backend-config=python,shm-default-byte-size=1048576"],
            on_log=lines.append,
            stop_timeout_s=0,
        ) as server,
        Client(server.grpc_url) as client,
    ):
        requests: list[dict[str, NDArray[Any]]] = [{"x": rows(8, WIDE, seed)} for seed in range(8)]
        for _ in range(3):
            for sent, reply in zip(requests, in_parallel(client, "wide", requests), strict=True):
                np.testing.assert_array_equal(reply["y"], -sent["x"])
    assert copies_that_were_not_pinned(lines) == []
