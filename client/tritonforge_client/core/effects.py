"""What the steps of a call ask to be done, so that blocking and asynchronous clients share every step.

A step is a generator: it yields what it needs, is sent the outcome (or thrown the error) and returns its result. The
clients differ only in how they do what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
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


@dataclass(slots=True)
class Race:
    """Send a request, and each time that no answer comes for a while another one, until one is answered.

    The outcome is a list of how each ended, in the order in which they were sent: its reply, its ``TritonError``, or
    ``None`` for those that were cancelled because another was answered.

    Attributes:
        first: What is sent first.
        delay_s: How long to wait each time, in seconds.
        another: Makes one more; ``None`` if there is to be none.
    """

    first: Send
    delay_s: float
    another: Callable[[], Send | None]


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask for the addresses of a host name; the outcome is a list of them, the preferred one first.

    Attributes:
        resolver: A ``Resolver`` or an ``AsyncResolver`` of the name.
        timeout_s: How long to wait for the answer, in seconds.
    """

    resolver: Any
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close a transport that nothing is sent over any more.

    Attributes:
        transport: A ``Transport`` or an ``AsyncTransport``.
    """

    transport: Any


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


Effect: TypeAlias = Send | Race | Resolve | Close | Pause | Turn
Steps: TypeAlias = Generator[Effect, Any, T]
