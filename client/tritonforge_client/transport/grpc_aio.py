"""gRPC over asyncio's own connections."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import Self

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.core.grpc_dialect import GrpcDialect
from tritonforge_client.core.http2 import Http2Connection
from tritonforge_client.core.http2_call import CallFailed, Http2Call
from tritonforge_client.core.steps import Buffer
from tritonforge_client.errors import TritonError
from tritonforge_client.transport.grpc import begun_call, check_protocol, error_from_call
from tritonforge_client.transport.sockets_aio import CLOSED_BY_SERVER, AsyncConnection, AsyncPool

if TYPE_CHECKING:
    import ssl

# Calls that share a connection share its system calls too, here and in the server; more than these would save little.
# But they wait for each other's bytes, so large messages get connections of their own.
_CALLS_AT_ONCE: Final = 32
_SENT_TOGETHER: Final = 8  # for the server to begin, while others are still made
_LARGE_BYTES: Final = 64 * 1024

# So much of messages waits to be sent at most; the rest of a call that is cancelled is never sent.
_AT_ONCE_BYTES: Final = 1 << 20

# When so much of a stream has come that nobody has asked for yet, the rest has to wait.
_AHEAD_BYTES: Final = 1 << 20


class AsyncGrpcTransport:
    """Connections to one server, for one event loop. Nothing is sent twice.

    Small calls at once share a connection; large ones and streams have one of their own. When a task is cancelled, the
    server is told to end its request.

    Args:
        host: Host name or address.
        port: Port of the gRPC service.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, where ``host`` is one of its addresses: it is asked for, and certificates are for it.
    """

    dialect = GrpcDialect()

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, name: str | None = None) -> None:
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._pool = AsyncPool(_GrpcConnection, host, port, tls, name)
        self._scheme = "http" if tls is None else "https"
        self.endpoint = self._pool.endpoint

    async def send(self, request: GrpcRequest, call: Call) -> Buffer:
        """Send one message and return the reply's.

        Args:
            request: The request.
            call: Gives the headers of the caller and the deadline.

        Raises:
            InvalidInput: A header cannot be sent.
            TritonError: The server answered with another status than OK; ``DeadlineExceeded``: the time of the call
                is over; ``ConnectionFailed``: no connection could be made, it broke, or what came was no reply;
                ``Cancelled``: the transport was closed.
        """
        call.remaining_s()
        alone = request.size_bytes > _LARGE_BYTES
        connection = self._pool.ready(call, alone=alone) or await self._pool.connected(call, alone=alone)
        with _Carried(self, connection, request, call, alone=alone) as carried:
            await carried.outcome
            return carried.begun.result()

    async def stream(self, request: GrpcRequest, call: Call) -> AsyncIterator[Buffer]:
        """Send one message and return the replies' as they come; raises as ``send``."""
        call.remaining_s()
        connection = self._pool.ready(call, alone=True) or await self._pool.connected(call, alone=True)
        with _Carried(self, connection, request, call, alone=True) as carried:
            messages = _Messages(connection, carried)
            while (message := await messages.next()) is not None:
                yield message

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._pool.closed

    async def close(self) -> None:
        """Close every connection; calls in flight end with ``Cancelled``."""
        await self._pool.close()


class _Carried:
    """A call that a connection carries, for whoever waits for it; errors become those of the client.

    Attributes:
        begun: The call on the connection.
        heard_bytes: How many bytes had come on the connection before.
        noticed: Called when a message came.
        outcome: Is done when the call is over; fails if the connection does, or if the time is over.
    """

    __slots__ = ("_call", "_connection", "_pool", "_timer", "begun", "heard_bytes", "noticed", "outcome")

    def __init__(
        self,
        transport: AsyncGrpcTransport,
        connection: _GrpcConnection,
        request: GrpcRequest,
        call: Call,
        *,
        alone: bool,
    ) -> None:
        self._pool = pool = transport._pool
        self._connection = connection
        self._call = call
        self.noticed: Callable[[], None] | None = None
        self.heard_bytes = connection.http2.received_bytes
        try:
            self.begun = begun_call(connection.http2, request, call, transport._scheme, pool.authority)
            loop = asyncio.get_running_loop()
            self.outcome: asyncio.Future[None] = loop.create_future()
            self._timer = loop.call_later(call.timeout_s - call.elapsed_s, self.fail, TimeoutError("timed out"))
            connection.carry(self, alone=alone)
        finally:
            pool.update(connection)

    def notice(self) -> None:
        """Tell whoever waits that a message came, or that the call is over."""
        if self.noticed is not None:
            self.noticed()
        if self.begun.is_over and not self.outcome.done():
            self.outcome.set_result(None)

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that nothing more comes."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._timer.cancel()
        self._connection.leave(self)
        self._pool.update(self._connection)
        if isinstance(error, (CallFailed, OSError, ValueError)) and not isinstance(error, TritonError):
            raise error_from_call(error, self._call, was_connected=True, is_closed=self._pool.closed) from error


