"""The CUDA runtime through cuda-python.

It is called ``cuda.bindings.runtime`` there, and ``cuda.cudart`` in older versions; the functions are the same.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from tritonforge_client.core.cuda import CudaError, CudaRuntime
from tritonforge_client.extras import MissingExtraError, require_extra

_HANDLE_BYTES: Final = 64  # CUDA_IPC_HANDLE_SIZE


@cache
def cuda_runtime() -> CudaRuntime:
    """The CUDA runtime of this process.

    Raises:
        MissingExtraError: cuda-python is not installed.
    """
    try:
        return CudaPython(require_extra("cuda.bindings.runtime", "cuda"))
    except MissingExtraError as missing:
        try:
            return CudaPython(importlib.import_module("cuda.cudart"))
        except ModuleNotFoundError:
            raise missing from None


class CudaPython:
    """``CudaRuntime`` by cuda-python.

    Args:
        module: Its module with the runtime.
    """

    def __init__(self, module: Any) -> None:
        self._cuda = module

    @contextmanager
    def on(self, device_id: int) -> Iterator[None]:
        """Make a GPU the current one of this thread for a while."""
        before = self._call("cudaGetDevice")
        if before == device_id:
            yield
            return
        self._call("cudaSetDevice", device_id)
        try:
            yield
        finally:
            self._call("cudaSetDevice", before)

    def allocate(self, device_id: int, size_bytes: int) -> int:
        """Take memory of a GPU, and return its address."""
        with self.on(device_id):
            return int(self._call("cudaMalloc", size_bytes))

    def free(self, device_id: int, address: int) -> None:
        """Give memory of a GPU back."""
        with self.on(device_id):
            self._call("cudaFree", address)

    def ipc_handle(self, device_id: int, address: int) -> bytes:
        """The handle by which another process opens what ``allocate`` returned."""
        with self.on(device_id):
            handle = self._call("cudaIpcGetMemHandle", address)
        # Its bytes are an attribute in some versions only; where they lie is one in all.
        return ctypes.string_at(handle.getPtr(), _HANDLE_BYTES)

    def copy(self, device_id: int, address: int, source_address: int, size_bytes: int) -> None:
        """Queue a copy; both addresses may be of any GPU or of the host."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDefault
        with self.on(device_id):
            self._call("cudaMemcpyAsync", address, source_address, size_bytes, kind, self._cuda.cudaStreamLegacy)

    def synchronize(self, device_id: int) -> None:
        """Wait until the copies that were queued are done."""
        with self.on(device_id):
            self._call("cudaStreamSynchronize", self._cuda.cudaStreamLegacy)

    def drain(self, device_id: int) -> None:
        """Wait for all work of this process on a GPU, on every stream."""
        with self.on(device_id):
            self._call("cudaDeviceSynchronize")

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            status, *results = getattr(self._cuda, function)(*arguments)
        except RuntimeError as error:  # where there is no driver, before 12.9
            raise CudaError(f"{function}: {error}") from error
        if status != self._cuda.cudaError_t.cudaSuccess:
            _, text = self._cuda.cudaGetErrorString(status)
            raise CudaError(f"{function}: {text.decode()}")
        return results[0] if results else None
