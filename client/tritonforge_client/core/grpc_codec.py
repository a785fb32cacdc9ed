"""``ModelInferRequest`` and ``ModelInferResponse`` on the wire, without a copy of the tensors in protobuf messages.

A request is joined once from a small head and views of the caller's arrays; a reply is walked field by field and its
tensors are views of the received bytes. Source: ``grpc_service.proto`` of the KServe v2 protocol and the protobuf
encoding guide. Field numbers below are those of the proto file; the tests compare them with tritonclient's messages.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.core.request import (
    InferReply,
    InferRequest,
    Parameter,
    PlacedTensor,
    Region,
    ReplyFormatError,
    ReplyHead,
    RequestedOutput,
)
from tritonforge_client.core.steps import Buffer
from tritonforge_client.core.tensor import array_from_contents, array_from_raw

# Wire types of the protobuf encoding.
_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5

_RAW: Final = 6  # raw_output_contents

_LONGEST_HEAD_BYTES: Final = 4096
_MOST_HEADS: Final = 8
_known_heads: tuple[_KnownHead, ...] = ()

_MASK64: Final = (1 << 64) - 1


def buffers_from_request(request: InferRequest) -> tuple[bytes | memoryview, ...]:
    """Encode a request as ``ModelInferRequest``.

    Args:
        request: The request.

    Returns:
        The message in pieces; each tensor is one, where it lies.
    """
    parts: list[bytes | memoryview] = [_request_head(request)]
    for tensor in request.inputs:
        if tensor.region is None:
            parts.append(b"\x3a" + _varint(len(tensor.data)))  # raw_input_contents = 7
            parts.append(tensor.data)
    return tuple(parts)


def _request_head(request: InferRequest) -> bytes:
    tensors = tuple([(tensor.name, tensor.datatype, tensor.shape, tensor.region) for tensor in request.inputs])
    return b"".join(
        (
            _names(request.model, request.version),
            _text(3, request.request_id),
            _parameters(4, request.parameters),
            _tensors(tensors, request.outputs),
        )
    )


# Requests to a model are mostly of the same shapes, so that only what differs is encoded each time.
@lru_cache(256)
def _names(model: str, version: str) -> bytes:
    return _text(1, model) + _text(2, version)


@lru_cache(1024)
def _tensors(
    inputs: tuple[tuple[str, str, tuple[int, ...], Region | None], ...], outputs: tuple[RequestedOutput, ...]
) -> bytes:
    head = [_message(5, _input_message(*tensor)) for tensor in inputs]
    return b"".join(head + [_message(6, _output_message(output)) for output in outputs])


def _parameters(number: int, parameters: Mapping[str, Parameter]) -> bytes:
    """Encode a field ``map<string, InferParameter>``."""
    if not parameters:
        return b""
    return b"".join(
        _message(number, _message(1, name.encode()) + _message(2, _parameter_message(value)))
        for name, value in parameters.items()
    )


def _input_message(name: str, datatype: str, shape: tuple[int, ...], region: Region | None) -> bytes:
    sizes = b"".join(_varint(size) for size in shape)
    # A packed field without elements is left out.
    packed = _message(3, sizes) if sizes else b""
    place = _parameters(4, region.parameters) if region is not None else b""
    return _text(1, name) + _text(2, datatype) + packed + place


def _output_message(output: RequestedOutput) -> bytes:
    parameters: dict[str, Parameter] = {"classification": output.class_count} if output.class_count > 0 else {}
    if output.region is not None:
        parameters |= output.region.parameters
    return _text(1, output.name) + _parameters(2, parameters)


def _parameter_message(value: Parameter) -> bytes:
    # The field is a oneof, so false, 0 and "" are written too.
    if isinstance(value, bool):
        return b"\x08" + _varint(value)
    if isinstance(value, int):
        return b"\x10" + _varint(value & _MASK64)
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    return _message(3, value.encode())


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode()) if value else b""


def _message(number: int, payload: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def reply_from_bytes(data: Buffer) -> InferReply:
    """Decode a ``ModelInferResponse``.

    Args:
        data: The message.

    Returns:
        The reply; its arrays are views of ``data`` wherever the tensor came as raw contents.

    Raises:
        ReplyFormatError: The message is damaged or contradicts itself.
    """
    return _reply_from_range(data, 0, len(data))


def stream_reply_from_bytes(data: Buffer) -> tuple[str, InferReply]:
    """Decode a ``ModelStreamInferResponse``.

    Args:
        data: The message.

    Returns:
        Its error message, empty where there is none, and the reply.

    Raises:
        ReplyFormatError: The message is damaged or contradicts itself.
    """
    error_message = ""
    start = end = len(data)
    for span in _spans(data, 0, len(data)):
        if span.number == 1:
            error_message = _text_from_span(data, span)
        elif span.number == 2:
            start, end = span.start, span.end
    return error_message, _reply_from_range(data, start, end)


def _reply_from_range(data: Buffer, start: int, end: int) -> InferReply:
    for known in _known_heads:
        if data[start : start + len(known.text)] == known.text:
            arrays = _arrays_of_known(data, known, start + len(known.text), end)
            if arrays is not None:
                return known.head.reply(arrays, {})
    view = memoryview(data)
    spans = _spans(data, start, end)
    head, outputs = _head_from_spans(data, spans)
    raw = [view[span.start : span.end] for span in spans if span.number == _RAW]
    arrays, placed = _arrays(data, outputs, raw)
    # Elements in the head belong to one reply alone.
    if len(arrays) == len(outputs) and all(output.contents is None for output in outputs):
        _remember(data, start, spans, head, arrays)
    return head.reply(arrays, placed)


def _arrays_of_known(data: Buffer, known: _KnownHead, position: int, end: int) -> dict[str, NDArray[Any]] | None:
    """Arrays of a reply whose head is known; ``None`` if its raw contents are not those that belong to the head."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, prefix, shape, dtype, size_bytes in known.layout:
        begin, position = position, position + len(prefix)
        if data[begin:position] != prefix:
            return None
        if position + size_bytes > end:
            return None
        arrays[name] = np.ndarray(shape, dtype, data, position)
        position += size_bytes
    return arrays if position == end else None