class _GrpcConnection(AsyncConnection):
    """One connection, which carries many small calls at once, or one that is alone on it."""

    calls_at_once = _CALLS_AT_ONCE

    def __init__(self, loop: asyncio.AbstractEventLoop, all_open: set[Any], all_ready: dict[Any, None]) -> None:
        super().__init__(loop, all_open, all_ready)
        self.http2 = Http2Connection()
        self._carried: dict[Http2Call, _Carried] = {}
        self._is_alone = self._is_retired = self._is_flush_due = False

    def carry(self, carried: _Carried, *, alone: bool) -> None:
        """Send a call that was begun."""
        self._carried[carried.begun] = carried
        self._is_alone = alone
        if self._is_retired or self.is_gone():
            carried.fail(ConnectionResetError(CLOSED_BY_SERVER))
        elif len(self._carried) == 1 or self.http2.unsent_calls >= _SENT_TOGETHER:
            self.flush()
        else:
            self._flush_soon()

    def leave(self, carried: _Carried) -> None:
        """Forget a call, and tell the server if it is not over."""
        del self._carried[carried.begun]
        self._is_alone = False
        if self.is_idle() and not self.is_all_sent():
            self._is_retired = True  # who does not read all of a request may not read the next one either
        if carried.begun.is_over:
            return
        self.http2.cancel(carried.begun)
        if self.http2.received_bytes == carried.heard_bytes:
            self._is_retired = True  # who has not been heard of meanwhile may be gone for good
        if not self._is_retired:
            self.resume_reading()
            self._flush_soon()

    def check_peer(self) -> None:
        """Refuse a server that would not speak HTTP/2."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is not None:
            check_protocol(tls.selected_alpn_protocol())

    def has_room(self, *, alone: bool = False) -> bool:
        """Whether it can take a call, or one that carries nobody else's beside it."""
        if self._is_retired or self._is_alone or not self.http2.reusable or self.is_gone():
            return False
        return len(self._carried) < (1 if alone else min(_CALLS_AT_ONCE, self.http2.most_calls))

    def is_idle(self) -> bool:
        """Whether it carries no call."""
        return len(self._carried) == 0

    def is_stale(self) -> bool:
        """Whether the server closed it, or is about to, while it was idle."""
        if not self.is_idle():
            return False
        events = self.pending_events()
        if events & ~select.POLLIN:
            return True
        if events and self._transport.get_extra_info("ssl_object") is None:
            # The event loop has not seen it yet; with TLS nobody but the loop can read it.
            try:
                self.received(os.readv(self._fd, [self.get_buffer(-1)]))
            except OSError:
                return True
        return not self.has_room()

    def wanted(self) -> memoryview:
        """Where the next bytes go."""
        return self.http2.wanted()

    def received(self, size: int) -> None:
        """Read so many bytes, and answer them."""
        for begun in self.http2.received(size):
            carried = self._carried.get(begun)
            if carried is not None:
                carried.notice()
        if self.http2.reusable or not self.is_idle():
            self.flush()
        else:
            self.abort()

    def fail(self, error: Exception) -> None:
        """End its calls, and take no others."""
        self._is_retired = True
        for carried in self._carried.values():
            carried.fail(error)

    def more_to_send(self) -> Sequence[Buffer]:
        """What is to be sent next."""
        return self.http2.unsent(_AT_ONCE_BYTES)

    def pause_reading(self) -> None:
        """Receive nothing for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again; does nothing where it is received already."""
        self._transport.resume_reading()

    def _flush_soon(self) -> None:
        """Send with one system call what begins in the same turn of the loop."""
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._is_flush_due = False
        self.flush()


class _Messages:
    """The messages of a stream that nobody has asked for yet."""

    def __init__(self, connection: _GrpcConnection, carried: _Carried) -> None:
        self._connection = connection
        self._begun = carried.begun
        self._queue: asyncio.Queue[Buffer | BaseException | None] = asyncio.Queue()
        self._ahead_bytes = 0
        carried.noticed = self._take
        carried.outcome.add_done_callback(self._end)

    def _take(self) -> None:
        """Queue what came, and make the server wait if that is much."""
        while len(self._begun.messages) > 0:
            message = self._begun.messages.popleft()
            self._queue.put_nowait(message)
            self._ahead_bytes += len(message)
            if self._ahead_bytes > _AHEAD_BYTES:
                self._connection.pause_reading()

    def _end(self, outcome: asyncio.Future[None]) -> None:
        """Note that no more comes, or why not."""
        self._connection.resume_reading()
        self._queue.put_nowait(outcome.exception() or self._begun.failure)

    async def next(self) -> Buffer | None:
        """The next message; ``None`` after the last one."""
        message = await self._queue.get()
        if isinstance(message, BaseException):
            raise message
        if message is not None:
            self._ahead_bytes -= len(message)
            if self._ahead_bytes <= _AHEAD_BYTES:
                self._connection.resume_reading()
        return message
