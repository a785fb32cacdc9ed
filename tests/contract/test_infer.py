"""Inference against a real Triton: the same over gRPC and HTTP."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from contract.models import IDENTITY_DATATYPES

from tritonforge_client import Client, ModelSpec, Options, SpecDrift, TensorSpec
from tritonforge_client.codegen import modules_from_server
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

SHAPES = [(1, 1), (2, 3), (0, 3), (3, 0), (7, 1000)]


def array_of(datatype: str, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Any bit pattern of a datatype."""
    random = np.random.default_rng(0)
    count = shape[0] * shape[1]
    if datatype == "BYTES":
        array = np.empty(count, dtype=np.object_)
        array[:] = [random.bytes(int(size)) for size in random.integers(0, 300, count)]
        return array.reshape(shape)
    dtype = BY_DATATYPE[datatype].dtype
    if datatype == "BOOL":
        return random.integers(0, 2, shape).astype(np.bool_)
    return np.frombuffer(random.bytes(count * dtype.itemsize), dtype=dtype).reshape(shape)


def assert_same(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.tolist() == expected.tolist() if expected.dtype == object else got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("datatype", IDENTITY_DATATYPES)
def test_every_datatype_comes_back_bit_by_bit(client: Client, datatype: str, shape: tuple[int, int]) -> None:
    array = array_of(datatype, shape)
    reply = client.infer("identity", {f"IN_{datatype}": array})
    assert list(reply.value) == [f"OUT_{datatype}"]
    assert_same(reply.value[f"OUT_{datatype}"], array)


def test_several_tensors_of_odd_sizes_come_back_together(client: Client) -> None:
    arrays = {f"IN_{datatype}": array_of(datatype, (3, 5)) for datatype in IDENTITY_DATATYPES}
    outputs = client.infer("identity", arrays).value
    for name, array in arrays.items():
        assert_same(outputs[name.replace("IN_", "OUT_", 1)], array)


def test_bf16_comes_back(client: Client) -> None:
    array = np.array([1.5, -2.0, 0.0, float("inf")], dtype=ml_dtypes.bfloat16)
    assert_same(client.infer("identity_bf16", {"IN": array}).value["OUT"], array)


def test_four_megabytes_come_back(client: Client) -> None:
    array = array_of("FP32", (1000, 1050))
    assert_same(client.infer("identity", {"IN_FP32": array}).value["OUT_FP32"], array)


def test_a_spec_is_the_config_that_the_server_has(client: Client) -> None:
    spec = client.spec("add_sub")
    assert (spec.name, spec.max_batch_size, spec.version, spec.queue_timeout_us) == ("add_sub", 8, None, None)
    assert spec.inputs == tuple(TensorSpec(name=name, datatype="FP32", dims=(4,)) for name in "ab")
    assert [tensor.name for tensor in spec.outputs] == ["sum", "difference"]
    assert client.spec("queue_limited").queue_timeout_us == 60_000_000


def test_both_protocols_read_the_same_specs(server: EmbeddedTriton) -> None:
    with Client(server.grpc_url) as grpc_client, Client(server.http_url) as http_client:
        for name in ("identity", "add_sub", "queue_limited", "odd_names", "slow"):
            assert grpc_client.spec(name) == http_client.spec(name)


def test_a_bound_model_answers(client: Client) -> None:
    model = client.bind(client.spec("add_sub"))
    a = np.arange(8, dtype=np.float32).reshape(2, 4)
    b = np.ones((2, 4), np.float32)
    outputs = model.infer({"a": a, "b": b})
    np.testing.assert_array_equal(outputs["sum"], a + b)
    np.testing.assert_array_equal(outputs["difference"], a - b)
    one = model.infer_one({"a": a[1], "b": b[1]})
    assert one["sum"].shape == (4,)
    np.testing.assert_array_equal(one["sum"], a[1] + b[1])


def test_a_reply_says_where_it_came_from(client: Client) -> None:
    a = np.ones((1, 4), np.float32)
    model = client.bind(client.spec("add_sub", version="1"))
    reply = model.infer_with_reply({"a": a, "b": a}, outputs=["difference"], request_id="id-7")
    assert list(reply.value) == ["difference"]
    assert (reply.model_version, reply.request_id) == ("1", "id-7")
    assert reply.endpoint.startswith("127.0.0.1:")
    assert 0 < reply.elapsed_s < 30


def test_arrays_are_views_unless_they_are_to_be_written(client: Client) -> None:
    a = np.ones((1, 4), np.float32)
    outputs = client.infer("add_sub", {"a": a, "b": a}).value
    assert not outputs["sum"].flags.writeable
    assert not outputs["sum"].flags.owndata
    outputs = client.infer("add_sub", {"a": a, "b": a}, options=Options(writable=True)).value
    outputs["sum"][0, 0] = 5
    assert outputs["sum"].flags.aligned


def test_strings_of_a_list_come_back_as_bytes(client: Client) -> None:
    model = client.bind(client.spec("odd_names"))
    numbers = np.array([[1, 2], [3, 4]])
    texts: list[list[str | bytes]] = [["a"], [b"\xff\x00"]]
    outputs = model.infer({"input:0": numbers, "class": texts})
    assert outputs["class"].tolist() == [[b"A"], [b"\xff\x00"]]
    assert outputs["out/sum"].tolist() == numbers.tolist()
    outputs = model.infer({"input:0": numbers, "class": [["a"], ["b"]], "options": numbers})
    assert outputs["out/sum"].tolist() == (2 * numbers).tolist()


def test_a_generated_module_calls_a_model_with_names_that_python_forbids(client: Client, tmp_path: Path) -> None:
    (path,) = modules_from_server(client, tmp_path, models=["odd_names"])
    # Dataclasses look their module up by name, so it runs as this one.
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(path.read_text(), path, "exec"), namespace)
    module = namespace["OddNames"](client)
    outputs = module.infer(input_0=np.array([[1, 2]]), class_=[["x"]], options_=np.array([[10, 20]]))
    assert outputs.out_sum.tolist() == [[11, 22]]
    assert outputs.class_.tolist() == [[b"X"]]
    one = module.infer_one(input_0=np.array([1, 2]), class_=["x"])
    assert one.out_sum.tolist() == [1, 2]
    assert one.class_.tolist() == [b"X"]


