"""Tensors in shared memory, with a real Triton on the same host."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.conftest import KINDS, made_client
from contract.models import write_models
from numpy.typing import NDArray
from support.fake_cuda import FakeCuda, GpuTensor

from tritonforge_client import Client, ConnectionFailed, ModelSpec, Options, ServerError, TensorSpec, TritonError
from tritonforge_client.shared_memory import SystemRegion
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

ROWS, COLUMNS = 300, 1000
SPEC = ModelSpec(
    name="identity",
    inputs=(TensorSpec(name="IN_FP32", datatype="FP32", dims=(ROWS, COLUMNS), optional=True),),
    outputs=(TensorSpec(name="OUT_FP32", datatype="FP32", dims=(ROWS, COLUMNS)),),
)


def images(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    return {"IN_FP32": np.random.default_rng(seed).random((ROWS, COLUMNS), dtype=np.float32)}


def objects() -> set[str]:
    """Shared-memory objects of this process."""
    return {path.name for path in Path("/dev/shm").glob(f"tritonforge-{os.getpid()}-*")}


@pytest.fixture(params=KINDS)
def placing(request: pytest.FixtureRequest, server: EmbeddedTriton) -> Iterator[Client]:
    with made_client(request.param, server, options=Options(shared_memory="system")) as client:
        yield client
    gc.collect()
    assert objects() == set()


def test_large_tensors_travel_in_shared_memory_both_ways(placing: Client) -> None:
    model = placing.bind(SPEC)
    for seed in range(5):
        inputs = images(seed)
        output = model.infer(inputs)["OUT_FP32"]
        np.testing.assert_array_equal(output, inputs["IN_FP32"])
        assert not output.flags.writeable
    # One region for inputs, and two for outputs: the last array lives while the next one is written.
    assert len(objects()) == 3


def test_an_array_that_lives_is_not_written_over(placing: Client) -> None:
    model = placing.bind(SPEC)
    outputs = [model.infer(images(seed))["OUT_FP32"] for seed in range(4)]
    views = [output[::2, 5] for output in outputs]
    del outputs
    gc.collect()
    for _ in range(3):
        model.infer(images(99))
    for seed, view in enumerate(views):
        np.testing.assert_array_equal(view, images(seed)["IN_FP32"][::2, 5])


def test_small_tensors_and_strings_stay_on_the_wire(placing: Client) -> None:
    reply = placing.infer("identity", {"IN_INT32": np.ones((2, 2), np.int32), "IN_BYTES": np.array([["a"]], object)})
    assert reply.value["OUT_INT32"].tolist() == [[1, 1], [1, 1]]
    assert reply.value["OUT_BYTES"].tolist() == [[b"a"]]
    assert objects() == set()


def test_large_and_small_tensors_go_together(placing: Client) -> None:
    large, small = images()["IN_FP32"], np.arange(6, dtype=np.int64).reshape(2, 3)
    outputs = placing.infer("identity", {"IN_INT64": small, "IN_FP32": large, "IN_UINT8": large.view(np.uint8)}).value
    np.testing.assert_array_equal(outputs["OUT_FP32"], large)
    np.testing.assert_array_equal(outputs["OUT_INT64"], small)
    np.testing.assert_array_equal(outputs["OUT_UINT8"], large.view(np.uint8))


def test_writable_arrays_are_copies(placing: Client) -> None:
    model = placing.bind(SPEC, options=Options(shared_memory="system", writable=True))
    output = model.infer(images())["OUT_FP32"]
    output += 1
    model.infer(images(7))
    np.testing.assert_array_equal(output, images()["IN_FP32"] + 1)


def test_a_refused_request_gives_its_regions_back(placing: Client) -> None:
    for _ in range(5):
        with pytest.raises(TritonError):
            placing.infer("add_sub", images())
    assert len(objects()) == 1


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_auto_falls_back_to_the_wire_with_one_warning(
    server: EmbeddedTriton, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SystemRegion.__init__

    def elsewhere(self: SystemRegion, size_bytes: int) -> None:
        made(self, size_bytes)
        self.key = "/somewhere-else"

    monkeypatch.setattr(SystemRegion, "__init__", elsewhere)
    with made_client(kind, server, options=Options(shared_memory="auto")) as client:
        model = client.bind(SPEC)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for seed in range(3):
                np.testing.assert_array_equal(model.infer(images(seed))["OUT_FP32"], images(seed)["IN_FP32"])
        assert [str(one.message).partition(":")[0] for one in caught if one.category is RuntimeWarning] == [
            "shared memory is not used, tensors go over the wire"
        ]
        with pytest.raises(TritonError, match="Unable to open shared memory region"):
            model.infer(images(), options=Options(shared_memory="system"))


def test_a_server_that_is_down_costs_no_memory(kind: str) -> None:
    """No request went out that names the region, so that it is given to the next call."""
    protocol = kind.partition("-")[0]
    before = objects()
    with made_client(kind, f"{protocol}://127.0.0.1:9", options=Options(shared_memory="system", retry=None)) as client:
        for _ in range(3):
            with pytest.raises(ConnectionFailed):
                client.infer("identity", images())
            assert len(objects() - before) == 1
    assert objects() == before


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A GPU that the server knows nothing of."""
    fake = FakeCuda()
    for module in ("check", "shared"):
        monkeypatch.setattr(f"tritonforge_client.core.{module}.cuda_runtime", lambda: fake)
    return fake


