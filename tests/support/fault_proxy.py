"""A scripted TCP proxy in front of a real server: connections break, stall and lie when a test says so.

::

    client ──request──▶ FaultProxy ──request──▶ server
           ◀──reply────            ◀──reply────

Each direction has at most one fault. It is switched on at any moment, also for open connections, and stays until the
next one or ``heal()``. Bytes are counted on each connection from the moment the fault was switched on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http
import math
import random
import re
import socket
import struct
import termios
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, TypeVar

from typing_extensions import Self

Direction = Literal["request", "reply"]

_T = TypeVar("_T")

_PIECE_BYTES: Final = 64 * 1024
_SLOW_STEP_S: Final = 0.02
_SWITCH_S: Final = 5.0
_DRAIN_S: Final = 1.0
_LINGER_0: Final = struct.pack("ii", 1, 0)
# States of include/net/tcp_states.h. The peer has closed nothing in ESTABLISHED, FIN_WAIT1 and FIN_WAIT2.
_HELD_BY_PEER: Final = frozenset({1, 4, 5})
_TCP_CLOSE: Final = 7
_REQUEST_START: Final = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE) /")
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BUSY: Final = b'{"error":"Exceeds maximum queue size"}'


class FaultProxy:
    """A proxy on 127.0.0.1 that passes bytes both ways until told otherwise. It listens as soon as it is made.

    ::

        with FaultProxy("127.0.0.1", 8001) as proxy, Client(f"grpc://127.0.0.1:{proxy.port}") as client:
            proxy.stall(after_bytes=100)

    All of it runs in one thread of its own. When a method returns, its fault is on.

    Args:
        target_host: Host of the server; it need not listen yet.
        target_port: Port of the server.

    Attributes:
        port: Port that it listens on; it stays the same, and taken, while connections are refused.
        accepted: Connections accepted so far.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        family, *_, address = socket.getaddrinfo(target_host, target_port, type=socket.SOCK_STREAM)[0]
        self._target: _Target = (socket.AddressFamily(family), address)
        self.accepted = 0
        self._passed_bytes: dict[Direction, int] = {"request": 0, "reply": 0}
        self._faults: dict[Direction, _Fault] = {"request": _Fault(), "reply": _Fault()}
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._listener: socket.socket | None = None
        # Bound but not listening: connections are refused, and nobody else gets the port.
        self._reservation = _bound_socket(0)
        self.port: int = self._reservation.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._switch(self._listen)

    # ---- faults ----

    def heal(self) -> None:
        """End every fault: listen, thaw, and pass bytes both ways. Held bytes go on."""

        def heal() -> None:
            self._listen()
            self._thawed.set()
            self._set_fault("request", _Fault())
            self._set_fault("reply", _Fault())

        self._switch(heal)

    def refuse(self) -> None:
        """Refuse new connections; open ones stay."""
        self._switch(self._stop_listening)

    def reset(self, after_bytes: int = 0, direction: Direction = "reply") -> None:
        """End connections on both sides with a reset (RST).

        Args:
            after_bytes: Bytes that still pass; 0 resets when the first byte comes, which is then lost.
            direction: Where they are counted.
        """
        self._switch_fault(direction, _After(after_bytes, _Reset))

    def cut(self, after_bytes: int = 0, direction: Direction = "reply") -> None:
        """End connections on both sides in an orderly way (FIN); the arguments are those of ``reset()``."""
        self._switch_fault(direction, _After(after_bytes, _Cut))

    def stall(self, after_bytes: int = 0, direction: Direction = "reply") -> None:
        """Hold bytes back; the connection stays.

        Args:
            after_bytes: Bytes that still pass.
            direction: Where they are counted and held.
        """
        self._switch_fault(direction, _After(after_bytes, None))

    def slow(self, bytes_per_s: float, direction: Direction = "reply") -> None:
        """Pass bytes slowly.

        Args:
            bytes_per_s: Bytes a second on each connection, above 0.
            direction: Where they are slow.
        """
        self._switch_fault(direction, _Slow(bytes_per_s))

    def garbage(self) -> None:
        """Pass requests, and noise of the same length instead of each reply. It is the same noise in each run."""
        self._switch_fault("reply", _Garbage())

    def http_status(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, count: int | None = None
    ) -> None:
        """Answer HTTP requests without the server, which need not run. Connections are kept.

        Args:
            status: Status code.
            body: The answer's body.
            headers: Headers beside ``Content-Length``.
            count: Requests that are answered so, on all connections together; later ones pass. ``None`` means all.
        """
        self._switch_fault("request", _HttpStatus(_answer_from_status(status, body, headers or {}), count))

    def burst(self, count: int) -> None:
        """Answer the next ``count`` HTTP requests with 503, as Triton does while a queue is full."""
        self.http_status(503, _BUSY, {"Content-Type": "application/json"}, count=count)

    def freeze(self) -> None:
        """Let everything wait: bytes, ends of connections, new connections (the kernel accepts them)."""
        self._switch(self._thawed.clear)

    def thaw(self) -> None:
        """End ``freeze()``; other faults stay."""
        self._switch(self._thawed.set)

    # ---- what happened ----

    @property
    def passed_bytes(self) -> Mapping[Direction, int]:
        """Bytes sent on so far by direction, noise included."""
        return dict(self._passed_bytes)

    def open_connections(self) -> int:
        """Count the connections that clients hold: neither closed nor reset by them, as the kernel knows it."""
        return self._switch(lambda: sum(connection.is_held_by_client() for connection in self._connections))

    # ---- life ----

    def close(self) -> None:
        """Drop all connections and end the thread. A second call does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(_SWITCH_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reservation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- in the proxy's own thread ----

    def _switch(self, action: Callable[[], _T]) -> _T:
        """Run an action in the proxy's thread and wait for it."""

        async def run() -> _T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_SWITCH_S)

    def _switch_fault(self, direction: Direction, fault: _Fault) -> None:
        self._switch(lambda: self._set_fault(direction, fault))

    def _set_fault(self, direction: Direction, fault: _Fault) -> None:
        self._faults[direction].ended.set()
        self._faults[direction] = fault

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bound_socket(self.port)
            self._listener.listen()
            self._loop.add_reader(self._listener, self._accept, self._listener)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has gone again
        self.accepted += 1
        connection = _Connection(client, self._target)
        task = self._loop.create_task(self._serve(connection))
        self._connections[connection] = task
        # Not in _serve: a task that is cancelled before its first step runs nothing of it.
        task.add_done_callback(lambda _: self._forget(connection))

    def _forget(self, connection: _Connection) -> None:
        del self._connections[connection]
        connection.close()

    async def _end_all(self) -> None:
        self._stop_listening()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, connection: _Connection) -> None:
        pumps = [asyncio.ensure_future(pump) for pump in (self._pump_request(connection), self._pump_reply(connection))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for pump in pumps:
                pump.cancel()
            # Nobody may wait for a socket that is closed.
            ends = await asyncio.gather(*pumps, return_exceptions=True)
        if any(isinstance(end, _Cut) for end in ends):
            await connection.cut()
        elif any(isinstance(end, Exception) for end in ends):
            # Ordered, or broken on one side: then it breaks on the other too.
            await connection.reset()

    async def _pump_request(self, connection: _Connection) -> None:
        await self._thawed.wait()
        if self._faults["request"].needs_server:
            await connection.connect()
        await self._pump("request", connection, connection.client)
        if connection.upstream is not None:
            connection.upstream.shutdown(socket.SHUT_WR)
        connection.decided.set()

    async def _pump_reply(self, connection: _Connection) -> None:
        await connection.decided.wait()
        if connection.upstream is not None:
            await self._pump("reply", connection, connection.upstream)
            connection.client.shutdown(socket.SHUT_WR)

    async def _pump(self, direction: Direction, connection: _Connection, source: socket.socket) -> None:
        """Carry bytes until their source ends."""

        async def send(data: bytes) -> None:
            sink = connection.client if direction == "reply" else await connection.connect()
            await self._loop.sock_sendall(sink, data)
            self._passed_bytes[direction] += len(data)

        while data := await self._loop.sock_recv(source, _PIECE_BYTES):
            while len(data) > 0:
                await self._thawed.wait()
                data = await self._faults[direction].carry(connection, data, send)
        await self._thawed.wait()
        await self._faults[direction].carry_end()


_Target = tuple[socket.AddressFamily, tuple[Any, ...]]
_Send = Callable[[bytes], Awaitable[None]]


class _Connection:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, target: _Target) -> None:
        _prepare(client)
        self.client = client
        self.upstream: socket.socket | None = None
        self.decided = asyncio.Event()  # connected, or it is known that nothing is to be sent
        self._target = target

    async def connect(self) -> socket.socket:
        """Return the connection to the server; the first call makes it. Only the request's pump calls this."""
        if self.upstream is None:
            family, address = self._target
            upstream = socket.socket(family, socket.SOCK_STREAM)
            try:
                _prepare(upstream)
                await asyncio.get_running_loop().sock_connect(upstream, address)
            except BaseException:
                upstream.close()
                raise
            self.upstream = upstream
            self.decided.set()
        return self.upstream

    def is_held_by_client(self) -> bool:
        """Whether the client has neither closed nor reset its side."""
        return self.client.fileno() >= 0 and _tcp_state(self.client) in _HELD_BY_PEER

    async def cut(self) -> None:
        """End in an orderly way, and wait until the client has closed its side too."""
        if self.upstream is not None:
            self.upstream.close()
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_WR)
            # Closing with bytes unread would be a reset.
            while await asyncio.get_running_loop().sock_recv(self.client, _PIECE_BYTES):
                pass

    async def reset(self) -> None:
        """End with resets, after what was passed has arrived: a reset throws away what is still to be sent."""
        sides = [side for side in (self.client, self.upstream) if side is not None]
        for side in sides:
            await _drain(side)
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.close()

    def close(self) -> None:
        """Close both sides."""
        self.client.close()
        if self.upstream is not None:
            self.upstream.close()


