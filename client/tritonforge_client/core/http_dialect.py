"""What can be asked of a server, over HTTP. Paths and bodies are those of the KServe v2 protocol and its extensions."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import quote

from tritonforge_client.core.call import Call, Compression
from tritonforge_client.core.exchange import Exchange, HttpRequest, HttpResponse, Undecoded
from tritonforge_client.core.http_codec import (
    HEAD_LENGTH_HEADER,
    error_text_from_body,
    head_from_request,
    json_from_bytes,
    reply_from_body,
)
from tritonforge_client.core.http_compression import compressed_request
from tritonforge_client.core.request import InferReply, InferRequest, ReplyFormatError, StreamPart
from tritonforge_client.core.status import error_from_status
from tritonforge_client.errors import ServerError, Unimplemented

T = TypeVar("T")

# What Triton answers to a readiness question besides yes.
_NOT_READY_STATUSES: Final = frozenset({400, 404, 503})


class HttpDialect:
    """Questions and answers over HTTP; ``Dialect`` describes the methods."""

    protocol = "HTTP"
    cancels = False

    def infer(self, request: InferRequest) -> Exchange[InferReply]:
        """Run one request."""
        head = head_from_request(request)
        body: tuple[bytes | memoryview, ...] = (head, *(one.data for one in request.inputs if one.region is None))
        headers = {"content-type": "application/octet-stream", HEAD_LENGTH_HEADER: str(len(head))}
        path = f"{_model_path(request.model, request.version)}/infer"
        return Exchange(HttpRequest(method="POST", path=path, headers=headers, body=body), _parsed_infer_reply)

    def infer_undecoded(self, request: InferRequest, compression: Compression | None) -> Exchange[Undecoded]:
        """Run one request, which may be sent any number of times; it keeps nothing of the caller's arrays."""
        sent = self.infer(request).request
        whole = dataclasses.replace(sent, body=(b"".join(sent.body),))
        return Exchange(compressed_request(whole, compression), _undecoded)

    def infer_stream(self, request: InferRequest) -> Exchange[StreamPart]:
        """Refuse: Triton answers a request over HTTP once.

        Raises:
            Unimplemented: Always.
        """
        text = "decoupled models answer over gRPC only; use a target grpc://host:port"
        raise Unimplemented(text, model=request.model)

    def server_ready(self) -> Exchange[bool]:
        """Whether the server is ready."""
        return Exchange(_get("/v2/health/ready"), _is_ready)

    def model_ready(self, model: str, version: str) -> Exchange[bool]:
        """Whether a model is ready; an empty version means any."""
        return Exchange(_get(f"{_model_path(model, version)}/ready"), _is_ready)

    def server_metadata(self) -> Exchange[Mapping[str, Any]]:
        """Name, version and extensions of the server."""
        return Exchange(_get("/v2"), _parsed(_object))

    def model_config(self, model: str, version: str) -> Exchange[Mapping[str, Any]]:
        """A model's config."""
        return Exchange(_get(f"{_model_path(model, version)}/config"), _parsed(_object))

    def model_statistics(self, model: str) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The entries of ``model_stats``; an empty name means all models."""
        path = f"{_model_path(model, '')}/stats" if model else "/v2/models/stats"
        return Exchange(_get(path), _parsed(lambda reply: _object(reply).get("model_stats", ())))

    def repository_index(self, *, ready: bool) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The models that the server knows; with ``ready`` those that can be called."""
        return Exchange(_post("/v2/repository/index", {"ready": ready}), _parsed(_list))

    def load_model(self, model: str, config: str, files: Mapping[str, bytes]) -> Exchange[None]:
        """Load a model, or load it again, with another config and files of its own where they are given."""
        parameters: dict[str, str] = {"config": config} if config else {}
        parameters |= {f"file:{path}": base64.b64encode(content).decode() for path, content in files.items()}
        return Exchange(_post(_repository_path(model, "load"), {"parameters": parameters}), _parsed(_nothing))

    def unload_model(self, model: str, *, dependents: bool) -> Exchange[None]:
        """Unload a model; with ``dependents`` also those that an ensemble brought."""
        body = {"parameters": {"unload_dependents": dependents}}
        return Exchange(_post(_repository_path(model, "unload"), body), _parsed(_nothing))

    def trace_settings(self, model: str, changes: Mapping[str, Sequence[str] | None]) -> Exchange[Mapping[str, Any]]:
        """Trace settings after changes; ``None`` clears a setting, an empty name means the server's own."""
        path = f"{_model_path(model, '')}/trace/setting" if model else "/v2/trace/setting"
        # Only the levels are a list over HTTP.
        stated = {
            name: values if values is None or name == "trace_level" else values[0] for name, values in changes.items()
        }
        return Exchange(_post(path, stated) if changes else _get(path), _parsed(_object))

    def log_settings(self, changes: Mapping[str, bool | int | str]) -> Exchange[Mapping[str, Any]]:
        """Log settings after changes."""
        request = _post("/v2/logging", dict(changes)) if changes else _get("/v2/logging")
        return Exchange(request, _parsed(_object))

    def system_shared_memory(self) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The registered regions of system shared memory."""
        return Exchange(_get("/v2/systemsharedmemory/status"), _parsed(_list))

    def register_system_shared_memory(self, name: str, key: str, byte_size: int) -> Exchange[None]:
        """Let the server open a region of system shared memory by its key."""
        body = {"key": key, "offset": 0, "byte_size": byte_size}
        return Exchange(_post(_region_path("system", name, "register"), body), _parsed(_nothing))

    def unregister_system_shared_memory(self, name: str) -> Exchange[None]:
        """Let the server close a region of system shared memory."""
        return Exchange(_post(_region_path("system", name, "unregister"), {}), _parsed(_nothing))

    def register_cuda_shared_memory(self, name: str, handle: bytes, device_id: int, byte_size: int) -> Exchange[None]:
        """Let the server open a region of a GPU's memory by its IPC handle."""
        encoded = {"b64": base64.b64encode(handle).decode()}
        body = {"raw_handle": encoded, "device_id": device_id, "byte_size": byte_size}
        return Exchange(_post(_region_path("cuda", name, "register"), body), _parsed(_nothing))

    def unregister_cuda_shared_memory(self, name: str) -> Exchange[None]:
        """Let the server close a region of a GPU's memory."""
        return Exchange(_post(_region_path("cuda", name, "unregister"), {}), _parsed(_nothing))


