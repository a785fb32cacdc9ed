"""gRPC over asyncio's own connections."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.core.grpc_dialect import GrpcDialect
from tritonforge_client.core.http2 import Buffer, CallFailed, Http2Connection, Steps
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.errors import TritonError
from tritonforge_client.transport.grpc import check_protocol, error_from_call, sending_steps
from tritonforge_client.transport.sockets_aio import AsyncConnection, AsyncPool

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

# When so much of a stream has come that nobody has asked for yet, the rest has to wait.
_AHEAD_BYTES: Final = 1 << 20


class AsyncGrpcTransport:
    """Connections to one server, for one event loop, each of which carries one call at a time. Nothing is sent twice.

    A task that is cancelled closes its connection, and the server then ends the request.

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
        connection = self._pool.idle(call) or await self._pool.connected(call)
        with _Ending(self._pool, connection, call):
            return await self._run(connection, request, call, connection.http2.only_message())

    async def stream(self, request: GrpcRequest, call: Call) -> AsyncIterator[Buffer]:
        """Send one message and return the replies' as they come; raises as ``send``."""
        call.remaining_s()
        connection = self._pool.idle(call) or await self._pool.connected(call)
        with _Ending(self._pool, connection, call):
            messages = _Messages(connection)
            self._run(connection, request, call, messages.receiving()).add_done_callback(messages.end)
            while (message := await messages.next()) is not None:
                yield message

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._pool.closed

    async def close(self) -> None:
        """Close every connection; calls in flight end with ``Cancelled``."""
        await self._pool.close()

    def _run(
        self, connection: _GrpcConnection, request: GrpcRequest, call: Call, receiving: Steps[T]
    ) -> asyncio.Future[T]:
        sending = sending_steps(connection.http2, request, call, self._scheme, self._pool.authority)
        return connection.run(_both(sending, receiving), call.timeout_s - call.elapsed_s)


def _both(sending: Steps[None], receiving: Steps[T]) -> Steps[T]:
    yield from sending
    return (yield from receiving)


class _Ending:
    """Gives a connection back after a call, and turns what went wrong into errors of the client."""

    __slots__ = ("_call", "_connection", "_pool")

    def __init__(self, pool: AsyncPool[_GrpcConnection], connection: _GrpcConnection, call: Call) -> None:
        self._pool = pool
        self._connection = connection
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._pool.give_back(self._connection)
        if isinstance(error, (CallFailed, OSError, ValueError)) and not isinstance(error, TritonError):
            raise error_from_call(error, self._call, was_connected=True, is_closed=self._pool.closed) from error


class _GrpcConnection(AsyncConnection):
    """One connection, which carries one call after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, all_open: set[Any], all_idle: dict[Any, None]) -> None:
        super().__init__(loop, all_open, all_idle)
        self.http2 = Http2Connection()

    def check_peer(self) -> None:
        """Refuse a server that would not speak HTTP/2."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is not None:
            check_protocol(tls.selected_alpn_protocol())

    def is_stale(self) -> bool:
        """Whether the server closed it, or is about to, while it was idle."""
        events = self.pending_events()
        if self.is_gone() or events & ~select.POLLIN:
            return True
        if events and self._transport.get_extra_info("ssl_object") is None:
            # The event loop has not seen it yet; with TLS nobody but the loop can read it.
            try:
                self.buffer_updated(os.readv(self._fd, [self.get_buffer(-1)]))
            except OSError:
                return True
        return self.is_gone()

    def has_ended_well(self) -> bool:
        """Whether another call may follow."""
        return self.http2.reusable

    def idle_room(self) -> memoryview:
        """Where bytes go that come between calls."""
        return self.http2.idle_room()

    def received_idle(self, size: int) -> None:
        """Read what came between calls, and answer it."""
        try:
            if self.http2.received_idle(size):
                self.send(self.http2.unsent())
                return
        except (CallFailed, ReplyFormatError):
            pass
        self.abort()

    def pause_reading(self) -> None:
        """Receive nothing for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again; does nothing where it is received already."""
        self._transport.resume_reading()


class _Messages:
    """The messages of a stream that nobody has asked for yet."""

    def __init__(self, connection: _GrpcConnection) -> None:
        self._connection = connection
        self._queue: asyncio.Queue[Buffer | BaseException | None] = asyncio.Queue()
        self._ahead_bytes = 0

    def receiving(self) -> Steps[None]:
        """Receive all of them."""
        while (message := (yield from self._connection.http2.next_message())) is not None:
            self._queue.put_nowait(message)
            self._ahead_bytes += len(message)
            if self._ahead_bytes > _AHEAD_BYTES:
                self._connection.pause_reading()

    def end(self, ended: asyncio.Future[None]) -> None:
        """Note that no more comes, or why not."""
        self._connection.resume_reading()
        self._queue.put_nowait(ended.exception())

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
