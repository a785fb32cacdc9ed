"""What an array on a GPU can do, with memory of this process in place of a GPU's."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from support.fake_cuda import FakeCuda

from tritonforge_client import GpuArray


@pytest.fixture
def array() -> GpuArray:
    """Three rows of two, whose memory this process can read."""
    memory = np.arange(6, dtype=np.float32).reshape(3, 2)
    return GpuArray(FakeCuda(), memory.ctypes.data, shape=(3, 2), datatype="FP32", device_id=0, owner=memory)


def test_contiguous_parts_are_taken_without_a_copy(array: GpuArray) -> None:
    assert array[1:].numpy().tolist() == [[2, 3], [4, 5]]
    assert array[-1].numpy().tolist() == [4, 5]
    assert array[2, 1].numpy().tolist() == 5
    assert array[np.newaxis, ...].shape == (1, 3, 2)
    assert array[1:2, :1].numpy().tolist() == [[2]]
    assert [array[row].numpy().tolist() for row in range(len(array))] == [[0, 1], [2, 3], [4, 5]]
    assert array[1].address == array.address + 8
    with pytest.raises(IndexError, match="contiguous"):
        array[:, 0]
    with pytest.raises(IndexError, match="out of bounds"):
        array[3]
    for index in ([0, 1], np.array([0]), True, 1.5):
        with pytest.raises(TypeError, match="expected numbers, slices"):
            array[index]


def test_libraries_read_it_where_it_lies(array: GpuArray) -> None:
    assert array.__dlpack_device__() == (2, 0)
    assert array.__cuda_array_interface__ == {
        "version": 3,
        "shape": (3, 2),
        "typestr": "<f4",
        "data": (array.address, False),
        "strides": None,
    }
    array.__dlpack__(stream=1, max_version=(1, 0), dl_device=(2, 0), copy=False)
    for options in ({"copy": True}, {"dl_device": (1, 0)}, {"dl_device": (2, 1)}):
        with pytest.raises(BufferError, match="expected a reader on GPU 0 without a copy"):
            array.__dlpack__(**cast("Any", options))
    with pytest.raises(ValueError, match="without a copy"):
        array.__array__(copy=False)


def test_bfloat16_has_no_cuda_array_interface() -> None:
    memory = np.zeros(2, np.uint16)
    array = GpuArray(FakeCuda(), memory.ctypes.data, shape=(2,), datatype="BF16", device_id=0, owner=memory)
    assert not hasattr(array, "__cuda_array_interface__")
    assert array.numpy().dtype.name == "bfloat16"
    assert array.nbytes == 4
