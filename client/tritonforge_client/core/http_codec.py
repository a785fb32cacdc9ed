"""Inference over HTTP: a JSON head, then the tensors as they are (Triton's binary tensor data extension).

Requests are a head and views of the caller's arrays, never joined; the tensors of a reply are views of its body.
Source: ``extension_binary_data.md`` of the server. Tensors in JSON, which other servers of the protocol answer with,
are read too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

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
from tritonforge_client.core.tensor import array_from_contents, array_from_raw

HEAD_LENGTH_HEADER: Final = "inference-header-content-length"
_LONGEST_KNOWN_BYTES: Final = 4096
# Name, datatype, shape, and where the elements are: that many bytes behind the head, or in shared memory.
_Tensor: TypeAlias = "tuple[str, str, tuple[int, ...], Region | int]"
_JSON_NAMES: Final = {dict: "object", list: "array"}


def head_from_request(request: InferRequest) -> bytes:
    """Encode everything but the tensors' elements.

    Args:
        request: The request. Its model and version are part of the URL.

    Returns:
        The JSON head; the elements of each input follow it in order.
    """
    tensors = tuple([(one.name, one.datatype, one.shape, one.region or len(one.data)) for one in request.inputs])
    if request.request_id or request.parameters:
        own = {"id": request.request_id} if request.request_id else {}
        return _encoded_head({**own, "parameters": request.parameters}, tensors, request.outputs)
    return _usual_head(tensors, request.outputs)


# Requests to a model are mostly of the same shapes.
@lru_cache(256)
def _usual_head(tensors: tuple[_Tensor, ...], outputs: tuple[RequestedOutput, ...]) -> bytes:
    return _encoded_head({"parameters": {}}, tensors, outputs)


def _encoded_head(own: Mapping[str, Any], tensors: tuple[_Tensor, ...], outputs: tuple[RequestedOutput, ...]) -> bytes:
    head: dict[str, Any] = {**own, "parameters": {**own["parameters"], "binary_data_output": True}}
    head["inputs"] = [
        {
            "name": name,
            "shape": shape,
            "datatype": datatype,
            "parameters": place.parameters if isinstance(place, Region) else {"binary_data_size": place},
        }
        for name, datatype, shape, place in tensors
    ]
    if len(outputs) > 0:
        head["outputs"] = [{"name": output.name, "parameters": _output_parameters(output)} for output in outputs]
    return json.dumps(head, separators=(",", ":")).encode()


def _output_parameters(output: RequestedOutput) -> dict[str, Parameter]:
    if output.region is not None:
        return {"binary_data": False, **output.region.parameters}
    classes: dict[str, Parameter] = {"classification": output.class_count} if output.class_count > 0 else {}
    return {"binary_data": True, **classes}


def reply_from_body(body: bytes | memoryview, head_length: str | None) -> InferReply:
    """Decode a reply.

    Args:
        body: The whole body.
        head_length: Value of the header ``Inference-Header-Content-Length``; ``None`` when all of the body is JSON.

    Returns:
        The reply; its arrays are views of ``body`` wherever the tensor came as binary data.

    Raises:
        ReplyFormatError: The body is damaged or contradicts itself.
    """
    view = memoryview(body).toreadonly()
    length = len(body) if head_length is None else _checked_length(head_length, len(body))
    text = bytes(view[:length])
    head, known_outputs = _known_head(text) if length <= _LONGEST_KNOWN_BYTES else _head_from_text(text)
    outputs: dict[str, NDArray[Any]] = {}
    placed: dict[str, PlacedTensor] = {}
    position = length
    for name, datatype, shape, size, values in known_outputs:
        if size is not None:
            outputs[name] = array_from_raw(name, datatype, shape, view[position : position + size])
            position += size
        elif values is not None:
            outputs[name] = array_from_contents(name, datatype, shape, values)
        else:
            placed[name] = PlacedTensor(datatype, tuple(shape))
    if position != len(body):
        raise ReplyFormatError(f"the tensors of the reply end at byte {position}, its body at {len(body)}")
    return head.reply(outputs, placed)


class _Output(NamedTuple):
    """An output: how many bytes of it follow the head, or its elements, or neither where it lies in shared memory."""

    name: str
    datatype: str
    shape: list[int]
    size_bytes: int | None
    values: list[object] | None


def _head_from_text(text: bytes) -> tuple[ReplyHead, list[_Output]]:
    """All of a reply but its binary data."""
    head = json_from_bytes(text, dict)
    try:
        about = ReplyHead(
            model=str(head.get("model_name", "")),
            version=str(head.get("model_version", "")),
            request_id=str(head.get("id", "")),
            parameters=dict(head.get("parameters", {})),
        )
        return about, [_output_from_json(output) for output in head.get("outputs", ())]
    except ReplyFormatError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReplyFormatError(f"the JSON of the reply has another form than the protocol's: {error!r}") from error


# Replies to equal requests have the same head.
_known_head = lru_cache(64)(_head_from_text)


def _output_from_json(output: Mapping[str, Any]) -> _Output:
    datatype, shape = str(output["datatype"]), [int(size) for size in output["shape"]]
    size_bytes = output.get("parameters", {}).get("binary_data_size")
    is_placed = size_bytes is None and "data" not in output and all(size > 0 for size in shape)
    values = None if is_placed or size_bytes is not None else _values_from_json(output.get("data", ()), datatype)
    return _Output(str(output["name"]), datatype, shape, None if size_bytes is None else int(size_bytes), values)


def json_from_bytes(data: bytes | memoryview, kind: type[dict[str, Any] | list[Any]]) -> Any:
    """Parse a JSON object or array.

    Raises:
        ReplyFormatError: It is not one.
    """
    try:
        parsed = json.loads(bytes(data))
    except ValueError as error:
        raise ReplyFormatError(f"expected JSON, got {bytes(data[:60])!r}: {error}") from error
    if not isinstance(parsed, kind):
        raise ReplyFormatError(f"expected a JSON {_JSON_NAMES[kind]}, got {type(parsed).__name__}")
    return parsed


def error_text_from_body(body: bytes | memoryview) -> str:
    """Return the text of an error reply: the member ``error`` of its JSON, else the body itself, cut to a line."""
    try:
        text = json_from_bytes(body, dict).get("error")
    except ReplyFormatError:
        text = None
    return text if isinstance(text, str) else bytes(body[:300]).decode(errors="replace")


def _checked_length(text: str, limit: int) -> int:
    if not text.isdecimal() or int(text) > limit:
        raise ReplyFormatError(f"{HEAD_LENGTH_HEADER}: expected a number of at most {limit} bytes, got {text!r}")
    return int(text)


def _values_from_json(data: Any, datatype: str) -> list[object]:
    values = list(_flattened(data))
    if datatype == "BYTES":
        return [value.encode() if isinstance(value, str) else value for value in values]
    return values


def _flattened(data: Any) -> Any:
    for value in data:
        if isinstance(value, list):
            yield from _flattened(value)
        else:
            yield value
