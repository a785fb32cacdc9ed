"""What the client asks of CUDA: few calls, so that tests need no GPU. ``cuda_python`` does them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class CudaError(OSError):
    """A call of the CUDA runtime failed."""


class CudaRuntime(Protocol):
    """The CUDA runtime of this process. Every method may raise ``CudaError``.

    Copies run on the legacy default stream of a GPU, one after the other.
    """

    def on(self, device_id: int) -> AbstractContextManager[None]:
        """Make a GPU the current one of this thread for a while."""
        ...

    def allocate(self, device_id: int, size_bytes: int) -> int:
        """Take memory of a GPU, and return its address."""
        ...

    def free(self, device_id: int, address: int) -> None:
        """Give memory of a GPU back."""
        ...

    def ipc_handle(self, device_id: int, address: int) -> bytes:
        """The handle by which another process opens what ``allocate`` returned."""
        ...

    def copy(self, device_id: int, address: int, source_address: int, size_bytes: int) -> None:
        """Queue a copy; both addresses may be of any GPU or of the host."""
        ...

    def synchronize(self, device_id: int) -> None:
        """Wait until the copies that were queued are done."""
        ...

    def drain(self, device_id: int) -> None:
        """Wait for all work of this process on a GPU, on every stream."""
        ...