def _head_from_spans(data: Buffer, spans: list[_Span]) -> tuple[ReplyHead, list[_Output]]:
    texts = {1: "", 2: "", 3: ""}
    parameters: dict[str, Parameter] = {}
    outputs: list[_Output] = []
    for span in spans:
        if span.number == 5:
            outputs.append(_output_from_span(data, span))
        elif span.number == 4:
            name, parameter = _entry_from_span(data, span)
            parameters[name] = parameter
        elif span.number in texts:
            texts[span.number] = _text_from_span(data, span)
    return ReplyHead(texts[1], texts[2], texts[3], parameters), outputs


def _remember(
    data: Buffer, start: int, spans: list[_Span], head: ReplyHead, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Keep the head of a reply: those to equal requests begin with the same bytes, which need no second walk."""
    global _known_heads  # noqa: PLW0603
    count = sum(span.number != _RAW for span in spans)
    if head.request_id or count == 0 or any(span.number == _RAW for span in spans[:count]):
        return
    text = bytes(data[start : spans[count - 1].end])
    # BYTES have another size each time.
    is_fixed = all(array.size > 0 and not array.dtype.hasobject for array in arrays.values())
    if len(text) <= _LONGEST_HEAD_BYTES and is_fixed:
        _known_heads = (_KnownHead(text, head, _layout(arrays)), *_known_heads[: _MOST_HEADS - 1])


def _layout(arrays: Mapping[str, NDArray[Any]]) -> list[_Place]:
    tag = bytes((_RAW << 3 | _BYTES,))
    return [
        _Place(name, tag + _varint(array.nbytes), array.shape, array.dtype, array.nbytes)
        for name, array in arrays.items()
    ]


class _Span(NamedTuple):
    """One field of a message and where its value lies; a nested message is walked in place."""

    number: int
    wire_type: int
    start: int
    end: int


class _Place(NamedTuple):
    """Where the elements of an output lie in a reply with a known head: behind these bytes."""

    name: str
    prefix: bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size_bytes: int


class _KnownHead(NamedTuple):
    """The bytes that replies begin with, what they mean, and what follows."""

    text: bytes
    head: ReplyHead
    layout: list[_Place]


class _Output(NamedTuple):
    name: str
    datatype: str
    shape: list[int]
    contents: _Span | None


def _arrays(
    data: Buffer, outputs: list[_Output], raw: list[memoryview]
) -> tuple[dict[str, NDArray[Any]], dict[str, PlacedTensor]]:
    """Match outputs and raw contents: those without typed contents came raw, in order."""
    arrays: dict[str, NDArray[Any]] = {}
    placed: dict[str, PlacedTensor] = {}
    blobs = iter(raw)
    for name, datatype, shape, contents in outputs:
        blob = next(blobs, None) if contents is None else None
        if blob is not None and len(blob) == 0 and all(size > 0 for size in shape):
            placed[name] = PlacedTensor(datatype, tuple(shape))
        elif blob is not None:
            arrays[name] = array_from_raw(name, datatype, shape, blob)
        else:
            # An empty tensor has neither raw nor typed contents when the server sends typed ones.
            values = () if contents is None else _values_from_span(data, contents)
            arrays[name] = array_from_contents(name, datatype, shape, values)
    if next(blobs, None) is not None:
        raise ReplyFormatError(f"expected raw contents for {len(outputs)} outputs, got {len(raw)}")
    return arrays, placed


def _output_from_span(data: Buffer, message: _Span) -> _Output:
    name = datatype = ""
    shape: list[int] = []
    contents = None
    for span in _spans_within(data, message):
        if span.number == 1:
            name = _text_from_span(data, span)
        elif span.number == 2:
            datatype = _text_from_span(data, span)
        elif span.number == 3:
            shape += map(_signed, _varints_from_span(data, span))
        elif span.number == 5:
            contents = span
    return _Output(name, datatype, shape, contents)


def _values_from_span(data: Buffer, message: _Span) -> list[object]:
    """Return the elements of an ``InferTensorContents``, whichever of its fields they are in."""
    values: list[object] = []
    for span in _spans_within(data, message):
        if span.number == 1:
            values += map(bool, _varints_from_span(data, span))
        elif span.number in {2, 3}:
            values += map(_signed, _varints_from_span(data, span))
        elif span.number in {4, 5}:
            values += _varints_from_span(data, span)
        elif span.number in {6, 7}:
            values += _floats_from_span(data, span, "f" if span.number == 6 else "d")
        elif span.number == 8:
            values.append(bytes(data[span.start : span.end]))
    return values


def _entry_from_span(data: Buffer, message: _Span) -> tuple[str, Parameter]:
    name = ""
    parameter: Parameter = ""
    for span in _spans_within(data, message):
        if span.number == 1:
            name = _text_from_span(data, span)
        elif span.number == 2:
            parameter = _parameter_from_span(data, span)
    return name, parameter


def _parameter_from_span(data: Buffer, message: _Span) -> Parameter:
    parameter: Parameter = ""
    for span in _spans_within(data, message):
        if span.number == 1:
            parameter = bool(_number_from_span(data, span))
        elif span.number == 2:
            parameter = _signed(_number_from_span(data, span))
        elif span.number == 3:
            parameter = _text_from_span(data, span)
        elif span.number == 4 and span.wire_type == _FIXED64:
            parameter = _floats_from_span(data, span, "d")[0]
        elif span.number == 5:
            parameter = _number_from_span(data, span)
    return parameter


def _spans_within(data: Buffer, message: _Span) -> list[_Span]:
    if message.wire_type != _BYTES:
        raise ReplyFormatError(f"field {message.number} should be a message, got wire type {message.wire_type}")
    return _spans(data, message.start, message.end)


def _spans(data: Buffer, position: int, end: int) -> list[_Span]:
    """Find the fields of the message at ``data[position:end]``."""
    spans = []
    while position < end:
        key, position = _read_varint(data, position, end)
        wire_type = key & 7
        if wire_type == _BYTES:
            size, position = _read_varint(data, position, end)
            stop = position + size
        elif wire_type == _VARINT:
            stop = _read_varint(data, position, end)[1]
        elif wire_type == _FIXED64:
            stop = position + 8
        elif wire_type == _FIXED32:
            stop = position + 4
        else:
            raise ReplyFormatError(f"field {key >> 3} has wire type {wire_type}, which protobuf 3 does not use")
        if stop > end:
            raise ReplyFormatError(f"field {key >> 3} ends at byte {stop}, its message at {end}: the reply is cut off")
        spans.append(_Span(key >> 3, wire_type, position, stop))
        position = stop
    return spans


def _read_varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Return the number at a position and the position after it."""
    if position < end and data[position] < 0x80:  # nearly all of them
        return data[position], position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ReplyFormatError(f"a number is cut off at byte {end}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, position
    raise ReplyFormatError(f"the number that ends at byte {position} is longer than 10 bytes")


def _text_from_span(data: Buffer, span: _Span) -> str:
    if span.wire_type != _BYTES:
        raise ReplyFormatError(f"field {span.number} should be a text, got wire type {span.wire_type}")
    try:
        return str(data[span.start : span.end], "utf-8")
    except UnicodeDecodeError as error:
        raise ReplyFormatError(f"a text is not UTF-8: {error}") from error


def _number_from_span(data: Buffer, span: _Span) -> int:
    if span.wire_type != _VARINT:
        raise ReplyFormatError(f"field {span.number} should be a number, got wire type {span.wire_type}")
    return _read_varint(data, span.start, span.end)[0]


def _varints_from_span(data: Buffer, span: _Span) -> list[int]:
    """Read one number or a packed run of them; both lie in the span in the same way."""
    numbers = []
    position = span.start
    while position < span.end:
        number, position = _read_varint(data, position, span.end)
        numbers.append(number)
    return numbers


def _floats_from_span(data: Buffer, span: _Span, code: str) -> list[float]:
    """Read one floating-point number or a packed run of them."""
    if (span.end - span.start) % struct.calcsize(code) != 0:
        raise ReplyFormatError(f"packed floats take {span.end - span.start} bytes, not a multiple of their size")
    return [number for (number,) in struct.iter_unpack(f"<{code}", data[span.start : span.end])]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
