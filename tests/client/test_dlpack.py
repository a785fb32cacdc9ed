"""Capsules, with numpy's on the CPU: the device is a field like any other."""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from support.fake_cuda import GpuTensor, on_device

from tritonforge_client.core.dlpack import (
    _Managed,
    _ManagedVersioned,
    capsule_for_gpu,
    capsule_from_gpu,
    gpu_of,
    tensor_from_capsule,
)
from tritonforge_client.datatypes import BY_DATATYPE

FIXED = [entry for entry in BY_DATATYPE.values() if entry.numpy_name not in {None, "object"}]

_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi),
)
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi),
)


def versioned(capsule: Any, major: int) -> tuple[Any, object]:
    """The tensor of a plain capsule in the versioned form, and what must be kept."""
    managed = _ManagedVersioned(major=major, minor=3)
    managed.tensor = _Managed.from_address(_pointer(capsule, b"dltensor")).tensor
    return _new_capsule(ctypes.addressof(managed), b"dltensor_versioned", None), (managed, capsule)


@pytest.mark.parametrize("entry", FIXED, ids=lambda entry: entry.datatype)
def test_every_type_is_read_by_its_wire_name(entry: Any) -> None:
    array = np.ones((2, 3), entry.dtype)
    tensor = tensor_from_capsule(array.__dlpack__())
    assert (tensor.datatype, tensor.shape, tensor.address) == (entry.datatype, (2, 3), array.ctypes.data)
    assert (tensor.kind, tensor.device_id) == (1, 0)
    assert tensor.is_row_major


def test_bfloat16_is_read_by_its_wire_name() -> None:
    capsule = capsule_for_gpu(np.zeros((4,), np.uint16), "BF16", 3)
    tensor = tensor_from_capsule(capsule)
    assert (tensor.datatype, tensor.kind, tensor.device_id) == ("BF16", 2, 3)


def test_the_device_is_read() -> None:
    tensor = tensor_from_capsule(on_device(np.zeros(2, np.float32).__dlpack__(), 2, 5))
    assert (tensor.kind, tensor.device_id) == (2, 5)


def test_a_versioned_capsule_is_read() -> None:
    array = np.arange(6, dtype=np.int32).reshape(3, 2)
    capsule, kept = versioned(array.__dlpack__(), major=1)
    tensor = tensor_from_capsule(capsule)
    assert (tensor.datatype, tensor.shape, tensor.address) == ("INT32", (3, 2), array.ctypes.data)
    del kept


def test_a_capsule_of_another_major_version_is_refused() -> None:
    capsule, kept = versioned(np.zeros(2, np.float32).__dlpack__(), major=2)
    with pytest.raises(BufferError, match=r"expected DLPack 1, got version 2\.3"):
        tensor_from_capsule(capsule)
    del kept


@pytest.mark.parametrize(
    ("array", "is_row_major"),
    [
        (np.zeros((3, 4), np.float32)[1:], True),
        (np.zeros((3, 4), np.float32)[:, :2], False),
        (np.zeros((3, 4), np.float32).T, False),
        (np.zeros((5, 1, 4), np.float32)[::2][:1], True),
        (np.zeros((0, 4), np.float32).T, True),
        (np.zeros((), np.float32), True),
    ],
)
def test_strides_tell_what_is_row_major(array: np.ndarray[Any, Any], is_row_major: bool) -> None:
    assert tensor_from_capsule(array.__dlpack__()).is_row_major == is_row_major


def test_an_offset_counts_towards_the_address() -> None:
    array = np.zeros(8, np.float32)
    capsule = array.__dlpack__()
    _Managed.from_address(_pointer(capsule, b"dltensor")).tensor.byte_offset = 12
    assert tensor_from_capsule(capsule).address == array.ctypes.data + 12


def test_types_that_triton_lacks_are_refused() -> None:
    with pytest.raises(TypeError, match=r"got DLPack type code 5 of 64 bits and 1 lanes"):
        tensor_from_capsule(np.zeros(2, np.complex64).__dlpack__())
    capsule = np.zeros(2, np.float32).__dlpack__()
    _Managed.from_address(_pointer(capsule, b"dltensor")).tensor.dtype.lanes = 4
    with pytest.raises(TypeError, match="32 bits and 4 lanes"):
        tensor_from_capsule(capsule)


def test_what_is_no_capsule_or_a_used_one_is_refused() -> None:
    class Once:
        def __init__(self) -> None:
            self.capsule = np.zeros(2, np.float32).__dlpack__()

        def __dlpack__(self, **_: Any) -> Any:
            return self.capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    once = Once()
    array = np.from_dlpack(once)
    for capsule in (once.capsule, object()):
        with pytest.raises(BufferError, match="whose tensor nobody has taken"):
            tensor_from_capsule(capsule)
    del array


def test_a_capsule_that_was_only_read_gives_its_tensor_back() -> None:
    array = np.zeros(1000, np.float32)
    gone = weakref.ref(array)
    capsule = array.__dlpack__()
    del array
    tensor_from_capsule(capsule)
    gc.collect()
    assert gone() is not None
    del capsule
    assert gone() is None


def test_the_legacy_stream_and_the_newest_version_are_asked_for() -> None:
    tensor = GpuTensor(np.zeros(2, np.float32))
    capsule_from_gpu(tensor)
    assert tensor.asked == [{"stream": 1, "max_version": (1, 0)}]


def test_a_library_from_before_versions_is_asked_again() -> None:
    class Old:
        def __dlpack__(self, stream: Any = None) -> Any:
            assert stream == 1
            return np.ones(2, np.float32).__dlpack__()

    assert tensor_from_capsule(capsule_from_gpu(Old())).datatype == "FP32"


def test_only_memory_of_a_gpu_counts_as_such() -> None:
    class On:
        def __init__(self, kind: int) -> None:
            self._kind = kind

        def __dlpack_device__(self) -> tuple[int, int]:
            return self._kind, 1

    assert gpu_of(On(2)) == 1
    # The host, its pinned memory, and managed memory, which numpy reads itself.
    assert [gpu_of(On(kind)) for kind in (1, 3, 13)] == [None] * 3
    assert gpu_of([1, 2]) is None


class Made:
    """A capsule that was made for a GPU, for numpy to take."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = on_device(capsule, 1, 0)

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def test_memory_lives_as_long_as_who_took_it() -> None:
    memory = np.array([1.5, -2.0], np.float32).view(np.uint32)
    gone = weakref.ref(memory)
    taken = np.from_dlpack(Made(capsule_for_gpu(memory, "FP32", 0)))
    del memory
    gc.collect()
    assert taken.tolist() == [1.5, -2.0]
    assert gone() is not None
    del taken
    gc.collect()
    assert gone() is None


def test_memory_whose_capsule_nobody_took_is_given_back() -> None:
    memory = np.zeros(4, np.uint8)
    gone = weakref.ref(memory)
    capsule = capsule_for_gpu(memory, "BOOL", 0)
    del memory
    assert gone() is not None
    del capsule
    assert gone() is None


def test_tensors_of_pytorch_are_read() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    for value, datatype in (
        (tensor, "FP32"),
        (tensor.bfloat16(), "BF16"),
        (tensor.half(), "FP16"),
        (tensor > 2, "BOOL"),
    ):
        for options in ({}, {"max_version": (1, 0)}):
            capsule = value.__dlpack__(**options)
            read = tensor_from_capsule(capsule)
            assert (read.datatype, read.shape, read.address) == (datatype, (2, 3), value.data_ptr())
    assert not tensor_from_capsule(tensor.T.__dlpack__()).is_row_major