def test_a_server_that_cannot_open_memory_of_the_gpu_is_an_error_in_its_words(
    server: EmbeddedTriton, kind: str, cuda: FakeCuda
) -> None:
    with made_client(kind, server, options=Options(shared_memory="cuda")) as client:
        for _ in range(2):
            text = "cannot open a region of GPU 0: .*failed to register shared memory region.* Run it on this host"
            with pytest.raises(ServerError, match=text) as caught:
                client.infer("identity", {"IN_FP32": GpuTensor(images()["IN_FP32"])})
            assert caught.value.server_message == "failed to register shared memory region: invalid args"
            assert len(cuda.live) == 1
    assert cuda.live == {}


def test_auto_sends_what_lies_on_a_gpu_over_the_wire_where_the_server_cannot_open_it(
    server: EmbeddedTriton, kind: str, cuda: FakeCuda
) -> None:
    with (
        made_client(kind, server, options=Options(shared_memory="auto")) as client,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always", RuntimeWarning)
        for seed in range(3):
            sent = images(seed)["IN_FP32"]
            output = client.infer("identity", {"IN_FP32": GpuTensor(sent)}).value["OUT_FP32"]
            np.testing.assert_array_equal(output, sent)
            # Another kind of region is another matter.
            np.testing.assert_array_equal(client.bind(SPEC).infer(images(seed))["OUT_FP32"], sent)
            assert len(objects()) == 2
    (warning,) = (one for one in caught if one.category is RuntimeWarning)
    assert "tensors go over the wire: " in str(warning.message)
    assert "cannot open a region of GPU 0" in str(warning.message)
    assert cuda.live == {}


def test_a_server_that_came_back_learns_the_regions_again(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    write_models(repository)
    options: dict[str, Any] = {"model_control_mode": "explicit", "load_models": ["identity"]}
    first = EmbeddedTriton(repository, **options)
    with first:
        ports: dict[str, Any] = {
            f"{name}_port": int(url.rpartition(":")[2])
            for name, url in (("http", first.http_url), ("grpc", first.grpc_url))
        }
        clients = [Client(url, options=Options(shared_memory="system")) for url in (first.http_url, first.grpc_url)]
        for client in clients:
            client.bind(SPEC).infer(images())
    with EmbeddedTriton(repository, **ports, **options):
        for client in clients:
            client.wait_ready("identity", timeout_s=10)
            np.testing.assert_array_equal(client.bind(SPEC).infer(images(1))["OUT_FP32"], images(1)["IN_FP32"])
            client.close()
