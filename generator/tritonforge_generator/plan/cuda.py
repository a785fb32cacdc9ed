"""The CUDA runtime through cuda-python: every call is checked, and memory is given back.

cuda-python 12 calls the module ``cuda.cudart``, 12.8 and later ``cuda.bindings.runtime``; the functions are the same.
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from tritonforge_client.extras import MissingExtraError
from tritonforge_generator.errors import PlanError, TensorRTMissingError


@cache
def cudart() -> Any:
    """The module with the CUDA runtime.

    Raises:
        MissingExtraError: cuda-python is not installed.
    """
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingExtraError("cuda", "tensorrt")


def call(function: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime.

    Args:
        function: Its name, for example ``cudaMalloc``.
        arguments: Its inputs; outputs are returned.

    Returns:
        Nothing, the one result, or a tuple of results.

    Raises:
        PlanError: The runtime answered with an error.
    """
    runtime = cudart()
    status, *results = getattr(runtime, function)(*arguments)
    if status != runtime.cudaError_t.cudaSuccess:
        name = getattr(status, "name", str(status))
        out_of_memory = "MemoryAllocation" in name
        raise PlanError(
            f"{function} failed on the GPU",
            got=name,
            action="Free GPU memory, or lower max_batch_size or the number of instances." if out_of_memory else "",
        )
    return results[0] if len(results) == 1 else (tuple(results) if results else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU.

    Attributes:
        device_id: CUDA's number of it.
        name: As the driver says it.
        compute_capability: For example ``9.0``.
        memory_bytes: All of its memory.
        driver_cuda_version: The newest CUDA that the driver serves, for example ``13.0``.
    """

    device_id: int
    name: str
    compute_capability: str
    memory_bytes: int
    driver_cuda_version: str


def gpu_from_device_id(device_id: int) -> Gpu:
    """Facts of a GPU.

    Raises:
        TensorRTMissingError: There is no driver or no such GPU.
    """
    try:
        count = int(call("cudaGetDeviceCount"))
        driver = int(call("cudaDriverGetVersion"))
    except (PlanError, RuntimeError) as error:  # cuda-python raises RuntimeError where there is no driver
        raise TensorRTMissingError(
            "no NVIDIA GPU can be used here",
            expected="an NVIDIA driver",
            got=str(error),
            action="Run on a GPU machine, or use platform: onnxruntime.",
        ) from error
    if not 0 <= device_id < count:
        raise TensorRTMissingError(
            f"GPU {device_id} does not exist", expected=f"0 to {count - 1}" if count else "a GPU", got=str(device_id)
        )
    properties = call("cudaGetDeviceProperties", device_id)
    name = properties.name
    return Gpu(
        device_id=device_id,
        name=(name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0"),
        compute_capability=f"{properties.major}.{properties.minor}",
        memory_bytes=int(properties.totalGlobalMem),
        driver_cuda_version=f"{driver // 1000}.{driver % 1000 // 10}",
    )


class _Owned:
    """Something of the CUDA runtime that is given back once."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class DeviceMemory(_Owned):
    """Memory of the current GPU.

    Args:
        size_bytes: Its size; at least one byte is taken, because TensorRT wants an address for empty tensors too.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.address = int(call("cudaMalloc", max(size_bytes, 1)))

    def close(self) -> None:
        """Give the memory back."""
        address, self.address = self.address, 0
        if address:
            call("cudaFree", address)


class PinnedMemory(_Owned):
    """Page-locked memory of the host, which the GPU copies to and from without help of the CPU.

    Args:
        size_bytes: Its size.
    """

    def __init__(self, size_bytes: int) -> None:
        self.address = int(call("cudaHostAlloc", max(size_bytes, 1), 0))
        self.bytes: npt.NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * size_bytes).from_address(self.address)
        )

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The first bytes as an array."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self.bytes[:size].view(dtype).reshape(shape)

    def close(self) -> None:
        """Give the memory back; no view of it may be used after that."""
        address, self.address = self.address, 0
        if address:
            call("cudaFreeHost", address)


class Stream(_Owned):
    """A queue of work on the current GPU that does not wait for the default stream."""

    def __init__(self) -> None:
        self.handle: Any = call("cudaStreamCreateWithFlags", cudart().cudaStreamNonBlocking)

    @property
    def address(self) -> int:
        """The handle as TensorRT takes it."""
        return int(self.handle)

    def to_device(self, address: int, host_address: int, size_bytes: int) -> None:
        """Queue a copy from the host."""
        kind = cudart().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", address, host_address, size_bytes, kind, self.handle)

    def to_host(self, host_address: int, address: int, size_bytes: int) -> None:
        """Queue a copy to the host."""
        kind = cudart().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", host_address, address, size_bytes, kind, self.handle)

    def copy(self, address: int, source_address: int, size_bytes: int) -> None:
        """Queue a copy; the addresses say from where to where."""
        call(
            "cudaMemcpyAsync",
            address,
            source_address,
            size_bytes,
            cudart().cudaMemcpyKind.cudaMemcpyDefault,
            self.handle,
        )

    def synchronize(self) -> None:
        """Wait until all queued work is done."""
        call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        """Give the stream back."""
        handle, self.handle = self.handle, None
        if handle is not None:
            call("cudaStreamDestroy", handle)


class Event(_Owned):
    """A mark in a stream, for timing on the GPU."""

    def __init__(self) -> None:
        self.handle = call("cudaEventCreate")

    def record(self, stream: Stream) -> None:
        """Set the mark behind what is queued."""
        call("cudaEventRecord", self.handle, stream.handle)

    def wait(self) -> None:
        """Wait until the stream has passed the mark."""
        call("cudaEventSynchronize", self.handle)

    def ms_since(self, earlier: Event) -> float:
        """Milliseconds between two marks that the stream has passed."""
        return float(call("cudaEventElapsedTime", earlier.handle, self.handle))

    def close(self) -> None:
        """Give the event back."""
        handle, self.handle = self.handle, None
        if handle is not None:
            call("cudaEventDestroy", handle)


class Graph(_Owned):
    """Work captured from a stream, launched again with one call.

    Args:
        stream: A stream that ``capture`` queues work on.
        capture: Queues the work; it may not synchronise or allocate.
    """

    def __init__(self, stream: Stream, capture: Any) -> None:
        runtime = cudart()
        call("cudaStreamBeginCapture", stream.handle, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            capture()
        finally:
            graph = call("cudaStreamEndCapture", stream.handle)
        self._executable = call("cudaGraphInstantiate", graph, 0)
        call("cudaGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        """Queue the work."""
        call("cudaGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        """Give the graph back."""
        executable, self._executable = self._executable, None
        if executable is not None:
            call("cudaGraphExecDestroy", executable)