def _parsed(read: Callable[[HttpResponse], T]) -> Callable[[HttpResponse, Call], T]:
    """Read a reply whose status is 200; any other is an error."""

    def parse(reply: HttpResponse, call: Call) -> T:
        _check_status(reply, call)
        try:
            return read(reply)
        except ReplyFormatError as error:
            text = f"expected a reply of the KServe v2 protocol, got one that cannot be read: {error}"
            raise ServerError(text, **call.error_context()) from error

    return parse


def _check_status(reply: HttpResponse, call: Call) -> None:
    if reply.status != 200:
        raise error_from_status(reply.status, error_text_from_body(reply.body), call)


def _infer_reply(reply: HttpResponse) -> InferReply:
    return reply_from_body(reply.body, reply.headers.get(HEAD_LENGTH_HEADER))


_parsed_infer_reply: Final = _parsed(_infer_reply)


def _undecoded(reply: HttpResponse, call: Call) -> Undecoded:
    _check_status(reply, call)
    return Undecoded(len(reply.body), reply, _parsed_infer_reply)


def _is_ready(reply: HttpResponse, call: Call) -> bool:
    return reply.status not in _NOT_READY_STATUSES and _parsed(lambda _: True)(reply, call)


def _object(reply: HttpResponse) -> Mapping[str, Any]:
    value: Mapping[str, Any] = json_from_bytes(reply.body, dict)
    return value


def _list(reply: HttpResponse) -> Sequence[Mapping[str, Any]]:
    value: Sequence[Mapping[str, Any]] = json_from_bytes(reply.body, list)
    return value


def _nothing(_: HttpResponse) -> None:
    return None


def _get(path: str) -> HttpRequest:
    return HttpRequest(method="GET", path=path)


def _post(path: str, body: object) -> HttpRequest:
    encoded = json.dumps(body, separators=(",", ":")).encode()
    return HttpRequest(method="POST", path=path, headers={"content-type": "application/json"}, body=(encoded,))


@lru_cache(256)
def _model_path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def _repository_path(model: str, action: str) -> str:
    return f"/v2/repository/models/{quote(model, safe='')}/{action}"


def _region_path(kind: str, name: str, action: str) -> str:
    return f"/v2/{kind}sharedmemory/region/{quote(name, safe='')}/{action}"
