"""Arrays from the tensors of a reply."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.bytes_codec import strings_from_bytes
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.datatypes import BY_DATATYPE, DataType


def array_from_raw(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> NDArray[Any]:
    """Return a tensor's array over the reply's own memory.

    Args:
        name: Tensor name, for the error.
        datatype: Wire name of its type.
        shape: Full shape.
        data: Its elements, row-major and little-endian, read-only.

    Returns:
        A read-only view of ``data`` (BYTES: an object array of bytes, also read-only).

    Raises:
        ReplyFormatError: The type is unknown, or data and shape contradict each other.
    """
    entry = _entry(name, datatype)
    count = _count(name, shape)
    if entry.itemsize_bytes is None:
        strings = strings_from_bytes(data, count)
        strings.flags.writeable = False
        return strings.reshape(shape)
    expected_bytes = count * entry.itemsize_bytes
    if len(data) != expected_bytes:
        raise ReplyFormatError(
            f"output {name}: expected {expected_bytes} bytes for {datatype} {list(shape)}, got {len(data)}"
        )
    if count == 0:
        return _read_only(np.empty(shape, dtype=entry.dtype))
    return np.ndarray(shape, dtype=entry.dtype, buffer=data)


def array_from_contents(name: str, datatype: str, shape: Sequence[int], values: Sequence[object]) -> NDArray[Any]:
    """Return the array of a tensor whose elements came one by one (typed contents, JSON).

    Args:
        name: Tensor name, for the error.
        datatype: Wire name of its type.
        shape: Full shape.
        values: Elements in row-major order; BYTES as ``bytes``.

    Returns:
        A read-only array.

    Raises:
        ReplyFormatError: The type is unknown, or elements and shape contradict each other.
    """
    entry = _entry(name, datatype)
    count = _count(name, shape)
    if len(values) != count:
        raise ReplyFormatError(f"output {name}: expected {count} elements for {list(shape)}, got {len(values)}")
    # Asked one by one: numpy would round or wrap what does not fit.
    if not all(map(_element_test(entry), values)):
        raise ReplyFormatError(f"output {name}: expected {datatype} elements, got others among {str(values)[:60]}")
    array: NDArray[Any] = np.empty(count, dtype=entry.dtype)
    array[:] = values
    return _read_only(array.reshape(shape))


def _element_test(entry: DataType) -> Callable[[object], bool]:
    if entry.datatype == "BYTES":
        return lambda value: isinstance(value, bytes)
    if entry.datatype == "BOOL":
        return lambda value: isinstance(value, bool)
    if entry.dtype.kind not in "iu":
        return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
    limits = np.iinfo(cast("np.dtype[np.integer[Any]]", entry.dtype))
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and limits.min <= value <= limits.max


def writable_copies(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return aligned copies that may be written to."""
    return {name: np.array(array, order="C") for name, array in arrays.items()}


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _entry(name: str, datatype: str) -> DataType:
    entry = BY_DATATYPE.get(datatype)
    if entry is None:
        raise ReplyFormatError(f"output {name}: expected a datatype of {', '.join(BY_DATATYPE)}, got {datatype!r}")
    return entry


def _count(name: str, shape: Sequence[int]) -> int:
    if any(size < 0 for size in shape):
        raise ReplyFormatError(f"output {name}: expected sizes of at least 0 in its shape, got {list(shape)}")
    return math.prod(shape)
