"""Tensors of the client on a real GPU, with a real Triton beside it that opens their memory; without TensorRT."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.models import write_models
from numpy.typing import NDArray

from tritonforge_client import Client, GpuArray, MissingExtraError, ModelSpec, Options, TensorSpec
from tritonforge_client.core.cuda import CudaError, CudaRuntime
from tritonforge_client.cuda_python import cuda_runtime
from tritonforge_client.datatypes import datatype_from_dtype
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = [pytest.mark.gpu, pytest.mark.triton, pytest.mark.timeout(300)]

ROWS, COLUMNS = 300, 1000
SPEC = ModelSpec(
    name="identity",
    inputs=(TensorSpec(name="IN_FP32", datatype="FP32", dims=(ROWS, COLUMNS), optional=True),),
    outputs=(TensorSpec(name="OUT_FP32", datatype="FP32", dims=(ROWS, COLUMNS)),),
)
CUDA = Options(shared_memory="cuda")


class Tensor:
    """A tensor on a GPU that says nothing of itself but by DLPack, made with cuda-python alone."""

    def __init__(self, runtime: CudaRuntime, array: NDArray[Any], device_id: int = 0) -> None:
        self._runtime = runtime
        address = runtime.allocate(device_id, array.nbytes)
        runtime.copy(device_id, address, array.ctypes.data, array.nbytes)
        runtime.synchronize(device_id)
        datatype = datatype_from_dtype(array.dtype).datatype
        self._array = GpuArray(runtime, address, shape=array.shape, datatype=datatype, device_id=device_id, owner=None)

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    def free(self) -> None:
        self._runtime.free(self._array.device_id, self._array.address)


@pytest.fixture(scope="module", autouse=True)
def gpu() -> CudaRuntime:
    """The CUDA runtime with a GPU."""
    try:
        runtime = cuda_runtime()
        runtime.free(0, runtime.allocate(0, 1))
    except (MissingExtraError, CudaError) as error:
        pytest.skip(str(error))
    return runtime


@pytest.fixture(scope="module")
def server(gpu: CudaRuntime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    repository = tmp_path_factory.mktemp("cuda") / "models"
    repository.mkdir()
    write_models(repository)
    with EmbeddedTriton(repository, model_control_mode="explicit", load_models=["identity"]) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, server: EmbeddedTriton) -> Iterator[Client]:
    url = server.grpc_url if request.param == "grpc" else server.http_url
    with Client(url, options=CUDA) as made:
        yield made


def images(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((ROWS, COLUMNS), dtype=np.float32)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "float64"])
def test_inputs_of_every_kind_reach_the_server(client: Client, gpu: CudaRuntime, dtype: str) -> None:
    sent = (images() * 100).astype(dtype)
    name = datatype_from_dtype(sent.dtype).datatype
    tensor = Tensor(gpu, sent)
    np.testing.assert_array_equal(client.infer("identity", {f"IN_{name}": tensor}).value[f"OUT_{name}"], sent)
    tensor.free()


def test_outputs_come_back_on_the_gpu_and_are_not_written_over(client: Client, gpu: CudaRuntime) -> None:
    model = client.bind(SPEC)
    tensors = [Tensor(gpu, images(seed)) for seed in range(4)]
    outputs = [model.infer({"IN_FP32": tensor})["OUT_FP32"] for tensor in tensors]
    parts = [output[5:7] for output in outputs]
    assert all(isinstance(output, GpuArray) for output in outputs)
    del outputs
    gc.collect()
    for _ in range(3):
        model.infer({"IN_FP32": images(99)})
    for seed, part in enumerate(parts):
        np.testing.assert_array_equal(np.asarray(part), images(seed)[5:7])
    for tensor in tensors:
        tensor.free()


def test_arrays_of_the_host_go_along(client: Client) -> None:
    output = client.bind(SPEC).infer({"IN_FP32": images()})["OUT_FP32"]
    assert isinstance(output, GpuArray)
    np.testing.assert_array_equal(output.numpy(), images())


def test_an_output_is_an_input_of_the_next_call(client: Client) -> None:
    model = client.bind(SPEC)
    first = model.infer({"IN_FP32": images(3)})["OUT_FP32"]
    np.testing.assert_array_equal(np.asarray(model.infer({"IN_FP32": first})["OUT_FP32"]), images(3))


def test_auto_gives_arrays_of_the_host(client: Client, gpu: CudaRuntime) -> None:
    tensor = Tensor(gpu, images())
    output = client.bind(SPEC).infer({"IN_FP32": tensor}, options=Options(shared_memory="auto"))["OUT_FP32"]
    assert type(output) is np.ndarray
    np.testing.assert_array_equal(output, images())
    tensor.free()


def test_a_server_that_came_back_learns_the_regions_again(gpu: CudaRuntime, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    write_models(repository)
    options: dict[str, Any] = {"model_control_mode": "explicit", "load_models": ["identity"]}
    with EmbeddedTriton(repository, **options) as first:
        client = Client(first.grpc_url, options=CUDA)
        client.bind(SPEC).infer({"IN_FP32": images()})
        port = int(first.grpc_url.rpartition(":")[2])
    with EmbeddedTriton(repository, grpc_port=port, **options), client:
        client.wait_ready("identity", timeout_s=30)
        output = client.bind(SPEC).infer({"IN_FP32": images(1)})["OUT_FP32"]
        np.testing.assert_array_equal(np.asarray(output), images(1))


def test_closing_leaves_arrays_valid(server: EmbeddedTriton) -> None:
    with Client(server.grpc_url, options=CUDA) as client:
        output = client.bind(SPEC).infer({"IN_FP32": images()})["OUT_FP32"]
    np.testing.assert_array_equal(np.asarray(output), images())


def test_pytorch_gives_and_takes_tensors_on_its_own_streams(client: Client) -> None:
    torch = pytest.importorskip("torch")
    model = client.bind(SPEC)
    with torch.cuda.stream(torch.cuda.Stream()):
        for seed in range(5):
            # Work that is still queued when infer is called, on a stream that no other waits for by itself.
            x = torch.rand(2000, 2000, device="cuda")
            for _ in range(20):
                x = (x @ x) / 1000
            tensor = x[:ROWS, :COLUMNS].contiguous() + seed
            output = torch.from_dlpack(model.infer({"IN_FP32": tensor})["OUT_FP32"])
            assert output.device == tensor.device
            assert torch.equal(output, tensor)
            # Dropped while work on it is queued: the next call waits for that before it writes there.
            (output * 2).sum()
            del output
    with pytest.raises(ValueError, match=r"it is not contiguous .*\.contiguous\(\)"):
        model.infer({"IN_FP32": torch.zeros(COLUMNS, ROWS, device="cuda").T})


def test_another_gpu_than_the_current_one_is_used_and_left_alone(client: Client, gpu: CudaRuntime) -> None:
    try:
        tensor = Tensor(gpu, images(), device_id=1)
    except CudaError as error:
        pytest.skip(f"there is one GPU: {error}")
    output = client.bind(SPEC).infer({"IN_FP32": tensor})["OUT_FP32"]
    assert isinstance(output, GpuArray)
    assert output.device_id == 1
    np.testing.assert_array_equal(output.numpy(), images())
    tensor.free()
