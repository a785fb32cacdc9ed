"""HTTP/1.1 over asyncio's own connections, without a task or a timeout for each step of a call."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, cast

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import HttpRequest, HttpResponse
from tritonforge_client.core.http11 import (
    SCRATCH_BYTES,
    ReceivedReply,
    ReplyReader,
    pieces_from_buffers,
    reply_reader,
    request_head,
)
from tritonforge_client.core.http_compression import compressed_request
from tritonforge_client.core.http_dialect import HttpDialect
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.transport.http import (
    JOIN_BELOW_BYTES,
    MAX_IDLE_CONNECTIONS,
    error_from_failure,
)
from tritonforge_client.transport.target import endpoint_text

# So much is sent or received in one turn of the event loop, which takes some tenths of a millisecond.
_SLICE_BYTES: Final = 256 * 1024

_CLOSED_BY_SERVER: Final = "the server closed the connection"


class AsyncHttpTransport:
    """Connections to one server, for one event loop. Redirects are not followed and nothing is sent twice.

    A task that is cancelled closes its connection, so that the server may notice.

    Args:
        host: Host name or address.
        port: Port of the HTTP service.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, where ``host`` is one of its addresses: it is asked for, and certificates are for it.
    """

    dialect = HttpDialect()

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, name: str | None = None) -> None:
        self.endpoint = endpoint_text(host, port)
        self._host = host
        self._port = port
        self._tls = tls
        self._name = name if name is not None else host
        self._authority = endpoint_text(self._name, port)
        self._idle: dict[_Connection, None] = {}
        self._open: set[_Connection] = set()
        self._connecting: set[asyncio.Task[_Connection]] = set()
        self._closed = False

    async def send(self, request: HttpRequest, call: Call) -> HttpResponse:
        """Send one request and return the whole reply, whatever its status.

        Args:
            request: The request.
            call: Gives the headers of the caller and the deadline.

        Raises:
            InvalidInput: The path or a header cannot be sent.
            DeadlineExceeded: The time of the call is over.
            ConnectionFailed: No connection could be made, it broke, or what came was no reply.
            Cancelled: The transport was closed.
        """
        request = compressed_request(request, call.compression)
        head = request_head(request, self._authority, call.headers)
        call.remaining_s()
        if self._closed:
            raise call.closed_error()
        connection = self._idle_connection() or await self._connected(call)
        try:
            return await connection.exchange(head, request, call.timeout_s - call.elapsed_s)
        except (OSError, ReplyFormatError) as error:
            raise error_from_failure(error, call, was_connected=True, is_closed=self._closed) from error
        finally:
            self._give_back(connection)

    async def stream(self, request: HttpRequest, call: Call) -> AsyncIterator[HttpResponse]:
        """Send one request and return its reply: over HTTP there is only one."""
        yield await self.send(request, call)

    async def close(self) -> None:
        """Close every connection; calls in flight end with ``Cancelled``."""
        self._closed = True
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.lost for connection in connections))

    def _idle_connection(self) -> _Connection | None:
        """The connection that was used last and that the server has not closed."""
        while len(self._idle) > 0:
            connection, _ = self._idle.popitem()
            if not connection.is_stale():
                return connection
            connection.abort()
        return None

    def _give_back(self, connection: _Connection) -> None:
        if connection.reusable and not self._closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
            self._idle[connection] = None
        else:
            connection.abort()

    async def _connected(self, call: Call) -> _Connection:
        """A new connection."""
        # A task of its own, because asyncio.wait_for can lose a result or a cancellation before Python 3.12.
        task = asyncio.get_running_loop().create_task(self._connect(call))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        try:
            await asyncio.wait((task,), timeout=call.timeout_s - call.elapsed_s)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not task.done():
            self._abandon(task)
            raise call.deadline_error("before the request was sent")
        if task.cancelled():
            raise call.closed_error()
        try:
            return task.result()
        # A ValueError is a host name that no resolver would take.
        except (OSError, ValueError) as error:
            raise error_from_failure(error, call, was_connected=False, is_closed=self._closed) from error

    def _abandon(self, task: asyncio.Task[_Connection]) -> None:
        def keep(task: asyncio.Task[_Connection]) -> None:
            if not task.cancelled() and task.exception() is None:
                self._give_back(task.result())

        task.cancel()
        task.add_done_callback(keep)

    async def _connect(self, call: Call) -> _Connection:
        loop = asyncio.get_running_loop()
        connected = await self._connected_socket(loop, call)
        server_hostname = None if self._tls is None else self._name
        _, connection = await loop.create_connection(
            lambda: _Connection(loop, self._open, self._idle),
            sock=connected,
            ssl=self._tls,
            server_hostname=server_hostname,
        )
        return connection

    async def _connected_socket(self, loop: asyncio.AbstractEventLoop, call: Call) -> socket.socket:
        """A connection to the first address of the host that answers."""
        try:
            addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            # Only names need the resolver, which asyncio runs in a thread.
            addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        for count_left, address in zip(range(len(addresses), 1, -1), addresses, strict=False):
            # An address that does not answer leaves time for the others.
            share_s = (call.timeout_s - call.elapsed_s) / count_left
            with suppress(OSError, asyncio.TimeoutError):
                return await asyncio.wait_for(_socket_to(loop, address), share_s)
        return await _socket_to(loop, addresses[-1])


async def _socket_to(loop: asyncio.AbstractEventLoop, address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, socket_address = address
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(made, socket_address)
    except OSError as error:
        made.close()
        # asyncio's own text does not say why.
        code = error.errno or 0
        raise OSError(code, os.strerror(code)) from error
    except BaseException:
        made.close()
        raise
    return made


class _Connection(asyncio.BufferedProtocol):
    """One connection, which carries one exchange at a time.

    Attributes:
        reusable: Whether it can carry an exchange: it is new, or the last one came to a proper end.
        lost: Is done when the socket is closed.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, all_open: set[_Connection], all_idle: dict[_Connection, None]
    ) -> None:
        self.reusable = True
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._all_open = all_open
        self._all_idle = all_idle
        self._poll = select.poll()
        self._scratch = bytearray(SCRATCH_BYTES)
        self._wanted = memoryview(self._scratch)
        self._unsent: deque[memoryview] = deque()
        self._is_paused = False
        self._reader: ReplyReader | None = None
        self._reply: asyncio.Future[HttpResponse] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def is_stale(self) -> bool:
        """Whether the server closed it, be it that the event loop has not noticed yet."""
        return not self.reusable or self._transport.is_closing() or len(self._poll.poll(0)) > 0

    def exchange(self, head: bytes, request: HttpRequest, left_s: float) -> asyncio.Future[HttpResponse]:
        """Send a request; the future gets its reply, or why there is none."""
        is_open, self.reusable = self.reusable and not self._transport.is_closing(), False
        self._unsent = pieces_from_buffers((head, *request.body), join_below_bytes=JOIN_BELOW_BYTES)
        reply = self._reply = self._loop.create_future()
        self._timer = self._loop.call_later(left_s, self._fail, TimeoutError("timed out"))
        self._reader = reply_reader(request.method, self._scratch)
        self._wanted = next(self._reader)
        if not is_open:
            self._fail(ConnectionResetError(_CLOSED_BY_SERVER))
        self._write()
        return reply

    def abort(self) -> None:
        """Close the socket without sending what is left."""
        self.reusable = False
        self._fail(ConnectionAbortedError("the connection was closed"))
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)
        # Nothing is written while something waits, since asyncio before Python 3.12 copies what has to wait.
        self._transport.set_write_buffer_limits(high=1)
        self._all_open.add(self)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the reader knows better
        """Where the next bytes go; asyncio calls this."""
        return self._wanted[:_SLICE_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Read what came; asyncio calls this."""
        if self._reader is None:
            self.abort()  # nobody asked for it
        else:
            self._read(self._reader, nbytes)

    def eof_received(self) -> None:
        """Note that no more comes; asyncio calls this."""
        self.reusable = False
        self._read_end()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; asyncio calls this."""
        self.reusable = False
        if exc is None:
            self._read_end()
        self._fail(exc or ConnectionResetError(_CLOSED_BY_SERVER))
        # asyncio's TLS transport counts as open until it is told.
        self._transport.abort()
        self._all_open.discard(self)
        self._all_idle.pop(self, None)
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """Wait; asyncio calls this."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Go on; asyncio calls this."""
        self._is_paused = False
        self._write()

    def _write(self) -> None:
        """Hand one slice over; the next follows in another turn of the loop."""
        if len(self._unsent) == 0 or self._is_paused:
            return
        piece = self._unsent.popleft()
        if len(piece) > _SLICE_BYTES:
            self._unsent.appendleft(piece[_SLICE_BYTES:])
        self._transport.write(piece[:_SLICE_BYTES])
        if len(self._unsent) > 0 and not self._is_paused:
            self._loop.call_soon(self._write)

    def _read(self, reader: ReplyReader, size: int) -> None:
        try:
            self._wanted = reader.send(size)
        except StopIteration as stop:
            self._succeed(stop.value)
        except ReplyFormatError as error:
            self._fail(error)

    def _read_end(self) -> None:
        """Let the reader judge the end of the connection, which may be how a reply ends."""
        if self._reader is not None and self._is_end_genuine():
            self._read(self._reader, 0)

    def _succeed(self, received: ReceivedReply) -> None:
        # A server may refuse a request before it has read all of it.
        self.reusable = received.reusable and len(self._unsent) == 0 and self._transport.get_write_buffer_size() == 0
        reply = self._settled()
        if reply is not None and not reply.done():
            reply.set_result(received.response)

    def _fail(self, error: Exception) -> None:
        reply = self._settled()
        if reply is not None and not reply.done():
            reply.set_exception(error)

    def _settled(self) -> asyncio.Future[HttpResponse] | None:
        """End the exchange and return its future."""
        if self._timer is not None:
            self._timer.cancel()
        reply, self._reply, self._timer, self._reader = self._reply, None, None, None
        self._wanted = memoryview(self._scratch)
        self._unsent.clear()
        return reply

    def _is_end_genuine(self) -> bool:
        """Whether TLS said goodbye; otherwise anybody on the way could have cut the reply off."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return len(tls.read(1)) == 0
        except ssl.SSLError as error:
            return isinstance(error, ssl.SSLZeroReturnError)