class _Fault:
    """What happens to bytes on their way; this one passes them. ``ended`` is set when another takes its place."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    @property
    def needs_server(self) -> bool:
        """Whether a new connection needs one to the server at once."""
        return True

    async def carry(self, connection: _Connection, data: bytes, send: _Send) -> bytes:
        """Do with bytes what this fault does; returns those that are left to whatever fault is on then."""
        await send(data)
        return b""

    async def carry_end(self) -> None:
        """Return when the end of the bytes may pass."""


class _Slow(_Fault):
    def __init__(self, bytes_per_s: float) -> None:
        super().__init__()
        if bytes_per_s <= 0:
            raise ValueError(f"bytes_per_s: expected a number above 0, got {bytes_per_s}; use stall() to stop bytes")
        self._bytes_per_s = bytes_per_s

    async def carry(self, connection: _Connection, data: bytes, send: _Send) -> bytes:
        count = max(1, int(self._bytes_per_s * _SLOW_STEP_S))
        await send(data[:count])
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.ended.wait(), min(count, len(data)) / self._bytes_per_s)
        return data[count:]


class _Garbage(_Fault):
    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(0)

    async def carry(self, connection: _Connection, data: bytes, send: _Send) -> bytes:
        await send(self._random.randbytes(len(data)))
        return b""


class _After(_Fault):
    """Passes some bytes of each connection, then ends it, or holds the rest where no way to end is given."""

    def __init__(self, after_bytes: int, end: type[_Cut | _Reset] | None) -> None:
        super().__init__()
        self._after_bytes = after_bytes
        self._end = end
        self._passed_bytes: dict[_Connection, int] = {}

    async def carry(self, connection: _Connection, data: bytes, send: _Send) -> bytes:
        passed = self._passed_bytes.get(connection, 0)
        piece = data[: self._after_bytes - passed]
        if len(piece) > 0:
            await send(piece)
        self._passed_bytes[connection] = passed + len(piece)
        if passed + len(piece) == self._after_bytes:
            if self._end is not None:
                raise self._end
            await self.ended.wait()
        return data[len(piece) :]

    async def carry_end(self) -> None:
        if self._end is None:
            await self.ended.wait()


class _HttpStatus(_Fault):
    def __init__(self, answer: bytes, count: int | None) -> None:
        super().__init__()
        self._answer = answer
        self._left = math.inf if count is None else count

    @property
    def needs_server(self) -> bool:
        return self._left == 0

    async def carry(self, connection: _Connection, data: bytes, send: _Send) -> bytes:
        if self._left == 0 or _REQUEST_START.match(data) is None:
            return await super().carry(connection, data, send)
        self._left -= 1
        rest = await _read_request(connection.client, data)
        await asyncio.get_running_loop().sock_sendall(connection.client, self._answer)
        return rest


class _Cut(Exception):
    """End the connection with a FIN."""


class _Reset(Exception):
    """End the connection with a RST."""


async def _read_request(client: socket.socket, data: bytes) -> bytes:
    """Read an HTTP request, whose body has a ``Content-Length``, to its end; returns what was read beyond it."""
    while b"\r\n\r\n" not in data:
        data += await _receive(client, _PIECE_BYTES)
    head, _, body = data.partition(b"\r\n\r\n")
    length = _CONTENT_LENGTH.search(head)
    length_bytes = int(length[1]) if length is not None else 0
    missing_bytes = length_bytes - len(body)
    while missing_bytes > 0:
        missing_bytes -= len(await _receive(client, min(missing_bytes, _PIECE_BYTES)))
    return body[length_bytes:]


async def _receive(client: socket.socket, most_bytes: int) -> bytes:
    data = await asyncio.get_running_loop().sock_recv(client, most_bytes)
    if data == b"":
        raise ConnectionResetError("the client ended in the middle of a request")
    return data


def _answer_from_status(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    # Two sockets may have one port while only one of them listens.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    bound.bind(("127.0.0.1", port))
    return bound


def _prepare(stream: socket.socket) -> None:
    stream.setblocking(False)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _tcp_state(stream: socket.socket) -> int:
    return stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


async def _drain(stream: socket.socket) -> None:
    """Wait until the peer's kernel has all that was sent, or a while: a peer may not read, or be gone."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _DRAIN_S
    while _tcp_state(stream) != _TCP_CLOSE and loop.time() < end_s:
        if struct.unpack("i", fcntl.ioctl(stream, termios.TIOCOUTQ, bytes(4)))[0] == 0:
            return
        await asyncio.sleep(0.001)