def test_a_model_that_answers_another_shape_than_its_config_is_drift(client: Client) -> None:
    x = np.zeros((2, 3), np.float32)
    assert client.infer("lying", {"x": x}).value["y"].shape == (2, 5)
    with pytest.raises(SpecDrift, match=r"output y: expected float32 \(batch<=4, 3\), got float32 \(2, 5\)"):
        client.bind(client.spec("lying")).infer({"x": x})


def test_drift_of_a_spec_is_found_without_an_inference(client: Client) -> None:
    spec = client.spec("add_sub")
    client.check(spec)
    assert client.drifts(spec) == ()
    old = ModelSpec(name="add_sub", inputs=spec.inputs[:1], outputs=spec.outputs, max_batch_size=4)
    with pytest.raises(SpecDrift) as caught:
        client.check(old)
    assert caught.value.drifts == client.drifts(old)
    new, size = caught.value.drifts
    assert (new.field, new.expected, new.got) == ("input b", "nothing", "FP32 [4]")
    assert (size.field, size.expected, size.got) == ("max_batch_size", "4", "8")
    assert str(caught.value).endswith(
        "input b is new; max_batch_size: expected 4, got 8. Read the spec or generate the module again"
    )


def test_one_client_serves_many_threads(client: Client) -> None:
    model = client.bind(client.spec("add_sub"))

    def call(number: int) -> bool:
        a = np.full((1, 4), number, np.float32)
        return bool((model.infer({"a": a, "b": a})["sum"] == 2 * number).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(400)))


def test_statistics_count_what_was_run(client: Client) -> None:
    def counts() -> tuple[int, int, int]:
        (entry,) = client.statistics("add_sub")
        assert (entry.name, entry.version) == ("add_sub", "1")
        return entry.inference_count, entry.execution_count, entry.inference_stats.success.count

    before = counts()
    a = np.ones((3, 4), np.float32)
    client.infer("add_sub", {"a": a, "b": a})
    deadline = time.monotonic() + 5.0  # the server counts a request just after it has answered it
    while counts() == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [after - earlier for earlier, after in zip(before, counts(), strict=True)] == [3, 1, 1]
    (entry,) = client.statistics("add_sub")
    assert 3 in {batch.batch_size for batch in entry.batch_stats}
    assert entry.inference_stats.compute_infer.ns > 0
    assert entry.last_inference > 0
    assert {"add_sub", "slow"} <= {entry.name for entry in client.statistics()}
