"""DLPack capsules: what one says about the tensor of another library, and how one is made for a GPU's memory.

The structures are those of ``dlpack.h`` 1.0, in their plain and in their versioned form. A capsule is borrowed, never
marked as used: as long as it lives the tensor stays where it is, and its own destructor gives the tensor back.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final, cast

from numpy.typing import NDArray

CUDA: Final = 2
"""``kDLCUDA``: memory of a GPU."""
LEGACY_STREAM: Final = 1
"""DLPack's and CUDA's number of the legacy default stream, on which the client copies."""
NEWEST: Final = (1, 0)
"""The version of DLPack that is read here."""

# By type code and bits: kDLInt, kDLUInt, kDLFloat, kDLBfloat, kDLBool.
_DATATYPES: Final = {
    **{(0, bits): f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{(1, bits): f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{(2, bits): f"FP{bits}" for bits in (16, 32, 64)},
    (4, 16): "BF16",
    (6, 8): "BOOL",
}
_CODES: Final = {datatype: code for code, datatype in _DATATYPES.items()}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _ManagedVersioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


# Prototypes of their own: the functions of ctypes.pythonapi are shared with other libraries, their types too.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi),
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi),
)


@dataclass(frozen=True, slots=True)
class DLPackTensor:
    """What a capsule says.

    Attributes:
        address: Where the first element lies.
        kind: Kind of device (``DLDeviceType``).
        device_id: Which of its kind.
        shape: Its shape.
        strides: Elements from one index to the next, for each dimension; ``None`` means row-major.
        datatype: Wire name of its type.
    """

    address: int
    kind: int
    device_id: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    datatype: str

    @property
    def is_row_major(self) -> bool:
        """Whether its elements lie one behind the other, the last index running fastest."""
        if self.strides is None or 0 in self.shape:
            return True
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True


def gpu_of(value: object) -> int | None:
    """CUDA's number of the GPU on which a tensor of another library lies; ``None`` for what lies elsewhere."""
    device = getattr(value, "__dlpack_device__", None)
    if device is None:
        return None
    kind, device_id = device()
    return int(device_id) if kind == CUDA else None


def capsule_from_gpu(value: Any) -> Any:
    """Ask a tensor on the current GPU for a capsule, such that its elements are ready for the legacy default stream.

    Args:
        value: A tensor with ``__dlpack__``.

    Raises:
        BufferError: It cannot be shared, as the library says.
    """
    try:
        return value.__dlpack__(stream=LEGACY_STREAM, max_version=NEWEST)
    except TypeError:  # from before versions, as the array API standard tells consumers to expect
        return value.__dlpack__(stream=LEGACY_STREAM)


def tensor_from_capsule(capsule: Any) -> DLPackTensor:
    """Read a capsule. What it says holds as long as the capsule lives.

    Args:
        capsule: What ``__dlpack__`` returned, of which nobody has taken the tensor yet.

    Raises:
        BufferError: It is no such capsule, or of another major version.
        TypeError: Triton cannot carry its type.
    """
    tensor = _tensor_in(capsule)
    code, bits, lanes = tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes
    datatype = _DATATYPES.get((code, bits)) if lanes == 1 else None
    if datatype is None:
        got = f"DLPack type code {code} of {bits} bits and {lanes} lanes"
        raise TypeError(f"expected a type that Triton can carry ({', '.join(_CODES)}), got {got}")
    return DLPackTensor(
        address=(tensor.data or 0) + tensor.byte_offset,
        kind=tensor.device.kind,
        device_id=tensor.device.device_id,
        shape=tuple(tensor.shape[: tensor.ndim]),
        strides=tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None,
        datatype=datatype,
    )


def capsule_for_gpu(memory: NDArray[Any], datatype: str, device_id: int) -> Any:
    """Make a capsule for memory of a GPU.

    numpy makes it, so that its deleter and its destructor are compiled code that any thread may call; only the device
    and the type are written over. No element is read.

    Args:
        memory: An array of unsigned integers at an address of the GPU, of the shape and the item size of the tensor; it
            lives as long as the capsule, or as whoever takes the tensor.
        datatype: Wire name of the tensor's type.
        device_id: CUDA's number of the GPU.
    """
    capsule = cast("Any", memory).__dlpack__()
    tensor = _tensor_in(capsule)
    tensor.device = _Device(CUDA, device_id)
    tensor.dtype = _DataType(*_CODES[datatype], 1)
    return capsule


def _tensor_in(capsule: Any) -> _Tensor:
    """The structure itself, in the capsule's memory."""
    if _is_valid(capsule, b"dltensor"):
        return cast("_Tensor", _Managed.from_address(_pointer(capsule, b"dltensor")).tensor)
    if _is_valid(capsule, b"dltensor_versioned"):
        managed = _ManagedVersioned.from_address(_pointer(capsule, b"dltensor_versioned"))
        if managed.major != NEWEST[0]:
            raise BufferError(f"expected DLPack {NEWEST[0]}, got version {managed.major}.{managed.minor}")
        return cast("_Tensor", managed.tensor)
    raise BufferError(f"expected a DLPack capsule whose tensor nobody has taken, got {capsule!r}")
