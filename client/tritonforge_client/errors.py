"""Errors of the client: one tree for gRPC and HTTP.

::

    check ──▶ encode ──▶ connect ──▶ queue ──▶ execute ──▶ decode ──▶ check the reply
      │                     │          │          │           │             │
    InvalidInput   ConnectionFailed  QueueFull  ServerError  ServerError  SpecDrift
                                     QueueTimeout

    TritonError
    ├── InvalidInput (ValueError)        the request does not fit the model; nothing was run
    ├── ModelNotFound (LookupError)      the server does not have this model or version
    ├── DeadlineExceeded (TimeoutError)  the time of the call is over
    ├── Unavailable (ConnectionError)    the request was not run; another attempt may be
    │   ├── QueueFull                    the model's queue has ``max_queue_size`` requests
    │   ├── QueueTimeout                 the request waited in the queue for longer than it may
    │   ├── NotReady                     server or model is loading
    │   ├── ShuttingDown                 the server is stopping
    │   ├── ConnectionFailed             no connection, or it broke before a reply came
    │   ├── BreakerOpen                  every endpoint failed too often lately; nothing was sent
    │   └── TooManyInFlight              the client's own limit is reached; nothing was sent
    ├── Cancelled                        the call was cancelled, for example by closing the client
    ├── ServerError                      the model or the server failed
    │   └── Unimplemented                the server does not offer this
    └── SpecDrift                        the model on the server is not the one that the spec describes

    CodegenError (ValueError)            no module can be generated from this config

Every TritonError can be pickled with all its fields; the exception underneath is its ``__cause__``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from typing_extensions import Unpack

Code: TypeAlias = Literal[
    "invalid_input",
    "not_found",
    "deadline",
    "unavailable",
    "queue_full",
    "queue_timeout",
    "not_ready",
    "shutting_down",
    "connection",
    "breaker_open",
    "too_many_in_flight",
    "cancelled",
    "internal",
    "unimplemented",
    "spec_drift",
]


class ErrorContext(TypedDict, total=False):
    """The facts of a call that each of its errors carries; TritonError describes them."""

    model: str | None
    endpoint: str | None
    request_id: str | None
    elapsed_s: float | None
    attempts: int
    server_message: str | None


class TritonError(Exception):
    """Base of everything that can go wrong with a call.

    Args:
        text: What was expected, what came and what to do, without the names that the other arguments carry.
        model: Model that was called.
        endpoint: ``host:port`` that was called.
        request_id: Id of the request, if the caller gave one.
        elapsed_s: Seconds from the start of the call to this error.
        attempts: How often the request was sent.
        server_message: The server's own words, letter for letter.

    Attributes:
        code: What happened, for programs; the same over gRPC and HTTP.
        retryable: Whether the same request, sent again, may succeed.
    """

    code: Code = "internal"
    retryable: bool = False

    def __init__(
        self,
        text: str,
        *,
        model: str | None = None,
        endpoint: str | None = None,
        request_id: str | None = None,
        elapsed_s: float | None = None,
        attempts: int = 1,
        server_message: str | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.model = model
        self.endpoint = endpoint
        self.request_id = request_id
        self.elapsed_s = elapsed_s
        self.attempts = attempts
        self.server_message = server_message

    def __str__(self) -> str:
        subject = " on ".join(part for part in (self.model, self.endpoint) if part)
        text = f"{subject}: {self.text}" if subject else self.text
        facts = []
        if self.request_id:
            facts.append(f"request {self.request_id}")
        if self.attempts > 1:
            facts.append(f"{self.attempts} attempts")
        # Faults found before sending take microseconds, which nobody asks about.
        if self.elapsed_s is not None and self.elapsed_s >= 0.001:
            facts.append(f"after {self.elapsed_s:.3f} s")
        if facts:
            text = f"{text} ({', '.join(facts)})"
        return " ".join(text.split())


class InvalidInput(TritonError, ValueError):  # noqa: N818 - named after the state; only the base is ...Error
    """The request does not fit the model. The model was not run.

    Attributes:
        field: Tensor or argument concerned; empty when the server found the fault.
        expected: What would have been right.
        got: What was given.
    """

    code = "invalid_input"

    def __init__(
        self,
        text: str,
        *,
        field: str = "",
        expected: str = "",
        got: str = "",
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(text, **context)
        self.field = field
        self.expected = expected
        self.got = got


class ModelNotFound(TritonError, LookupError):  # noqa: N818
    """The server does not have this model or version."""

    code = "not_found"


class DeadlineExceeded(TritonError, TimeoutError):  # noqa: N818
    """The time of the call is over. The server may still run the request."""

    code = "deadline"


class Unavailable(TritonError, ConnectionError):  # noqa: N818
    """The request was not run, for a reason that may pass."""

    code: Code = "unavailable"
    retryable = True


class QueueFull(Unavailable):
    """The model's queue already holds ``max_queue_size`` requests."""

    code = "queue_full"


class QueueTimeout(Unavailable):
    """The request waited in the model's queue for longer than its queue policy or its deadline allows."""

    code = "queue_timeout"
    retryable = False


class NotReady(Unavailable):
    """The server or the model is not ready."""

    code = "not_ready"


class ShuttingDown(Unavailable):
    """The server is stopping and takes no more requests."""

    code = "shutting_down"


class ConnectionFailed(Unavailable):
    """No connection could be made, or it broke before the reply was complete."""

    code = "connection"


class BreakerOpen(Unavailable):
    """Every endpoint failed too often lately, so that nothing was sent."""

    code = "breaker_open"


class TooManyInFlight(Unavailable):
    """As many calls are in flight as ``Options.max_in_flight`` allows, so that nothing was sent."""

    code = "too_many_in_flight"
    retryable = False


class Cancelled(TritonError):  # noqa: N818
    """The call was cancelled before it was answered."""

    code = "cancelled"


class ServerError(TritonError):
    """The model or the server failed, or answered with something that is not a reply."""


class Unimplemented(ServerError):  # noqa: N818
    """The server does not offer what was asked of it."""

    code = "unimplemented"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference between what a spec says and what a server has or answers; ``str()`` gives it as a sentence.

    Attributes:
        field: What differs, for example ``input images``, ``output logits`` or ``max_batch_size``; empty for an answer
            as a whole.
        expected: What the spec says; ``nothing`` where it has no such tensor.
        got: What the server has; ``nothing`` where there is no such tensor.
        sentence: The sentence, where it is not ``field: expected ..., got ...``.
    """

    field: str
    expected: str
    got: str
    sentence: str = ""

    def __str__(self) -> str:
        if self.sentence:
            return self.sentence
        subject = f"{self.field}: " if self.field else ""
        return f"{subject}expected {self.expected}, got {self.got}"


class SpecDrift(TritonError):  # noqa: N818
    """The model on the server is not the one that the spec describes.

    Attributes:
        drifts: The differences.
    """

    code = "spec_drift"

    def __init__(
        self,
        text: str,
        *,
        drifts: tuple[Drift, ...] = (),
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(text, **context)
        self.drifts = drifts


class CodegenError(ValueError):
    """No typed module can be generated from this model config."""
