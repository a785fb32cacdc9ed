"""Reads an ONNX file without its weights: they are skipped on the disk, whatever their size.

An ONNX file is one protobuf message, in which the values of large tensors lie between many small things. The small
things are copied as they stand, so that protobuf's own parser has the last word on them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

# Shapes are computed from small tensors, so the values of those are kept.
_LARGE_BYTES: Final = 8 * 1024
_VALUES: Final = frozenset(
    {"float_data", "int32_data", "string_data", "int64_data", "raw_data", "double_data", "uint64_data"}
)
# Limits of protobuf's parsers.
_LARGEST_BYTES: Final = 2**31 - 1
_DEEPEST: Final = 100
_LONGEST_VARINT: Final = 10
# How a field is encoded: its wire type. Groups are not used by ONNX.
_VARINT: Final = 0
_MEASURED: Final = 2
_FIXED: Final = {1: 8, 5: 4}


def skimmed_model(path: Path, kind: Any) -> Any:
    """Read a model without the values of its large tensors.

    Args:
        path: The ``.onnx`` file.
        kind: The class ``onnx.ModelProto``.

    Returns:
        The model; large tensors have their names, types and dims.

    Raises:
        OSError: The file cannot be read.
        google.protobuf.message.DecodeError: It is no such message, or too large for one.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > _LARGEST_BYTES:
            raise _refusal(f"{size} bytes are more than the 2 GiB that a protobuf message may have")
        return kind.FromString(b"".join(_small_fields(stream, size, kind.DESCRIPTOR, 0)))


def _small_fields(stream: BinaryIO, end: int, message: Any, depth: int) -> Iterator[bytes]:
    """Yield the encoded fields of a message that ends at an offset; those of large messages are skimmed in turn."""
    if depth > _DEEPEST:
        raise _refusal("messages are nested too deeply")
    while stream.tell() < end:
        key = _varint(stream)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            yield _encoded(key) + _encoded(_varint(stream))
            continue
        length = _varint(stream) if wire == _MEASURED else _FIXED.get(wire, end)
        inner_end = stream.tell() + length
        if inner_end > end:
            raise _refusal("it is truncated")
        large = message.fields_by_number.get(number) if length > _LARGE_BYTES else None
        if large is not None and message.name == "TensorProto" and large.name in _VALUES:
            stream.seek(inner_end)
            continue
        if large is not None and large.message_type is not None:
            content = b"".join(_small_fields(stream, inner_end, large.message_type, depth + 1))
        else:
            content = stream.read(length)
        yield _encoded(key) + (_encoded(len(content)) if wire == _MEASURED else b"") + content
    if stream.tell() != end:
        raise _refusal("it is truncated")


def _varint(stream: BinaryIO) -> int:
    value = 0
    for place in range(_LONGEST_VARINT):
        byte = stream.read(1)
        if byte == b"":
            raise _refusal("it is truncated")
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise _refusal("a number has no end")


def _encoded(value: int) -> bytes:
    """Encode a varint."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _refusal(problem: str) -> Exception:
    from google.protobuf.message import DecodeError

    return DecodeError(f"Error parsing message: {problem}")
