"""What the steps of a call ask to be done, so that blocking and asynchronous clients share every step.

A step is a generator: it yields what it needs, is sent the outcome (or thrown the error) and returns its result. The
clients differ only in how they do what is asked.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from tritonforge_client.core.call import Call

T = TypeVar("T")


@dataclass(slots=True)
class Send:
    """Send a request over a transport; the outcome is its reply.

    Attributes:
        transport: A ``Transport`` or an ``AsyncTransport``.
        request: What it takes.
        call: The attempt.
    """

    transport: Any
    request: Any
    call: Call


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait.

    Attributes:
        pause_s: How long, in seconds.
    """

    pause_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """Let others go first before much is copied: an event loop is blocked by one large message at a time."""


Effect: TypeAlias = Send | Pause | Turn
Steps: TypeAlias = Generator[Effect, Any, T]
