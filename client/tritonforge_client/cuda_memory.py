"""Memory of GPUs: arrays that lie there, and regions of it that a server on the same host opens by an IPC handle."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.cuda import CudaError, CudaRuntime
from tritonforge_client.core.dlpack import CUDA, capsule_for_gpu, capsule_from_gpu, tensor_from_capsule
from tritonforge_client.core.exchange import Dialect, Exchange
from tritonforge_client.core.request import InputTensor, PlacedTensor
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_client.shared_memory import Lease, address_of, array_at

# Smaller allocations share a block of 2 MiB, and a handle opens all of it (CUDA programming guide, IPC).
_SMALLEST_BYTES: Final = 1 << 21


class GpuArray:
    """An array in the memory of a GPU, row-major: what ``Options(shared_memory="cuda")`` brings back.

    Libraries read it where it lies, for example ``torch.from_dlpack(array)`` or ``cupy.asarray(array)``, and may write
    to it. Its memory is not used again before it, its parts and all that was made of them are gone.
    ``np.asarray(array)`` and ``numpy()`` copy it to the host.

    Args:
        runtime: The CUDA runtime.
        address: Where its first element lies.
        shape: Its shape.
        datatype: Wire name of its type, for example ``"FP32"``; not ``"BYTES"``.
        device_id: CUDA's number of the GPU.
        owner: What keeps its memory.

    Attributes:
        address: Where its first element lies, for CUDA.
        shape: Its shape.
        datatype: Wire name of its type.
        device_id: CUDA's number of the GPU.
    """

    def __init__(
        self,
        runtime: CudaRuntime,
        address: int,
        *,
        shape: tuple[int, ...],
        datatype: str,
        device_id: int,
        owner: object,
    ) -> None:
        self._runtime = runtime
        self._owner = owner
        self.address = address
        self.shape = shape
        self.datatype = datatype
        self.device_id = device_id

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of its type."""
        return BY_DATATYPE[self.datatype].dtype

    @property
    def ndim(self) -> int:
        """Number of its dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return _itemsize_bytes(self.datatype) * math.prod(self.shape)

    def numpy(self) -> NDArray[Any]:
        """Copy it to the host.

        Returns:
            An array of the same shape, which may be written to.

        Raises:
            OSError: CUDA refuses.
        """
        return self.host_bytes().view(self.dtype).reshape(self.shape)

    def host_bytes(self) -> NDArray[np.uint8]:
        """Copy its bytes to the host.

        Raises:
            OSError: CUDA refuses.
        """
        copied = np.empty(self.nbytes, np.uint8)
        if copied.size > 0:
            self._runtime.copy(self.device_id, address_of(copied), self.address, copied.size)
            self._runtime.synchronize(self.device_id)
        return copied

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("an array on a GPU cannot be read on the host without a copy")
        return self.numpy().astype(dtype if dtype is not None else self.dtype, copy=False)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Give it as a DLPack capsule of the form without a version. Its elements are there, so no stream waits."""
        if copy is True or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError(f"expected a reader on GPU {self.device_id} without a copy, got {dl_device}, copy={copy}")
        return capsule_for_gpu(self._memory(), self.datatype, self.device_id)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where it lies: ``(2, device_id)``."""
        return CUDA, self.device_id

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.datatype == "BF16":
            raise AttributeError("the CUDA array interface has no bfloat16; use DLPack")
        data = (self.address, False)
        return {"version": 3, "shape": self.shape, "typestr": self.dtype.str, "data": data, "strides": None}

    def __len__(self) -> int:
        return len(self._memory())

    def __getitem__(self, index: Any) -> GpuArray:
        """A part that is contiguous, such as rows ``[2:5]``, one row ``[0]``, or all with a new axis ``[None]``."""
        keys = index if isinstance(index, tuple) else (index,)
        if not all(key is None or key is Ellipsis or type(key) is int or isinstance(key, slice) for key in keys):
            raise TypeError(f"expected numbers, slices, None or ... as an index of an array on a GPU, got {index!r}")
        # With an ellipsis numpy makes an array of any part and reads no element.
        part = self._memory()[keys if Ellipsis in keys else (*keys, ...)]
        if not part.flags.c_contiguous:
            raise IndexError(f"expected an index of a contiguous part of an array on a GPU, got {index!r}")
        return GpuArray(
            self._runtime,
            address_of(part),
            shape=part.shape,
            datatype=self.datatype,
            device_id=self.device_id,
            owner=self._owner,
        )

    def __repr__(self) -> str:
        return f"GpuArray({self.datatype} {list(self.shape)} on GPU {self.device_id})"

    def _memory(self) -> NDArray[Any]:
        """Its place as an array of numpy. No element of it may be read on the host."""
        return array_at(self.address, self.shape, f"<u{_itemsize_bytes(self.datatype)}", self, writable=True)


def gpu_array_from_tensor(value: Any, device_id: int, runtime: CudaRuntime) -> GpuArray:
    """Take a tensor of another library where it lies. Work that is queued for it comes first in all that is done here.

    Args:
        value: A tensor that speaks DLPack.
        device_id: CUDA's number of the GPU on which it lies.
        runtime: The CUDA runtime.

    Raises:
        BufferError: The library cannot share it, or it is not contiguous.
        TypeError: Triton cannot carry its type.
        CudaError: CUDA refuses.
    """
    # PyTorch shares only what lies on the current GPU.
    with runtime.on(device_id):
        capsule = capsule_from_gpu(value)
    tensor = tensor_from_capsule(capsule)
    if not tensor.is_row_major:
        layout = f"shape {list(tensor.shape)} with strides {list(tensor.strides or ())}"
        raise BufferError(f"it is not contiguous ({layout}); give a copy, with .contiguous()")
    return GpuArray(
        runtime,
        tensor.address,
        shape=tensor.shape,
        datatype=tensor.datatype,
        device_id=tensor.device_id,
        owner=capsule,
    )


class CudaRegion:
    """Memory of one GPU that a server on the same host can open.

    Args:
        runtime: The CUDA runtime.
        device_id: CUDA's number of the GPU.
        size_bytes: Its size.

    Attributes:
        name: Name to register it under, different from that of any other region.
        handle: Handle by which a server opens it.

    Raises:
        CudaError: There is no such GPU, not so much memory, or no IPC on this system.
    """

    smallest_bytes: ClassVar[int] = _SMALLEST_BYTES

    def __init__(self, runtime: CudaRuntime, device_id: int, size_bytes: int) -> None:
        self.name = f"tritonforge-{os.getpid()}-{os.urandom(8).hex()}"
        self.size_bytes = size_bytes
        self.device_id = device_id
        self.where = f"GPU {device_id}"
        self._runtime = runtime
        self._pid = os.getpid()
        self._was_lent = False
        self._address = runtime.allocate(device_id, size_bytes)
        try:
            self.handle = runtime.ipc_handle(device_id, self._address)
        except BaseException:
            runtime.free(device_id, self._address)
            raise

    def write(self, tensors: Mapping[int, InputTensor]) -> None:
        """Copy inputs to their offsets, from wherever they lie.

        Raises:
            CudaError: CUDA refuses.
        """
        for offset, tensor in tensors.items():
            source = tensor.gpu.address if tensor.gpu is not None else address_of(np.frombuffer(tensor.data, np.uint8))
            self._runtime.copy(self.device_id, self._address + offset, source, tensor.size_bytes)
        self._runtime.synchronize(self.device_id)

    def arrays(self, lease: Lease, places: Mapping[str, tuple[int, PlacedTensor]]) -> dict[str, NDArray[Any]]:
        """Make arrays of what lies there; each is a ``GpuArray``, which has of an array what can be had of it."""
        self._was_lent = True
        owner = lease.owner()
        arrays = {
            name: GpuArray(
                self._runtime,
                self._address + offset,
                shape=one.shape,
                datatype=one.datatype,
                device_id=self.device_id,
                owner=owner,
            )
            for name, (offset, one) in places.items()
        }
        return cast("dict[str, NDArray[Any]]", arrays)

    def settle(self) -> None:
        """Wait for work that other libraries queued for arrays here, although they have let go of them.

        Raises:
            CudaError: CUDA refuses.
        """
        if self._was_lent:
            self._runtime.drain(self.device_id)
            self._was_lent = False

    def register(self, dialect: Dialect) -> Exchange[None]:
        """Let a server open it."""
        return dialect.register_cuda_shared_memory(self.name, self.handle, self.device_id, self.size_bytes)

    def unregister(self, dialect: Dialect) -> Exchange[None]:
        """Let a server close it."""
        return dialect.unregister_cuda_shared_memory(self.name)

    def retire(self, *, in_use: bool) -> None:
        """Give its memory back, unless somebody may still use it: then CUDA does at the end of the process."""
        # A fork has no part in the GPU of its parent.
        if not in_use and os.getpid() == self._pid:
            # A GPU that fails takes nothing back, which is no reason not to close the rest.
            with suppress(CudaError):
                self._runtime.free(self.device_id, self._address)


def _itemsize_bytes(datatype: str) -> int:
    return cast("int", BY_DATATYPE[datatype].itemsize_bytes)  # never BYTES, which do not lie on a GPU
