"""BYTES tensors: each element is its length (4 bytes, little-endian, unsigned) and its bytes, in row-major order.

Source: the KServe v2 protocol and Triton's binary tensor data extension.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.request import ReplyFormatError

_LENGTH: Final = struct.Struct("<I")


def bytes_from_strings(values: Sequence[object]) -> bytes:
    """Encode the elements of a BYTES tensor.

    Args:
        values: Elements in row-major order. ``str`` is sent as UTF-8.

    Returns:
        The tensor on the wire.

    Raises:
        TypeError: An element is neither ``bytes`` nor ``str``.
    """
    encoded = [_encoded(value) for value in values]
    return b"".join(chain.from_iterable(zip(map(_LENGTH.pack, map(len, encoded)), encoded, strict=True)))


def _encoded(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair
            raise TypeError(f"expected text that UTF-8 can hold, got {value!r}") from error
    raise TypeError(f"expected bytes or str elements, got {type(value).__name__}")


def strings_from_bytes(data: memoryview, count: int) -> NDArray[Any]:
    """Decode the elements of a BYTES tensor.

    Args:
        data: The tensor on the wire.
        count: Number of elements that its shape promises.

    Returns:
        One-dimensional object array of ``bytes``.

    Raises:
        ReplyFormatError: The data ends early or holds more than ``count`` elements.
    """
    # Each element takes at least its length, so a false count is found before memory is taken for it.
    if len(data) < count * _LENGTH.size:
        raise ReplyFormatError(f"a BYTES tensor of {count} elements has only {len(data)} bytes")
    whole = bytes(data)
    array = np.empty(count, dtype=np.object_)
    start = 0
    for index in range(count):
        begin = start + 4
        start = begin + int.from_bytes(whole[start:begin], "little")
        array[index] = whole[begin:start]
    if start != len(whole):
        raise ReplyFormatError(f"a BYTES tensor of {count} elements should end at byte {start}, got {len(whole)} bytes")
    return array
