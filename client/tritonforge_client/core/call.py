"""One call: what it is called in errors and how long it may take."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tritonforge_client.errors import Cancelled, DeadlineExceeded, ErrorContext

Compression: TypeAlias = Literal["gzip", "deflate"]


@dataclass(slots=True, kw_only=True)
class Call:
    """One call from its first check to its last byte; every attempt of it shares its deadline.

    Attributes:
        endpoint: ``host:port`` that is called.
        timeout_s: Seconds for the whole call.
        model: Model that is called; ``None`` for calls about the server.
        request_id: The caller's id of the request.
        headers: Headers of the caller, names in lower case.
        compression: How bodies are compressed; ``None`` for not at all.
        attempt: Which attempt of the call this is, from 1.
        started_s: Start on the monotonic clock, in seconds.
    """

    endpoint: str
    timeout_s: float
    model: str | None = None
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    compression: Compression | None = None
    attempt: int = 1
    started_s: float = field(default_factory=time.monotonic)

    def at(self, endpoint: str, attempt: int) -> Call:
        """The same call at one endpoint, for one attempt."""
        if endpoint == self.endpoint and attempt == self.attempt:
            return self
        return dataclasses.replace(self, endpoint=endpoint, attempt=attempt)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_s

    def remaining_s(self) -> float:
        """Seconds until the deadline.

        Raises:
            DeadlineExceeded: None are left.
        """
        remaining_s = self.timeout_s - self.elapsed_s
        if remaining_s <= 0:
            raise self.deadline_error("before the request was sent")
        return remaining_s

    def deadline_error(self, when: str = "and no reply came; the server may still run the request") -> DeadlineExceeded:
        """The error of a call whose time is over."""
        return DeadlineExceeded(f"timeout_s={self.timeout_s:g} passed {when}", **self.error_context())

    def closed_error(self) -> Cancelled:
        """The error of a call whose client was closed meanwhile."""
        return Cancelled("the client was closed during the call", **self.error_context())

    def error_context(self, server_message: str | None = None) -> ErrorContext:
        """Keyword arguments that name this call, and the server's words, in a TritonError."""
        return {
            "model": self.model,
            "endpoint": self.endpoint,
            "request_id": self.request_id,
            "elapsed_s": self.elapsed_s,
            "attempts": self.attempt,
            "server_message": server_message,
        }
