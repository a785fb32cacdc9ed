"""When a request left and when its reply had come: on the wire, without the time that Python takes.

::

    times = WireTimes(not_before_ns=time.perf_counter_ns() + 1_000_000)
    with times:
        client.send(prepared)
    print(times.received_ns - times.sent_ns, "ns")

What a caller measures around a call has encoding, decoding and the turns of other threads or greenlets in it. Here the
transport itself notes when it begins to talk to the server, and the kernel when the last bytes of the reply came, which
may be long before anybody looks at them.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
import time
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final

from typing_extensions import Self

_NS_PER_S: Final = 1_000_000_000
# The last stretch is spent awake: whoever sleeps wakes up late.
_AWAKE_NS: Final = 2_000_000

_SO_TIMESTAMPNS: Final = 35  # include/uapi/asm-generic/socket.h; Python has no name for it
_TIMESPEC: Final = struct.Struct("@ll")
_ABOUT_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, "CMSG_SPACE") else 0


class WireTimes:
    """When the requests of one call may leave, when they did, and when the reply had come.

    It is current inside ``with``, for the calls of blocking clients that this thread, greenlet or task makes there;
    others have none, or their own. The moments are those of ``time.perf_counter_ns()``. A call may take several
    exchanges (a retry, a region of shared memory that is registered first): each keeps to ``not_before_ns``, and the
    last one's moments stay. The transport waits in its thread, or lets other greenlets go on while more than 2 ms are
    left.

    The clients for asyncio know nothing of it: with them the moments stay ``None``, and nothing is waited for. Of a
    hedged call only the wait is kept and when it began; of a stream ``received_ns`` follows what was read.

    Args:
        not_before_ns: When a request may leave at the earliest; 0 for at once.

    Attributes:
        not_before_ns: The same.
        ready_ns: When all was ready, so that only ``not_before_ns`` was to be waited for; ``None`` before that.
        sent_ns: When the transport began to talk to the server: to connect where a connection had to be made, else to
            send. ``None`` if it never did.
        received_ns: When the last bytes of the reply came. The kernel tells it (``SO_TIMESTAMPNS``, Linux); over TLS
            and elsewhere it is when they were read. ``None`` if no reply came, or the call failed.
    """

    __slots__ = ("_token", "not_before_ns", "ready_ns", "received_ns", "sent_ns")

    _token: Token[WireTimes | None]

    def __init__(self, not_before_ns: int = 0) -> None:
        self.not_before_ns = not_before_ns
        self.ready_ns: int | None = None
        self.sent_ns: int | None = None
        self.received_ns: int | None = None

    def __enter__(self) -> Self:
        self._token = current_times.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        current_times.reset(self._token)
        if error is not None:
            self.received_ns = None

    def depart(self, within_s: float = math.inf) -> None:
        """Wait for ``not_before_ns``, and note that the request leaves now. Transports call it.

        Args:
            within_s: How long may be waited at most.
        """
        self.ready_ns = now_ns = time.perf_counter_ns()
        if now_ns < self.not_before_ns:
            moment_ns = int(min(self.not_before_ns, now_ns + within_s * _NS_PER_S))
            while (left_ns := moment_ns - now_ns) > 0:
                if left_ns > _AWAKE_NS:
                    time.sleep((left_ns - _AWAKE_NS) / _NS_PER_S)
                now_ns = time.perf_counter_ns()
        self.sent_ns = now_ns

    def receive_stamped(self, stream: socket.socket, room: memoryview[Any]) -> int:
        """Receive, and note when what was received had come. Transports call it.

        Args:
            stream: A socket for which ``stamp_arrivals`` said yes.
            room: Where the bytes go.

        Returns:
            How many bytes came; 0 when the connection has ended.
        """
        size, about, _, _ = stream.recvmsg_into([room], _ABOUT_BYTES)
        # In this order: what stops the process in between makes a moment later than it was, never earlier.
        wall_ns = time.time_ns()
        self.received_ns = now_ns = time.perf_counter_ns()
        if about:
            seconds, nanoseconds = _TIMESPEC.unpack(about[0][2])
            came_ns = now_ns - wall_ns + seconds * _NS_PER_S + nanoseconds
            # Unless somebody set the clock meanwhile.
            if self.sent_ns is not None and self.sent_ns <= came_ns <= now_ns:
                self.received_ns = came_ns
        return size


current_times: Final[ContextVar[WireTimes | None]] = ContextVar("tritonforge_client.wire", default=None)
"""What ``with`` sets, for those to whom each microsecond counts."""


def begin_exchange() -> WireTimes | None:
    """The current times, for an exchange that begins now: what an earlier one left is forgotten."""
    times = current_times.get()
    if times is not None:
        times.ready_ns = times.sent_ns = times.received_ns = None
    return times


def stamp_arrivals(stream: socket.socket) -> bool:
    """Let the kernel note when the bytes of a connection come; returns whether it does.

    The first connection of a machine that asks for it gets no notes for a moment; then the clock counts.
    """
    if sys.platform != "linux" or not hasattr(stream, "recvmsg_into"):
        return False
    try:
        stream.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True
