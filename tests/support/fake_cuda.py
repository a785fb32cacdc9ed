"""GPUs that are memory of this process, tensors that say they lie on one, and a server that opens their regions."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.call import Call
from tritonforge_client.core.cuda import CudaError
from tritonforge_client.core.request import InferReply, InferRequest, InputTensor, PlacedTensor, Region
from tritonforge_client.core.tensor import array_from_raw
from tritonforge_client.datatypes import datatype_from_dtype
from tritonforge_client.errors import ServerError, TritonError
from tritonforge_client.testing.dialect import FakeDialect, Question

Copy: TypeAlias = tuple[int, int, int]


class FakeCuda:
    """``CudaRuntime`` whose copies happen when somebody waits for them, as late as CUDA may do them."""

    def __init__(self, *, room_bytes: int = 1 << 30) -> None:
        self.current = 0
        self.room_bytes = room_bytes
        self.live: dict[int, tuple[int, NDArray[np.uint8]]] = {}
        self.freed: list[int] = []
        self.queued: dict[int, list[Copy]] = {}
        self.copies: list[Copy] = []
        self.drained: list[int] = []
        self.has_ipc = True

    @contextmanager
    def on(self, device_id: int) -> Iterator[None]:
        before, self.current = self.current, device_id
        try:
            yield
        finally:
            self.current = before

    def allocate(self, device_id: int, size_bytes: int) -> int:
        if sum(memory.size for _, memory in self.live.values()) + size_bytes > self.room_bytes:
            raise CudaError("cudaMalloc: out of memory")
        memory = np.zeros(size_bytes, np.uint8)
        address = memory.ctypes.data
        self.live[address] = (device_id, memory)
        return address

    def free(self, device_id: int, address: int) -> None:
        if self.live[address][0] != device_id:
            raise CudaError("cudaFree: invalid argument")
        del self.live[address]
        self.freed.append(address)

    def ipc_handle(self, device_id: int, address: int) -> bytes:
        if not self.has_ipc or self.live[address][0] != device_id:
            raise CudaError("cudaIpcGetMemHandle: operation not supported")
        return struct.pack("Q56x", address)

    def copy(self, device_id: int, address: int, source_address: int, size_bytes: int) -> None:
        self.queued.setdefault(device_id, []).append((address, source_address, size_bytes))

    def synchronize(self, device_id: int) -> None:
        for address, source, size_bytes in self.queued.pop(device_id, []):
            ctypes.memmove(address, source, size_bytes)
            self.copies.append((address, source, size_bytes))

    def drain(self, device_id: int) -> None:
        self.synchronize(device_id)
        self.drained.append(device_id)


class GpuTensor:
    """A tensor of another library on a GPU of ``FakeCuda``: DLPack, as PyTorch speaks it, and nothing else."""

    def __init__(self, array: NDArray[Any], device_id: int = 0, cuda: FakeCuda | None = None) -> None:
        self.array = array
        self.asked: list[dict[str, Any]] = []
        self._device_id = device_id
        self._cuda = cuda

    def __dlpack__(
        self, *, stream: Any = -1, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        if self._cuda is not None and self._cuda.current != self._device_id:
            raise BufferError("Can't export tensors on a different CUDA device index.")
        self.asked.append({"stream": stream, "max_version": max_version})
        return on_device(self.array.__dlpack__(), 2, self._device_id)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._device_id


def on_device(capsule: Any, kind: int, device_id: int) -> Any:
    """Write another device into a capsule: the two numbers after the data pointer."""
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi),
    )
    address = get_pointer(capsule, b"dltensor")
    (ctypes.c_int32 * 2).from_address(address + ctypes.sizeof(ctypes.c_void_p))[:] = [kind, device_id]
    return capsule


class CudaServer:
    """A transport to a server in this process that opens regions of ``FakeCuda``, and answers ``y = x`` for each input.

    Attributes:
        requests: Every inference request, the oldest first.
        questions: Everything else that was asked, the oldest first.
        refusal: What every question ends with; ``None`` lets regions be opened.
        failures: What the next inferences end with, one each, after the inputs were read.
    """

    endpoint = "fake"

    def __init__(self, cuda: FakeCuda) -> None:
        self.dialect = FakeDialect()
        self.requests: list[InferRequest] = []
        self.questions: list[Question] = []
        self.inputs: list[dict[str, NDArray[Any]]] = []
        self.refusal: TritonError | None = None
        self.failures: list[TritonError] = []
        self._cuda = cuda
        self._regions: dict[str, NDArray[np.uint8]] = {}

    def restart(self) -> None:
        """Lose all regions."""
        self._regions.clear()

    def send(self, request: Any, call: Call) -> Any:
        if isinstance(request, InferRequest):
            return self._infer(request, call)
        self.questions.append(request)
        if self.refusal is not None:
            raise self.refusal
        if request.operation.startswith("register"):
            self._register(request)
        elif request.operation.startswith("unregister"):
            self._regions.pop(request.arguments["name"], None)
        return None

    def stream(self, request: Any, call: Call) -> Iterator[Any]:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def _register(self, question: Question) -> None:
        (address,) = struct.unpack("Q56x", question.arguments["handle"])
        device_id, memory = self._cuda.live[address]
        assert (device_id, memory.size) == (question.arguments["device_id"], question.arguments["byte_size"])
        self._regions[question.arguments["name"]] = memory

    def _infer(self, request: InferRequest, call: Call) -> InferReply:
        self.requests.append(request)
        assert not any(self._cuda.queued.values()), "sent before its inputs were copied"
        inputs = {tensor.name: self._read(tensor, call) for tensor in request.inputs}
        self.inputs.append(inputs)
        if self.failures:
            raise self.failures.pop(0)
        regions = {one.name: one.region for one in request.outputs}
        outputs: dict[str, NDArray[Any]] = {}
        placed: dict[str, PlacedTensor] = {}
        for name, array in inputs.items():
            output = name.replace("x", "y", 1)
            region = regions.get(output)
            if region is None:
                outputs[output] = array
            else:
                self._part(region, call)[: array.nbytes] = array.reshape(-1).view(np.uint8)
                placed[output] = PlacedTensor(datatype_from_dtype(array.dtype).datatype, array.shape)
        return InferReply(model=request.model, version="1", request_id="", outputs=outputs, placed=placed)

    def _read(self, tensor: InputTensor, call: Call) -> NDArray[Any]:
        data = tensor.data if tensor.region is None else self._part(tensor.region, call)
        return array_from_raw(tensor.name, tensor.datatype, tensor.shape, memoryview(bytes(data)))

    def _part(self, region: Region, call: Call) -> NDArray[np.uint8]:
        memory = self._regions.get(region.name)
        if memory is None:
            message = f"Unable to find shared memory region: '{region.name}'"
            raise ServerError(message, **call.error_context(message))
        return memory[region.offset : region.offset + region.byte_size]


class AsyncCudaServer(CudaServer):
    """The same for ``AsyncClient``."""

    async def send(self, request: Any, call: Call) -> Any:
        return super().send(request, call)

    async def close(self) -> None:  # type: ignore[override]
        pass


def questions_of(server: CudaServer) -> list[str]:
    """The operations that a server was asked for."""
    return [question.operation for question in server.questions]


def regions_of(request: InferRequest) -> Mapping[str, Region | None]:
    """By tensor, where a request places it."""
    places = {tensor.name: tensor.region for tensor in request.inputs}
    return places | {tensor.name: tensor.region for tensor in request.outputs}
