"""Connections of asyncio, and the pools that keep them."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from tritonforge_client.core.call import Call
from tritonforge_client.transport.sockets import JOIN_BELOW_BYTES, MAX_IDLE_CONNECTIONS, error_from_failure
from tritonforge_client.transport.target import endpoint_text

if TYPE_CHECKING:
    from tritonforge_client.core.steps import Buffer

# So much is sent or received in one turn of the event loop, which takes some tenths of a millisecond.
_SLICE_BYTES: Final = 256 * 1024

# Linux tells the end of the bytes apart from bytes.
_READABLE: Final = select.POLLIN | getattr(select, "POLLRDHUP", 0)

CLOSED_BY_SERVER: Final = "the server closed the connection"


class AsyncConnection(asyncio.BufferedProtocol):
    """One connection of a pool; protocols say what it carries.

    Args:
        loop: The event loop.
        all_open: The open connections of the pool, for it to be among them.
        all_ready: Those of them that can take a call; one that is lost leaves them.

    Attributes:
        calls_at_once: How many calls it can carry at once.
        lost: Is done when the socket is closed.
    """

    calls_at_once = 1

    def __init__(self, loop: asyncio.AbstractEventLoop, all_open: set[Any], all_ready: dict[Any, None]) -> None:
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._all_open = all_open
        self._all_ready = all_ready
        self._poll = select.poll()
        self._unsent: deque[Buffer] = deque()
        self._is_paused = False

    # ---- what differs between protocols ----

    def check_peer(self) -> None:
        """Refuse a server that does not speak the protocol, right after connecting."""

    def has_room(self, *, alone: bool = False) -> bool:
        """Whether it can take a call now, or one that carries nobody else's beside it."""
        raise NotImplementedError

    def is_idle(self) -> bool:
        """Whether it carries no call."""
        raise NotImplementedError

    def is_stale(self) -> bool:
        """Whether it is of no use any more, though it has room, be it that the event loop has not noticed yet."""
        raise NotImplementedError

    def wanted(self) -> memoryview:
        """Where the next bytes go."""
        raise NotImplementedError

    def received(self, size: int) -> None:
        """Read so many bytes; none are the end of the connection."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """End its calls, and take no others."""
        raise NotImplementedError

    def more_to_send(self) -> Sequence[Buffer]:
        """What is to be sent next, once nothing waits to be sent."""
        return ()

    # ---- what protocols use ----

    def is_gone(self) -> bool:
        """Whether it is being closed, as far as the event loop knows."""
        return self._transport.is_closing()

    def pending_events(self) -> int:
        """What ``poll`` says of the socket: that bytes came, its end, or both."""
        events = self._poll.poll(0)
        return events[0][1] if events else 0

    def is_all_sent(self) -> bool:
        """Whether nothing waits to be sent."""
        return len(self._unsent) == 0 and self._transport.get_write_buffer_size() == 0

    def abort(self) -> None:
        """Close the socket without sending what is left."""
        self._unsent.clear()
        self.fail(ConnectionAbortedError("the connection was closed"))
        self._transport.abort()

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send buffers, one slice in a turn of the loop."""
        was_empty = len(self._unsent) == 0
        self._queue(buffers)
        if was_empty:
            self._write()

    def flush(self) -> None:
        """Begin to send what there is to send; what follows it goes by itself."""
        if len(self._unsent) == 0:
            self.send(self.more_to_send())

    def drop_unsent(self) -> None:
        """Forget what waits to be sent."""
        self._unsent.clear()

    def _queue(self, buffers: Sequence[Buffer]) -> None:
        self._unsent.extend([buffer for buffer in buffers if len(buffer) > 0])

    # ---- what asyncio calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)
        # Nothing is written while something waits, since asyncio before Python 3.12 copies what has to wait.
        self._transport.set_write_buffer_limits(high=1)
        self._all_open.add(self)
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._poll.register(self._fd, _READABLE)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the protocol knows better
        """Where the next bytes go; asyncio calls this."""
        return self.wanted()[:_SLICE_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Read what came; asyncio calls this."""
        self.received(nbytes)

    def eof_received(self) -> None:
        """Note that no more comes; asyncio calls this."""
        self._read_end()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; asyncio calls this."""
        if exc is None:
            self._read_end()
        self.fail(exc or ConnectionResetError(CLOSED_BY_SERVER))
        # asyncio's TLS transport counts as open until it is told.
        self._transport.abort()
        self._all_open.discard(self)
        self._all_ready.pop(self, None)
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
        self._transport.write(self._next_slice())
        if len(self._unsent) == 0:
            self._queue(self.more_to_send())
        if len(self._unsent) > 0 and not self._is_paused:
            self._loop.call_soon(self._write)

    def _next_slice(self) -> Buffer:
        """Take off what is written at once: small buffers joined, or a piece of a large one."""
        unsent = self._unsent
        small: list[Buffer] = []
        size = 0
        while unsent and (length := len(unsent[0])) < JOIN_BELOW_BYTES and size < _SLICE_BYTES:
            small.append(unsent.popleft())
            size += length
        if small:
            return b"".join(small)
        piece = memoryview(unsent.popleft())
        if len(piece) > _SLICE_BYTES:
            unsent.appendleft(piece[_SLICE_BYTES:])
        return piece[:_SLICE_BYTES]

    def _read_end(self) -> None:
        """Let the protocol judge the end of the connection, which may be how a reply ends."""
        if self._is_end_genuine():
            self.received(0)

    def _is_end_genuine(self) -> bool:
        """Whether TLS said goodbye; otherwise anybody on the way could have cut the reply off."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return len(tls.read(1)) == 0
        except ssl.SSLError as error:
            return isinstance(error, ssl.SSLZeroReturnError)


ConnectionT = TypeVar("ConnectionT", bound=AsyncConnection)


class AsyncPool(Generic[ConnectionT]):
    """Connections to one server, for one event loop.

    Args:
        kind: Class of the connections.
        host: Host name or address.
        port: Port.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, where ``host`` is one of its addresses: it is asked for, and certificates are for it.

    Attributes:
        endpoint: ``host:port`` of the server.
        authority: The same by its name.
        closed: Whether it was closed.
    """

    def __init__(
        self, kind: type[ConnectionT], host: str, port: int, tls: ssl.SSLContext | None, name: str | None
    ) -> None:
        self.endpoint = endpoint_text(host, port)
        self.authority = endpoint_text(name if name is not None else host, port)
        self.closed = False
        self._kind = kind
        self._host = host
        self._port = port
        self._tls = tls
        self._name = name if name is not None else host
        self._ready: dict[ConnectionT, None] = {}
        self._open: set[ConnectionT] = set()
        self._connecting: dict[asyncio.Task[ConnectionT], int] = {}  # and how many calls wait for it

    def ready(self, call: Call, *, alone: bool = False) -> ConnectionT | None:
        """A connection that can take a call at once, the one used last of them; ``None`` where there is none.

        Args:
            call: The call.
            alone: Whether it is to carry nobody else's beside it.

        Raises:
            Cancelled: The pool is closed.
        """
        if self.closed:
            raise call.closed_error()
        while True:
            connection = next((one for one in reversed(self._ready) if one.has_room(alone=alone)), None)
            if connection is None or not connection.is_stale():
                return connection
            self._ready.pop(connection, None)
            connection.abort()

    async def connected(self, call: Call, *, alone: bool = False) -> ConnectionT:
        """A connection that can take a call, as ``ready``, once there is one.

        Raises:
            DeadlineExceeded: The time of the call is over.
            ConnectionFailed: Nobody answers, or not in the protocol.
            Cancelled: The pool was closed.
        """
        while True:
            connection = await self._new(call, alone=alone)
            if connection.is_idle() or connection.has_room(alone=alone):
                return connection
            # Others were quicker.
            found = self.ready(call, alone=alone)
            if found is not None:
                return found

    def update(self, connection: ConnectionT) -> None:
        """Keep a connection for the next calls, or close it, after it began or ended one."""
        is_kept = connection in self._ready or len(self._ready) < MAX_IDLE_CONNECTIONS
        if connection.has_room() and is_kept and not self.closed:
            self._ready[connection] = None
        else:
            self._ready.pop(connection, None)
            if connection.is_idle():
                connection.abort()

    async def _new(self, call: Call, *, alone: bool) -> ConnectionT:
        """A new connection, or one that is being made for other calls and has room for this one."""
        most = 0 if alone else self._kind.calls_at_once
        task = next((task for task, count in self._connecting.items() if count < most), None)
        if task is None:
            # A task of its own, because asyncio.wait_for can lose a result or a cancellation before Python 3.12.
            task = asyncio.get_running_loop().create_task(self._connect(call))
            self._connecting[task] = 0
            task.add_done_callback(self._connecting.pop)
        self._connecting[task] += 1
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
        # A ValueError is a host name that no resolver would take, or a server that speaks something else.
        except (OSError, ValueError) as error:
            raise error_from_failure(error, call, was_connected=False, is_closed=self.closed) from error

    async def close(self) -> None:
        """Close every connection; exchanges end at once."""
        self.closed = True
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.lost for connection in connections))

    def _abandon(self, task: asyncio.Task[ConnectionT]) -> None:
        def keep(task: asyncio.Task[ConnectionT]) -> None:
            if not task.cancelled() and task.exception() is None:
                self.update(task.result())

        if task in self._connecting:
            self._connecting[task] -= 1
            if self._connecting[task] > 0:
                return
            task.cancel()
        task.add_done_callback(keep)

    async def _connect(self, call: Call) -> ConnectionT:
        loop = asyncio.get_running_loop()
        connected = await self._connected_socket(loop, call)
        _, connection = await loop.create_connection(
            lambda: self._kind(loop, self._open, self._ready),
            sock=connected,
            ssl=self._tls,
            server_hostname=None if self._tls is None else self._name,
        )
        try:
            connection.check_peer()
        except ValueError:
            connection.abort()
            raise
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
