"""What a failed reply means: one table for gRPC and HTTP.

Triton's codes are too coarse to act on: UNAVAILABLE is a full queue, an expired one, a loading model and a stopping
server, and older servers answer 400 to an unknown model. The message decides where the code cannot. Sources:
``GrpcStatusUtil`` (server, grpc_utils.cc), ``HttpCodeFromError`` (server, http_server.cc) and the texts of the core's
schedulers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tritonforge_client.core.call import Call
from tritonforge_client.errors import (
    Cancelled,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotReady,
    QueueFull,
    QueueTimeout,
    ServerError,
    ShuttingDown,
    TritonError,
    Unavailable,
    Unimplemented,
)

# HTTP statuses in gRPC's vocabulary, as Triton and the proxies in front of it use them.
_STATUS_FROM_HTTP: Final = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass(frozen=True, slots=True)
class _Rule:
    statuses: frozenset[str]
    message: re.Pattern[str]
    error: type[TritonError]
    action: str


def _rule(statuses: str, message: str, error: type[TritonError], action: str = "") -> _Rule:
    return _Rule(frozenset(statuses.split()), re.compile(message, re.IGNORECASE), error, action)


# The first rule whose status and message fit. Every status ends with a rule that fits any message.
_RULES: Final = (
    _rule(
        "UNAVAILABLE", "exceeds maximum queue size", QueueFull, "send fewer requests at once, or raise max_queue_size"
    ),
    _rule("UNAVAILABLE", "request timeout expired", QueueTimeout, "it waited too long in the model's queue"),
    _rule("UNAVAILABLE CANCELLED", "server is stopping|server exiting|scheduler has stopped", ShuttingDown),
    _rule(
        "UNAVAILABLE NOT_FOUND INVALID_ARGUMENT",
        "not at ready state|not ready",
        NotReady,
        "wait for it with wait_ready()",
    ),
    _rule(
        "NOT_FOUND INVALID_ARGUMENT",
        "unknown model|has no available versions|requested model .* is not available",
        ModelNotFound,
        "check the model's name and version and that it is loaded",
    ),
    _rule(
        "UNAVAILABLE",
        r"failed to connect|connect(ion)? (failed|refused|reset|timeout|timed out)|connections to all backends"
        r"|socket closed|broken pipe|name resolution|dns resolution|goaway|recvmsg|transport closed|endpoint closing",
        ConnectionFailed,
        "check that the server runs at this address",
    ),
    # What gRPC says of bytes that are not HTTP/2.
    _rule("UNKNOWN INTERNAL", r"failed parsing http/2|stream removed|received rst_stream", ConnectionFailed),
    # Triton's HTTP server answers 400 to codes that have no HTTP status of their own.
    _rule("INVALID_ARGUMENT", r"\bcancell?ed\b", Cancelled),
    _rule("UNAVAILABLE", "", Unavailable),
    _rule("NOT_FOUND", "", ModelNotFound),
    _rule("INVALID_ARGUMENT", "", InvalidInput),
    _rule("DEADLINE_EXCEEDED", "", DeadlineExceeded, "the server may still run the request"),
    _rule("CANCELLED", "", Cancelled),
    _rule("UNIMPLEMENTED", "", Unimplemented),
)


def error_from_status(status: str | int, message: str, call: Call) -> TritonError:
    """Return the error that a failed reply stands for.

    Args:
        status: Name of a gRPC status code, for example ``"UNAVAILABLE"``, or an HTTP status; empty where the server
            sent none, as in streams: then the message alone decides.
        message: The server's text.
        call: The call that failed.

    Returns:
        An error to raise, with the server's text in ``server_message``.
    """
    name = status if isinstance(status, str) else _STATUS_FROM_HTTP.get(status, f"HTTP {status}")
    text = message.removeprefix("[request id: <id_unknown>] ") or f"{name} without a message"
    for rule in _RULES:
        fits = name in rule.statuses if name else rule.message.pattern != ""
        if fits and rule.message.search(message) is not None:
            # What gRPC itself says about a connection is nobody's answer.
            said = f"no connection, or it broke: {text}" if rule.error is ConnectionFailed else _answer(text)
            return rule.error(f"{said}; {rule.action}" if rule.action else said, **call.error_context(message))
    said = f"{_answer(text)} with status {name}" if name else _answer(text)
    return ServerError(said, **call.error_context(message))


def _answer(text: str) -> str:
    return f'the server answered "{text}"'
