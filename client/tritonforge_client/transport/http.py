"""HTTP/1.1 through urllib3: pooled connections, tensors sent from where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import urllib3
from urllib3.exceptions import ClosedPoolError, HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as HttpTimeoutError

from tritonforge_client.core.call import Call
from tritonforge_client.core.http_codec import (
    HEAD_LENGTH_HEADER,
    error_text_from_body,
    head_from_request,
    object_from_json,
    reply_from_body,
)
from tritonforge_client.core.request import InferReply, InferRequest, ReplyFormatError
from tritonforge_client.core.status import error_from_status
from tritonforge_client.errors import Cancelled, ConnectionFailed, ServerError, TritonError
from tritonforge_client.transport.deadline import DeadlinePool
from tritonforge_client.transport.target import endpoint_text

# Idle connections kept for reuse, one for each thread that calls at the same time. More threads work too.
_MAX_IDLE_CONNECTIONS: Final = 128
# What Triton answers to a readiness question besides yes.
_NOT_READY_STATUSES: Final = frozenset({400, 404, 503})


class HttpTransport:
    """One pool of connections to one server. Redirects are not followed and nothing is sent twice.

    Args:
        host: Host name or address.
        port: Port of the HTTP service.
    """

    def __init__(self, host: str, port: int) -> None:
        self._endpoint = endpoint_text(host, port)
        self._pool = DeadlinePool(host, port, maxsize=_MAX_IDLE_CONNECTIONS)

    @property
    def endpoint(self) -> str:
        """``host:port`` of the server."""
        return self._endpoint

    def infer(self, request: InferRequest, call: Call) -> InferReply:
        """Run one request."""
        head = head_from_request(request)
        length = len(head) + sum(len(tensor.data) for tensor in request.inputs)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            HEAD_LENGTH_HEADER: str(len(head)),
        }
        # A list is sent buffer by buffer, without joining.
        body = [head, *(tensor.data for tensor in request.inputs)]
        reply = self._send("POST", f"{_model_path(request.model, request.version)}/infer", call, body, headers)
        _check_status(reply, call)
        try:
            return reply_from_body(reply.data, reply.headers.get(HEAD_LENGTH_HEADER))
        except ReplyFormatError as error:
            text = f"expected an inference reply, got one that cannot be read: {error}"
            raise ServerError(text, **call.error_context()) from error

    def server_ready(self, call: Call) -> bool:
        """Return whether the server is ready."""
        return self._ready("/v2/health/ready", call)

    def model_ready(self, model: str, version: str, call: Call) -> bool:
        """Return whether a model is ready; an empty version means any."""
        return self._ready(f"{_model_path(model, version)}/ready", call)

    def model_config(self, model: str, version: str, call: Call) -> Mapping[str, Any]:
        """Return a model's config as JSON with proto field names."""
        return self._json("GET", f"{_model_path(model, version)}/config", call)

    def model_statistics(self, model: str, call: Call) -> Sequence[Mapping[str, Any]]:
        """Return the entries of ``model_stats``; an empty name means all models."""
        path = f"{_model_path(model, '')}/stats" if model else "/v2/models/stats"
        entries: Sequence[Mapping[str, Any]] = self._json("GET", path, call).get("model_stats", ())
        return entries

    def load_model(self, model: str, call: Call) -> None:
        """Load a model, or load it again."""
        _check_status(self._send("POST", f"/v2/repository/models/{quote(model, safe='')}/load", call, b"{}"), call)

    def unload_model(self, model: str, call: Call) -> None:
        """Unload a model."""
        _check_status(self._send("POST", f"/v2/repository/models/{quote(model, safe='')}/unload", call, b"{}"), call)

    def close(self) -> None:
        """Close idle connections; calls in flight finish and then close theirs."""
        self._pool.close()

    def _ready(self, path: str, call: Call) -> bool:
        reply = self._send("GET", path, call)
        if reply.status in _NOT_READY_STATUSES:
            return False
        _check_status(reply, call)
        return True

    def _json(self, method: str, path: str, call: Call) -> Mapping[str, Any]:
        reply = self._send(method, path, call)
        _check_status(reply, call)
        try:
            return object_from_json(reply.data)
        except ReplyFormatError as error:
            raise ServerError(str(error), **call.error_context()) from error

    def _send(
        self, method: str, path: str, call: Call, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and read the whole reply before the deadline."""
        try:
            return self._pool.urlopen(
                method,
                path,
                body=body,
                headers={**call.headers, **(headers or {})},
                timeout=urllib3.Timeout(total=call.remaining_s()),
                retries=False,
                redirect=False,
                decode_content=False,
            )
        except ClosedPoolError as error:
            raise Cancelled("the client was closed during the call", **call.error_context()) from error
        # Anything that went wrong on the way; a broken body can surface as a plain OSError.
        except (HTTPError, OSError) as error:
            raise _error_from_transport(error, call) from error


def _error_from_transport(error: Exception, call: Call) -> TritonError:
    # A NewConnectionError is a TimeoutError in urllib3's tree, but a refused connection has time left.
    timed_out = isinstance(error, (HttpTimeoutError, TimeoutError)) and not isinstance(error, NewConnectionError)
    if timed_out or call.elapsed_s >= call.timeout_s:
        return call.deadline_error()
    text = f"no connection, or it broke: {error.__cause__ or error}; check that the server runs at this address"
    return ConnectionFailed(text, **call.error_context())


def _check_status(reply: urllib3.BaseHTTPResponse, call: Call) -> None:
    if reply.status != 200:
        raise error_from_status(reply.status, error_text_from_body(reply.data), call)


def _model_path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path
