"""Tensors on a GPU, with memory of this process in place of GPUs: what is copied where, and how long it is kept."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from support.blocking import BlockingClient
from support.fake_cuda import AsyncCudaServer, CudaServer, FakeCuda, GpuTensor, questions_of, regions_of
from support.fakes import AT_ONCE

from tritonforge_client import (
    Client,
    ConnectionFailed,
    GpuArray,
    InvalidInput,
    MissingExtraError,
    ModelSpec,
    Options,
    ServerError,
    TensorSpec,
)
from tritonforge_client.core.grpc_dialect import GrpcDialect
from tritonforge_client.core.http_dialect import HttpDialect
from tritonforge_client.core.request import Inputs

CUDA = Options(shared_memory="cuda", retry=None)
AUTO = Options(shared_memory="auto", retry=None)
COLUMNS = 20_000
SPEC = ModelSpec(
    name="m",
    inputs=(TensorSpec(name="x", datatype="FP32", dims=(COLUMNS,)),),
    outputs=(TensorSpec(name="y", datatype="FP32", dims=(COLUMNS,)),),
    max_batch_size=4,
)
MIB_2 = 1 << 21


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for module in ("check", "shared"):
        monkeypatch.setattr(f"tritonforge_client.core.{module}.cuda_runtime", lambda: fake)
    return fake


@pytest.fixture(params=["blocking", "async"])
def pair(request: pytest.FixtureRequest, cuda: FakeCuda) -> Iterator[tuple[Client, CudaServer]]:
    """A client of each kind and a server that shares GPUs with it."""
    if request.param == "blocking":
        server = CudaServer(cuda)
        client = Client("fake", transport=server, options=CUDA)
    else:
        server = AsyncCudaServer(cuda)
        client = cast("Client", BlockingClient("fake", transport=server, options=CUDA))
    with client:
        yield client, server


def rows(count: int = 2, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, COLUMNS), dtype=np.float32)


def on_gpu(array: object) -> GpuArray:
    assert isinstance(array, GpuArray)
    return array


# ---- inputs ----


def test_an_input_on_a_gpu_goes_there_by_a_region_alone(pair: tuple[Client, CudaServer], cuda: FakeCuda) -> None:
    client, server = pair
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    tensor = GpuTensor(array, device_id=1, cuda=cuda)
    np.testing.assert_array_equal(client.infer("m", {"x": tensor}).value["y"], array)
    (sent,) = server.requests[0].inputs
    assert (sent.datatype, sent.shape, bytes(sent.data)) == ("FP16", (2, 3), b"")
    assert sent.region is not None
    assert sent.region.parameters == {"shared_memory_region": sent.region.name, "shared_memory_byte_size": 12}
    # One copy, from where the tensor lies, ready for the legacy stream on which it runs.
    assert [(source, size_bytes) for _, source, size_bytes in cuda.copies] == [(array.ctypes.data, 12)]
    assert tensor.asked == [{"stream": 1, "max_version": (1, 0)}]
    (question,) = server.questions
    assert question.operation == "register_cuda_shared_memory"
    assert (question.arguments["device_id"], question.arguments["byte_size"]) == (1, MIB_2)
    assert cuda.current == 0


@pytest.mark.parametrize("dialect", [GrpcDialect(), HttpDialect()], ids=["grpc", "http"])
def test_nothing_of_it_is_on_the_wire(cuda: FakeCuda, dialect: Any) -> None:
    server = CudaServer(cuda)
    with Client("fake", transport=server, options=CUDA) as client:
        client.infer("m", {"x": GpuTensor(np.full((64, 64), 7, np.uint8))})
    request = dialect.infer(server.requests[0]).request
    message = b"".join(map(bytes, request.body))
    assert len(message) < 400
    assert b"shared_memory_region" in message
    assert bytes([7] * 8) not in message


def test_several_inputs_share_a_region_and_each_gpu_has_its_own(
    pair: tuple[Client, CudaServer], cuda: FakeCuda
) -> None:
    client, server = pair
    arrays = {"x0": np.arange(5, dtype=np.int32), "x1": rows(), "x2": np.ones((3, 3), np.bool_)}
    inputs = {name: GpuTensor(array, device_id=int(name == "x2"), cuda=cuda) for name, array in arrays.items()}
    for _ in range(2):
        outputs = client.infer("m", inputs).value
        for name, array in arrays.items():
            np.testing.assert_array_equal(outputs[name.replace("x", "y")], array)
    places = [regions_of(request) for request in server.requests]
    regions = [region for region in places[0].values() if region is not None]
    assert places[0] == places[1]
    assert regions[0].name == regions[1].name != regions[2].name
    assert [region.offset for region in regions] == [0, 64, 0]
    assert [question.arguments["device_id"] for question in server.questions] == [0, 1]


def test_large_inputs_of_the_host_go_along_and_strings_stay_on_the_wire(
    pair: tuple[Client, CudaServer], cuda: FakeCuda
) -> None:
    client, server = pair
    large, small = rows(), np.ones(4, np.float32)
    words = np.array([b"w" * 80_000], np.object_)
    client.infer("m", {"x0": large, "x1": small, "x2": GpuTensor(small, device_id=1, cuda=cuda), "x3": words})
    places = regions_of(server.requests[0])
    assert {name for name, region in places.items() if region is not None} == {"x0", "x2"}
    np.testing.assert_array_equal(server.inputs[0]["x0"], large)
    # Beside the input that lies on a GPU.
    assert [question.arguments["device_id"] for question in server.questions] == [1]


def test_a_tensor_of_no_elements_goes_over_the_wire(pair: tuple[Client, CudaServer]) -> None:
    client, server = pair
    assert client.infer("m", {"x": GpuTensor(np.zeros((0, 3), np.float32))}).value["y"].shape == (0, 3)
    assert server.questions == []


def test_inputs_are_checked_as_those_of_the_host_are(pair: tuple[Client, CudaServer]) -> None:
    model = pair[0].bind(SPEC)
    for array, text in (
        (rows().astype(np.float16), rf"got FP16 \(2, {COLUMNS}\) on GPU 0\. Cast it to float32 on the GPU first"),
        (rows()[0], r"got FP32 \(20000,\) on GPU 0\. Add the batch dimension with x\[np\.newaxis\]"),
        (rows(5), "batch 5 is over max_batch_size 4"),
    ):
        with pytest.raises(InvalidInput, match=text):
            model.infer({"x": GpuTensor(array)})
    assert pair[1].requests == []


def test_what_is_not_contiguous_is_refused_with_what_to_do(pair: tuple[Client, CudaServer]) -> None:
    text = r"input x: expected an array, got GpuTensor: it is not contiguous .*strides \[1, 2\]\); .* \.contiguous\(\)"
    with pytest.raises(InvalidInput, match=text):
        pair[0].infer("m", {"x": GpuTensor(np.zeros((3, 2), np.float32).T)})


def test_what_a_library_cannot_share_is_refused_in_its_words(pair: tuple[Client, CudaServer]) -> None:
    class Graded(GpuTensor):
        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")

    with pytest.raises(InvalidInput, match=r"input x: .* use tensor\.detach\(\)"):
        pair[0].infer("m", {"x": Graded(rows())})


@pytest.mark.parametrize("use", ["off", "system"])
def test_without_the_option_a_gpu_is_refused(pair: tuple[Client, CudaServer], use: Any) -> None:
    text = r"expected an array of the host, got GpuArray\(FP32 \[3\] on GPU 0\)\. Copy it .*shared_memory=\"cuda\""
    with pytest.raises(InvalidInput, match=text):
        pair[0].infer("m", {"x": GpuTensor(np.zeros(3, np.float32))}, options=Options(shared_memory=use))
    assert pair[1].requests == []


def test_streams_take_arrays_of_the_host(pair: tuple[Client, CudaServer]) -> None:
    with pytest.raises(InvalidInput, match=r"expected an array of the host, .*but for a stream"):
        list(pair[0].bind(SPEC).stream({"x": GpuTensor(rows())}))


def test_prepared_requests_take_arrays_of_the_host(pair: tuple[Client, CudaServer]) -> None:
    with pytest.raises(InvalidInput, match=r"expected an array of the host, .*or a prepared request"):
        pair[0].bind(SPEC).prepare({"x": GpuTensor(rows())}, options=Options())


def test_a_tensor_typed_as_pytorch_types_its_own_is_an_input() -> None:
    """For mypy and pyright: the signature is that of torch 2.11."""
    inputs: Inputs = {"x": GpuTensor(rows())}
    assert list(inputs) == ["x"]


# ---- outputs ----


def test_outputs_of_a_known_size_come_back_on_the_gpu(pair: tuple[Client, CudaServer], cuda: FakeCuda) -> None:
    client, server = pair
    array = rows()
    value = client.bind(SPEC).infer({"x": GpuTensor(array, device_id=1, cuda=cuda)})["y"]
    copied = len(cuda.copies)
    output = on_gpu(value)
    assert (output.shape, output.datatype, output.device_id) == ((2, COLUMNS), "FP32", 1)
    assert output.dtype == np.float32
    assert (output.nbytes, output.ndim, len(output)) == (array.nbytes, 2, 2)
    assert repr(output) == "GpuArray(FP32 [2, 20000] on GPU 1)"
    assert copied == 1
    region = regions_of(server.requests[0])["y"]
    assert region is not None
    assert region.byte_size == array.nbytes
    np.testing.assert_array_equal(output.numpy(), array)
    np.testing.assert_array_equal(np.asarray(value), array)
    assert np.asarray(value, np.float64).dtype == np.float64
    assert [size_bytes for _, _, size_bytes in cuda.copies[copied:]] == [array.nbytes] * 3


def of_dims(size: int) -> ModelSpec:
    return ModelSpec(
        name="m",
        inputs=(TensorSpec(name="x", datatype="FP32", dims=(size,)),),
        outputs=(TensorSpec(name="y", datatype="FP32", dims=(size,)),),
    )


def test_the_spec_alone_says_which_outputs_come_back_there(pair: tuple[Client, CudaServer]) -> None:
    client, _ = pair
    for count in (3, COLUMNS):
        array = rows(1)[0, :count].copy()
        for dims, kind in ((count, GpuArray), (-1, np.ndarray)):
            output = client.bind(of_dims(dims)).infer({"x": GpuTensor(array)})["y"]
            assert type(output) is kind
            np.testing.assert_array_equal(np.asarray(output), array)


def test_an_output_is_an_input_of_the_next_model(pair: tuple[Client, CudaServer], cuda: FakeCuda) -> None:
    client, server = pair
    array = rows()
    model = client.bind(SPEC)
    first = on_gpu(model.infer({"x": GpuTensor(array)})["y"])
    second = on_gpu(model.infer({"x": first})["y"])
    assert cuda.copies[-1][1] == first.address
    np.testing.assert_array_equal(second.numpy(), array)
    assert len(server.requests) == 2


def test_one_row_and_many_go_too(pair: tuple[Client, CudaServer], cuda: FakeCuda) -> None:
    client, server = pair
    model = client.bind(SPEC)
    array = rows(9)
    one = on_gpu(model.infer_one({"x": GpuTensor(array[3])})["y"])
    assert one.shape == (COLUMNS,)
    np.testing.assert_array_equal(one.numpy(), array[3])
    results = list(model.map([{"x": GpuTensor(array)}, {"x": GpuTensor(array[:2])}], concurrency=1))
    # The pieces of a batch that was split are joined on the host.
    assert [type(result["y"]) for result in results] == [np.ndarray, GpuArray]
    np.testing.assert_array_equal(results[0]["y"], array)
    assert [request.inputs[0].shape[0] for request in server.requests] == [1, 4, 4, 1, 2]


def test_writable_copies_and_arrays_on_a_gpu_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match="writable: expected False with shared_memory='cuda'"):
        Options(shared_memory="cuda", writable=True)


# ---- how long memory is kept ----


def test_memory_is_not_used_again_while_anything_made_of_it_lives(
    pair: tuple[Client, CudaServer], cuda: FakeCuda
) -> None:
    client, server = pair
    model = client.bind(SPEC)

    def infer(seed: int) -> GpuArray:
        return on_gpu(model.infer({"x": GpuTensor(rows(seed=seed))})["y"])

    part = infer(0)[1]
    capsule = infer(1).__dlpack__()
    gc.collect()
    infer(2)
    np.testing.assert_array_equal(part.numpy(), rows(seed=0)[1])
    names = [regions_of(request)["y"] for request in server.requests]
    assert len({region.name for region in names if region is not None}) == 3
    assert cuda.drained == []
    del part, capsule
    gc.collect()
    infer(3)
    # Others may have queued work for what they held: it is done before a server writes there.
    assert set(cuda.drained) == {0}
    assert len(cuda.live) == 4


def test_closing_frees_what_nobody_holds_and_the_rest_when_it_is_let_go(cuda: FakeCuda) -> None:
    server = CudaServer(cuda)
    array = rows()
    with Client("fake", transport=server, options=CUDA) as client:
        output = on_gpu(client.bind(SPEC).infer({"x": GpuTensor(array)})["y"])
    assert questions_of(server)[2:] == ["unregister_cuda_shared_memory"] * 2
    assert len(cuda.live) == 1
    np.testing.assert_array_equal(output.numpy(), array)
    del output
    gc.collect()
    assert cuda.live == {}


def test_memory_that_a_server_may_still_have_open_is_kept(cuda: FakeCuda) -> None:
    server = CudaServer(cuda)
    client = Client("fake", transport=server, options=CUDA)
    client.infer("m", {"x": GpuTensor(rows())})
    server.refusal = ConnectionFailed("gone", endpoint="fake")
    client.close()
    assert len(cuda.live) == 1


def test_a_fork_frees_nothing_of_its_parent(cuda: FakeCuda) -> None:
    server = CudaServer(cuda)
    with Client("fake", transport=server, options=CUDA) as client:
        output = on_gpu(client.bind(SPEC).infer({"x": GpuTensor(rows())})["y"])
    child = os.fork()
    if child == 0:
        before = list(cuda.freed)
        del output
        gc.collect()
        os._exit(0 if cuda.freed == before else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(cuda.live) == 1


def test_a_request_that_was_given_up_leaves_its_memory_alone(pair: tuple[Client, CudaServer], cuda: FakeCuda) -> None:
    client, server = pair
    server.failures = [ConnectionFailed("broken", endpoint="fake")] * 2
    for count in (1, 2):
        with pytest.raises(ConnectionFailed):
            client.infer("m", {"x": GpuTensor(rows())})
        assert len(cuda.live) == count


def test_a_request_that_was_refused_gives_its_memory_back(pair: tuple[Client, CudaServer], cuda: FakeCuda) -> None:
    client, server = pair
    server.failures = [ServerError("no", server_message="no")] * 3
    for _ in range(3):
        with pytest.raises(ServerError):
            client.infer("m", {"x": GpuTensor(rows())})
    assert len(cuda.live) == 1


def test_an_attempt_before_a_restart_counts_as_given_up_too(pair: tuple[Client, CudaServer], cuda: FakeCuda) -> None:
    client, server = pair
    broken = ConnectionFailed("broken", endpoint="fake")
    lost = "Unable to find shared memory region: 'r'"
    for before, count in (([broken], 1), ([], 2), ([], 2)):
        server.failures = [*before, ServerError(lost, server_message=lost, attempts=1 + len(before))]
        client.infer("m", {"x": GpuTensor(rows())}, options=Options(shared_memory="cuda", retry=AT_ONCE))
        assert len(cuda.live) == count


def test_a_server_that_is_down_costs_no_memory(pair: tuple[Client, CudaServer], cuda: FakeCuda) -> None:
    """No request went out that names the region, so that nobody can write there."""
    client, server = pair
    server.refusal = ConnectionFailed("refused", endpoint="fake")
    for _ in range(3):
        with pytest.raises(ConnectionFailed):
            client.infer("m", {"x": GpuTensor(rows())})
    assert len(cuda.live) == 1


# ---- servers ----


def test_a_server_that_came_back_learns_the_regions_again(pair: tuple[Client, CudaServer]) -> None:
    client, server = pair
    model = client.bind(SPEC)
    for seed in range(2):
        output = on_gpu(model.infer({"x": GpuTensor(rows(seed=seed))})["y"])
        np.testing.assert_array_equal(output.numpy(), rows(seed=seed))
        del output
        gc.collect()
        server.restart()
    assert questions_of(server) == ["register_cuda_shared_memory"] * 4


def test_a_server_that_cannot_open_a_region_is_an_error_with_cuda(
    pair: tuple[Client, CudaServer], cuda: FakeCuda
) -> None:
    client, server = pair
    server.refusal = ServerError("failed to open CUDA IPC handle", server_message="failed to open CUDA IPC handle")
    for _ in range(2):
        with pytest.raises(ServerError, match="failed to open CUDA IPC handle"):
            client.infer("m", {"x": GpuTensor(rows())})
    assert server.requests == []
    assert len(cuda.live) == 1


def test_a_server_that_cannot_open_a_region_is_a_warning_with_auto(pair: tuple[Client, CudaServer]) -> None:
    client, server = pair
    server.refusal = ServerError("failed to open CUDA IPC handle", server_message="failed to open CUDA IPC handle")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(3):
            array = rows(seed=seed)
            np.testing.assert_array_equal(client.infer("m", {"x": GpuTensor(array)}, options=AUTO).value["y"], array)
    (warning,) = caught
    assert str(warning.message).endswith("fake cannot open a region of GPU 0: failed to open CUDA IPC handle")
    assert questions_of(server) == ["register_cuda_shared_memory"]
    assert regions_of(server.requests[-1]) == {"x": None}


def test_auto_takes_inputs_on_a_gpu_and_gives_arrays_of_the_host(pair: tuple[Client, CudaServer]) -> None:
    client, server = pair
    output = client.bind(of_dims(4)).infer({"x": GpuTensor(np.ones(4, np.float32))}, options=AUTO)["y"]
    assert isinstance(output, np.ndarray)
    assert output.tolist() == [1] * 4
    assert regions_of(server.requests[0])["x"] is not None


@pytest.mark.parametrize("fault", ["room", "ipc"])
def test_a_gpu_that_gives_no_region_is_an_error_or_a_warning(
    pair: tuple[Client, CudaServer], cuda: FakeCuda, fault: str
) -> None:
    client, server = pair
    cuda.room_bytes, cuda.has_ipc = (0, True) if fault == "room" else (1 << 30, False)
    said = "cudaMalloc: out of memory" if fault == "room" else "cudaIpcGetMemHandle: operation not supported"
    with pytest.raises(ServerError, match=f"no shared memory can be made: {said}"):
        client.infer("m", {"x": GpuTensor(rows())})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.infer("m", {"x": GpuTensor(rows())}, options=AUTO)
    assert [one.category for one in caught] == [RuntimeWarning]
    assert said in str(caught[0].message)
    np.testing.assert_array_equal(server.inputs[0]["x"], rows())
    assert cuda.live == {}


def test_cuda_without_cuda_python_says_what_to_install(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingExtraError("cuda.bindings.runtime", "cuda")

    monkeypatch.setattr("tritonforge_client.core.shared.cuda_runtime", missing)
    server = CudaServer(cuda)
    with (
        Client("fake", transport=server, options=CUDA) as client,
        pytest.raises(InvalidInput, match=r"shared_memory: .*pip install 'tritonforge\[cuda\]'"),
    ):
        client.infer("m", {"x": rows()})
