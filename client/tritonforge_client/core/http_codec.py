"""Inference over HTTP: a JSON head, then the tensors as they are (Triton's binary tensor data extension).

Requests are a head and views of the caller's arrays, never joined; the tensors of a reply are views of its body.
Source: ``extension_binary_data.md`` of the server. Tensors in JSON, which other servers of the protocol answer with,
are read too.
"""

from __future__ import annotations

import json
from typing import Any, Final

from numpy.typing import NDArray

from tritonforge_client.core.request import (
    InferReply,
    InferRequest,
    Parameter,
    PlacedTensor,
    ReplyFormatError,
    RequestedOutput,
)
from tritonforge_client.core.tensor import array_from_contents, array_from_raw

HEAD_LENGTH_HEADER: Final = "inference-header-content-length"
_JSON_NAMES: Final = {dict: "object", list: "array"}


def head_from_request(request: InferRequest) -> bytes:
    """Encode everything but the tensors' elements.

    Args:
        request: The request. Its model and version are part of the URL.

    Returns:
        The JSON head; the elements of each input follow it in order.
    """
    head: dict[str, Any] = {}
    if request.request_id:
        head["id"] = request.request_id
    head["parameters"] = {**request.parameters, "binary_data_output": True}
    head["inputs"] = [
        {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
            "parameters": (
                {"binary_data_size": len(tensor.data)} if tensor.region is None else tensor.region.parameters
            ),
        }
        for tensor in request.inputs
    ]
    if len(request.outputs) > 0:
        head["outputs"] = [
            {"name": output.name, "parameters": _output_parameters(output)} for output in request.outputs
        ]
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
    head = json_from_bytes(view[:length], dict)
    outputs: dict[str, NDArray[Any]] = {}
    placed: dict[str, PlacedTensor] = {}
    position = length
    try:
        for output in head.get("outputs", ()):
            name, datatype, shape = str(output["name"]), str(output["datatype"]), [int(n) for n in output["shape"]]
            output_parameters = output.get("parameters", {})
            size = output_parameters.get("binary_data_size")
            if size is None and "data" not in output and all(one > 0 for one in shape):
                placed[name] = PlacedTensor(datatype, tuple(shape))
            elif size is None:
                values = _values_from_json(output.get("data", ()), datatype)
                outputs[name] = array_from_contents(name, datatype, shape, values)
            else:
                outputs[name] = array_from_raw(name, datatype, shape, view[position : position + size])
                position += size
        parameters = dict(head.get("parameters", {}))
    except (AttributeError, KeyError, TypeError) as error:
        raise ReplyFormatError(f"the JSON of the reply has another form than the protocol's: {error!r}") from error
    except ValueError as error:
        if isinstance(error, ReplyFormatError):
            raise
        raise ReplyFormatError(f"the JSON of the reply has another form than the protocol's: {error!r}") from error
    if position != len(body):
        raise ReplyFormatError(f"the tensors of the reply end at byte {position}, its body at {len(body)}")
    return InferReply(
        model=str(head.get("model_name", "")),
        version=str(head.get("model_version", "")),
        request_id=str(head.get("id", "")),
        outputs=outputs,
        placed=placed,
        parameters=parameters,
    )


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
