"""Connections of asyncio that do what the steps of a protocol ask for, and the pools that keep them.

A call takes one future and one timer; nothing of it is a task of its own, and no step of it has a timeout of its own.
"""

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
    from tritonforge_client.core.http2 import Buffer, Steps

T = TypeVar("T")

# So much is sent or received in one turn of the event loop, which takes some tenths of a millisecond.
_SLICE_BYTES: Final = 256 * 1024

# Linux tells the end of the bytes apart from bytes.
_READABLE: Final = select.POLLIN | getattr(select, "POLLRDHUP", 0)

_CLOSED_BY_SERVER: Final = "the server closed the connection"


class AsyncConnection(asyncio.BufferedProtocol):
    """One connection, which carries one exchange at a time.

    Args:
        loop: The event loop.
        all_open: The open connections of the pool, for it to be among them.
        all_idle: Those of them that are idle; one that is lost leaves them.

    Attributes:
        reusable: Whether it can carry an exchange: it is new, or the last one came to a proper end.
        lost: Is done when the socket is closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, all_open: set[Any], all_idle: dict[Any, None]) -> None:
        self.reusable = True
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._all_open = all_open
        self._all_idle = all_idle
        self._poll = select.poll()
        self._wanted = memoryview(b"")
        self._unsent: deque[memoryview] = deque()
        self._is_paused = False
        self._steps: Steps[Any] | None = None
        self._outcome: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # ---- what differs between protocols ----

    def check_peer(self) -> None:
        """Refuse a server that does not speak the protocol, right after connecting."""

    def is_stale(self) -> bool:
        """Whether it is of no use any more, after it was idle, be it that the event loop has not noticed yet."""
        raise NotImplementedError

    def has_ended_well(self) -> bool:
        """Whether another exchange may follow the one whose steps have ended."""
        raise NotImplementedError

    def idle_room(self) -> memoryview:
        """Where bytes go that come between exchanges."""
        raise NotImplementedError

    def received_idle(self, size: int) -> None:
        """Read so many bytes that came between exchanges."""
        raise NotImplementedError

    # ---- exchanges ----

    def is_gone(self) -> bool:
        """Whether it is of no use any more, as far as the event loop knows."""
        return not self.reusable or self._transport.is_closing()

    def pending_events(self) -> int:
        """What ``poll`` says of the socket: that bytes came, its end, or both."""
        events = self._poll.poll(0)
        return events[0][1] if events else 0

    def run(self, steps: Steps[T], left_s: float) -> asyncio.Future[T]:
        """Do what an exchange asks for; the future gets what its steps return, or why they do not."""
        is_open, self.reusable = not self.is_gone(), False
        outcome = self._outcome = self._loop.create_future()
        self._timer = self._loop.call_later(left_s, self._fail, TimeoutError("timed out"))
        if is_open:
            self._steps = steps
            self._advance(steps, None)
        else:
            self._fail(ConnectionResetError(_CLOSED_BY_SERVER))
        return outcome

    def abort(self) -> None:
        """Close the socket without sending what is left."""
        self.reusable = False
        self._fail(ConnectionAbortedError("the connection was closed"))
        self._transport.abort()

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send buffers, one slice in a turn of the loop."""
        was_empty = len(self._unsent) == 0
        for buffer in buffers:
            view = memoryview(buffer)
            if view.nbytes > 0:
                self._unsent.append(view.cast("B"))
        if was_empty:
            self._write()

    def _advance(self, steps: Steps[Any], size: int | None) -> None:
        """Let the steps go on, after so many bytes came, as far as they come without others."""
        try:
            io = next(steps) if size is None else steps.send(size)
            while not isinstance(io, memoryview):
                self.send(io)
                io = steps.send(0)
            self._wanted = cast("memoryview", io)
        except StopIteration as stop:
            self._settle(stop.value, None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how the call ends
            self._settle(None, error)

    def _settle(self, value: Any, error: Exception | None) -> None:
        """End an exchange whose steps have ended."""
        # A server may refuse a request before it has read all of it. asyncio's TLS of Python 3.10 has no answer to the
        # last question once the connection is lost.
        self.reusable = (
            self.has_ended_well() and len(self._unsent) == 0 and self._transport.get_write_buffer_size() == 0
        )
        outcome = self._dropped()
        if outcome is None or outcome.done():
            return
        if error is None:
            outcome.set_result(value)
        else:
            outcome.set_exception(error)

    def _fail(self, error: Exception) -> None:
        outcome = self._dropped()
        if outcome is not None and not outcome.done():
            outcome.set_exception(error)

    def _dropped(self) -> asyncio.Future[Any] | None:
        """Forget the exchange and return its future."""
        if self._timer is not None:
            self._timer.cancel()
        outcome, self._outcome, self._timer, self._steps = self._outcome, None, None, None
        self._wanted = memoryview(b"")
        self._unsent.clear()
        return outcome

    # ---- what asyncio calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)
        # Nothing is written while something waits, since asyncio before Python 3.12 copies what has to wait.
        self._transport.set_write_buffer_limits(high=1)
        self._all_open.add(self)
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._poll.register(self._fd, _READABLE)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the steps know better
        """Where the next bytes go; asyncio calls this."""
        return self._wanted[:_SLICE_BYTES] if self._steps is not None else self.idle_room()

    def buffer_updated(self, nbytes: int) -> None:
        """Read what came; asyncio calls this."""
        if self._steps is not None:
            self._advance(self._steps, nbytes)
        else:
            self.received_idle(nbytes)

    def eof_received(self) -> None:
        """Note that no more comes; asyncio calls this."""
        self._read_end()
        self.reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        """End; asyncio calls this."""
        if exc is None:
            self._read_end()
        self.reusable = False
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
        self._transport.write(self._next_slice())
        if len(self._unsent) > 0 and not self._is_paused:
            self._loop.call_soon(self._write)

    def _next_slice(self) -> Buffer:
        """Take off what is written at once: small buffers joined, or a piece of a large one."""
        small: list[memoryview] = []
        size = 0
        while len(self._unsent) > 0 and len(self._unsent[0]) < JOIN_BELOW_BYTES and size < _SLICE_BYTES:
            small.append(self._unsent.popleft())
            size += len(small[-1])
        if len(small) > 0:
            return b"".join(small)
        piece = self._unsent.popleft()
        if len(piece) > _SLICE_BYTES:
            self._unsent.appendleft(piece[_SLICE_BYTES:])
        return piece[:_SLICE_BYTES]

    def _read_end(self) -> None:
        """Let the steps judge the end of the connection, which may be how a reply ends."""
        if self._steps is not None and self._is_end_genuine():
            self._advance(self._steps, 0)

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
        self._idle: dict[ConnectionT, None] = {}
        self._open: set[ConnectionT] = set()
        self._connecting: set[asyncio.Task[ConnectionT]] = set()

    def idle(self, call: Call) -> ConnectionT | None:
        """The connection that was used last and is of use still; ``None`` where there is none.

        Raises:
            Cancelled: The pool is closed.
        """
        if self.closed:
            raise call.closed_error()
        while len(self._idle) > 0:
            connection, _ = self._idle.popitem()
            if not connection.is_stale():
                return connection
            connection.abort()
        return None

    async def connected(self, call: Call) -> ConnectionT:
        """A new connection.

        Raises:
            DeadlineExceeded: The time of the call is over.
            ConnectionFailed: Nobody answers, or not in the protocol.
            Cancelled: The pool was closed.
        """
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
        # A ValueError is a host name that no resolver would take, or a server that speaks something else.
        except (OSError, ValueError) as error:
            raise error_from_failure(error, call, was_connected=False, is_closed=self.closed) from error

    def give_back(self, connection: ConnectionT) -> None:
        """Keep a connection for the next call, or close it."""
        if connection.reusable and not self.closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
            self._idle[connection] = None
        else:
            connection.abort()

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
                self.give_back(task.result())

        task.cancel()
        task.add_done_callback(keep)

    async def _connect(self, call: Call) -> ConnectionT:
        loop = asyncio.get_running_loop()
        connected = await self._connected_socket(loop, call)
        _, connection = await loop.create_connection(
            lambda: self._kind(loop, self._open, self._idle),
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
