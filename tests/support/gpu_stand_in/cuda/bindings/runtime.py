"""Stand-in for the CUDA runtime on a machine without a GPU: put its folder first on ``sys.path``.

Streams run for real in threads of their own, so that work happens later than it is queued, as on a GPU: memory that is
given away too early shows. "Device" memory is the host's; a copy that leaves its allocation is refused as on a GPU.
"""

from __future__ import annotations

import ctypes
import enum
import queue
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

cudaStreamNonBlocking = 1
cudaHostRegisterDefault = 0


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorIllegalAddress = 700


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


SUCCESS = (cudaError_t.cudaSuccess,)
INVALID = (cudaError_t.cudaErrorInvalidValue, 0)
Work = Callable[[], None]
allocations: dict[int, Any] = {}
streams: dict[int, Stream] = {}
registered: dict[int, int] = {}


class Stream:
    """A queue of work with a thread that does it."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Work | None] = queue.Queue()
        self.captured: list[Work] | None = None
        self.status = cudaError_t.cudaSuccess
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, work: Work) -> None:
        if self.captured is None:
            self.queue.put(work)
        else:
            self.captured.append(work)

    def _run(self) -> None:
        while (work := self.queue.get()) is not None:
            try:
                work()
            except FloatingPointError:
                self.status = cudaError_t.cudaErrorIllegalAddress
            finally:
                self.queue.task_done()
        self.queue.task_done()

    def __int__(self) -> int:
        return id(self)


def _within(address: int, size_bytes: int) -> bool:
    return any(
        start <= address and address + size_bytes <= start + len(memory) for start, memory in allocations.items()
    )


def _allocate(size_bytes: int) -> tuple[cudaError_t, int]:
    memory = (ctypes.c_uint8 * size_bytes)()
    address = ctypes.addressof(memory)
    allocations[address] = memory
    return cudaError_t.cudaSuccess, address


def _free(address: int) -> tuple[cudaError_t]:
    return SUCCESS if allocations.pop(address, None) is not None else (cudaError_t.cudaErrorInvalidValue,)


def cudaMalloc(size_bytes: int) -> tuple[cudaError_t, int]:
    return _allocate(size_bytes)


def cudaFree(address: int) -> tuple[cudaError_t]:
    return _free(address)


def cudaHostAlloc(size_bytes: int, flags: int) -> tuple[cudaError_t, int]:
    return _allocate(size_bytes)


def cudaFreeHost(address: int) -> tuple[cudaError_t]:
    return _free(address)


def cudaHostRegister(address: int, size_bytes: int, flags: int) -> tuple[cudaError_t]:
    if address % 4096 or address in registered:
        return (cudaError_t.cudaErrorInvalidValue,)
    registered[address] = size_bytes
    return SUCCESS


def cudaHostUnregister(address: int) -> tuple[cudaError_t]:
    return SUCCESS if registered.pop(address, None) is not None else (cudaError_t.cudaErrorInvalidValue,)


def cudaGetDeviceCount() -> tuple[cudaError_t, int]:
    return cudaError_t.cudaSuccess, 1


def cudaDriverGetVersion() -> tuple[cudaError_t, int]:
    return cudaError_t.cudaSuccess, 13000


def cudaGetDeviceProperties(device_id: int) -> tuple[cudaError_t, Any]:
    return cudaError_t.cudaSuccess, SimpleNamespace(name=b"stand-in", major=9, minor=0, totalGlobalMem=1 << 30)


def cudaSetDevice(device_id: int) -> tuple[cudaError_t]:
    return SUCCESS if device_id == 0 else (cudaError_t.cudaErrorInvalidValue,)


def cudaStreamCreateWithFlags(flags: int) -> tuple[cudaError_t, Stream]:
    stream = Stream()
    streams[int(stream)] = stream
    return cudaError_t.cudaSuccess, stream


def cudaStreamDestroy(stream: Stream) -> tuple[cudaError_t]:
    stream.queue.put(None)
    del streams[int(stream)]
    return SUCCESS


def cudaStreamSynchronize(stream: Stream) -> tuple[cudaError_t]:
    stream.queue.join()
    status, stream.status = stream.status, cudaError_t.cudaSuccess
    return (status,)


def cudaMemcpyAsync(target: int, source: int, size_bytes: int, kind: int, stream: Stream) -> tuple[cudaError_t]:
    """One end at least is an allocation; the other may be any memory of the host."""
    ends = {
        cudaMemcpyKind.cudaMemcpyHostToDevice: [target],
        cudaMemcpyKind.cudaMemcpyDeviceToHost: [target, source],
        cudaMemcpyKind.cudaMemcpyDefault: [target],
    }[cudaMemcpyKind(kind)]
    if not all(_within(end, size_bytes) for end in ends):
        return (cudaError_t.cudaErrorInvalidValue,)
    pinned = (*registered.items(), *((start, len(memory)) for start, memory in allocations.items()))
    if not any(start <= source and source + size_bytes <= start + length for start, length in pinned):
        print("stand-in CUDA: a copy from memory that is not pinned", flush=True)
    stream.put(lambda: (ctypes.memmove(target, source, size_bytes), None)[1])
    return SUCCESS


def cudaStreamBeginCapture(stream: Stream, mode: cudaStreamCaptureMode) -> tuple[cudaError_t]:
    stream.captured = []
    return SUCCESS


def cudaStreamEndCapture(stream: Stream) -> tuple[cudaError_t, list[Work]]:
    captured, stream.captured = stream.captured or [], None
    return cudaError_t.cudaSuccess, captured


def cudaGraphInstantiate(graph: list[Work], flags: int) -> tuple[cudaError_t, list[Work]]:
    return cudaError_t.cudaSuccess, list(graph)


def cudaGraphDestroy(graph: list[Work]) -> tuple[cudaError_t]:
    graph.clear()
    return SUCCESS


def cudaGraphExecDestroy(executable: list[Work]) -> tuple[cudaError_t]:
    executable.clear()
    return SUCCESS


def cudaGraphLaunch(executable: list[Work], stream: Stream) -> tuple[cudaError_t]:
    for work in executable:
        stream.put(work)
    return SUCCESS


class Mark:
    """An event: the moment at which a stream came by."""

    def __init__(self) -> None:
        self.at_s = 0.0
        self.passed = threading.Event()

    def set(self) -> None:
        self.at_s = time.perf_counter()
        self.passed.set()


def cudaEventCreate() -> tuple[cudaError_t, Mark]:
    return cudaError_t.cudaSuccess, Mark()


def cudaEventRecord(event: Mark, stream: Stream) -> tuple[cudaError_t]:
    event.passed.clear()
    stream.put(event.set)
    return SUCCESS


def cudaEventSynchronize(event: Mark) -> tuple[cudaError_t]:
    event.passed.wait()
    return SUCCESS


def cudaEventElapsedTime(start: Mark, end: Mark) -> tuple[cudaError_t, float]:
    return cudaError_t.cudaSuccess, (end.at_s - start.at_s) * 1e3


def cudaEventDestroy(event: Mark) -> tuple[cudaError_t]:
    return SUCCESS
