"""Both ends of an HTTP connection: a TCP server that answers whatever a test says, and the client's two transports."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import HttpRequest, HttpResponse
from tritonforge_client.transport.http import HttpTransport
from tritonforge_client.transport.http_aio import AsyncHttpTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


Answer: TypeAlias = Callable[["Server", socket.socket], None]
"""Talks over one connection and returns when it may be closed."""


class Server:
    """Gives each connection, in a thread of its own, to ``answer``.

    Attributes:
        port: Where it listens on 127.0.0.1.
        connections: How many were made to it.
        ended: Is released once for each connection that was closed from here.
        stopping: Is set when the test is over.
    """

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None) -> None:
        self._answer = answer
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._serve)]
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.ended = threading.Semaphore(0)
        self.stopping = threading.Event()
        self._threads[0].start()

    def close(self) -> None:
        self.stopping.set()
        for one in self._sockets:
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._handle, args=(connection,)))
                self._threads[-1].start()

    def _handle(self, connection: socket.socket) -> None:
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            connection.settimeout(10)
            if self._tls is not None:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            self._sockets.append(connection)
            self._answer(self, connection)
        self.ended.release()


@contextmanager
def tcp_server(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(answer, tls)
    try:
        yield server
    finally:
        server.close()


def request_from(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one request; two empty ones when the client has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    parts, left = [body], (lengths[0] if lengths else 0) - len(body)
    while left > 0:
        more = connection.recv(min(left, 1 << 20))
        if not more:
            raise ConnectionError("the client went away")
        parts.append(more)
        left -= len(more)
    return head, b"".join(parts)


def each(*replies: bytes) -> Answer:
    """Answer the requests of a connection with these bytes, then close it."""

    def answer(_: Server, connection: socket.socket) -> None:
        for reply in replies:
            if request_from(connection) == (b"", b""):
                return
            connection.sendall(reply)

    return answer


def echo(_: Server, connection: socket.socket) -> None:
    """Answer each request with its own body."""
    while (got := request_from(connection)) != (b"", b""):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got[1]))
        connection.sendall(got[1])


def silent(server: Server, _: socket.socket) -> None:
    """Neither read nor answer."""
    server.stopping.wait(10)


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel lets further ones wait."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.1)
        yield listener.getsockname()[1]


def exchange_of(
    *body: bytes, path: str = "/", timeout_s: float = 5.0, headers: Mapping[str, str] | None = None
) -> tuple[HttpRequest, Call]:
    call = Call(endpoint="e", timeout_s=timeout_s, model="m", request_id="r", headers=headers or {})
    return HttpRequest(method="POST" if body else "GET", path=path, body=body), call


class Blocking:
    """The blocking transport."""

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.transport = HttpTransport(host, port, tls=tls)

    def send(self, *body: bytes, **options: Any) -> HttpResponse:
        return self.transport.send(*exchange_of(*body, **options))

    def rest(self, pause_s: float, *, in_loop: bool) -> None:
        """Wait between calls; there is no event loop."""
        time.sleep(pause_s)

    def close(self) -> None:
        self.transport.close()


class Asynchronous:
    """The asynchronous transport. Its event loop runs only while a call does, or when it rests in it."""

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.transport = AsyncHttpTransport(host, port, tls=tls)

    def send(self, *body: bytes, **options: Any) -> HttpResponse:
        return self.loop.run_until_complete(self.transport.send(*exchange_of(*body, **options)))

    def rest(self, pause_s: float, *, in_loop: bool) -> None:
        """Wait between calls, with or without the event loop noticing what happens."""
        if in_loop:
            self.loop.run_until_complete(asyncio.sleep(pause_s))
        else:
            time.sleep(pause_s)

    def close(self) -> None:
        self.loop.run_until_complete(self.transport.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


Connect: TypeAlias = Callable[..., Blocking | Asynchronous]
"""Makes clients of one kind, which are closed after the test."""


@contextmanager
def clients_of(kind: type[Blocking | Asynchronous]) -> Iterator[Connect]:
    """Give a test its clients, close them after it and see that nothing is left of it."""
    with nothing_left_behind(), ExitStack() as stack:

        def made(*args: Any, **options: Any) -> Blocking | Asynchronous:
            client = kind(*args, **options)
            stack.callback(client.close)
            return client

        yield made


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """See that there are as many open files and threads afterwards as before."""

    def count() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    before = count()
    yield
    end_s = time.monotonic() + 5
    while count() != before and time.monotonic() < end_s:
        time.sleep(0.01)
    assert count() == before
