"""HTTP faults that a real Triton cannot be made to show: a small TCP server answers byte by byte, or not at all."""

import asyncio
import functools
import gzip
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonforge_client import Cancelled, ConnectionFailed, DeadlineExceeded, InvalidInput, TritonError
from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import HttpRequest, HttpResponse
from tritonforge_client.transport.http import HttpTransport
from tritonforge_client.transport.http_aio import AsyncHttpTransport

Connect = Callable[..., "Blocking | Asynchronous"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = np.random.default_rng(0).bytes(3_000_000)


class Server:
    """Gives each connection, in a thread of its own, to ``answer``, and counts them."""

    def __init__(self, answer: Callable[["Server", socket.socket], None], tls: ssl.SSLContext | None) -> None:
        self.connections: list[socket.socket] = []
        self.stopping = threading.Event()
        self._answer = answer
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        self.stopping.set()
        for one in (self._listener, *self.connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._handle, args=(connection,)))
                self._threads[-1].start()

    def _handle(self, connection: socket.socket) -> None:
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            connection.settimeout(5)
            if self._tls is not None:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            self._answer(self, connection)


@contextmanager
def tcp_server(answer: Callable[[Server, socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
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
        parts.append(connection.recv(min(left, 1 << 20)))
        left -= len(parts[-1])
    return head, b"".join(parts)


def each(*replies: bytes) -> Callable[[Server, socket.socket], None]:
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
    server.stopping.wait(10)


def exchange_of(
    *body: bytes, path: str = "/", timeout_s: float = 5.0, headers: Mapping[str, str] | None = None
) -> tuple[HttpRequest, Call]:
    call = Call(endpoint="e", timeout_s=timeout_s, model="m", request_id="r", headers=headers or {})
    return HttpRequest(method="POST" if body else "GET", path=path, body=body), call


class Blocking:
    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.transport = HttpTransport(host, port, tls=tls)

    def send(self, *body: bytes, **options: Any) -> HttpResponse:
        return self.transport.send(*exchange_of(*body, **options))

    def close(self) -> None:
        self.transport.close()


class Asynchronous:
    """The event loop runs only while a call does, so that it notices nothing in between."""

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.transport = AsyncHttpTransport(host, port, tls=tls)

    def send(self, *body: bytes, **options: Any) -> HttpResponse:
        return self.loop.run_until_complete(self.transport.send(*exchange_of(*body, **options)))

    def close(self) -> None:
        self.loop.run_until_complete(self.transport.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Each test leaves as many sockets and threads as it found."""

    def count() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = count()
    yield
    end_s = time.monotonic() + 5
    while count() != before and time.monotonic() < end_s:
        time.sleep(0.01)
    assert count() == before


@pytest.fixture(params=[Blocking, Asynchronous])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of one kind: whatever a test says holds for both."""
    with ExitStack() as stack:

        def made(*args: Any, **options: Any) -> Blocking | Asynchronous:
            client: Blocking | Asynchronous = request.param(*args, **options)
            stack.callback(client.close)
            return client

        yield made


@contextmanager
def deadline_of(timeout_s: float, *, match: str = "the server may still run the request") -> Iterator[None]:
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=match) as caught:
        yield
    assert timeout_s <= time.monotonic() - start < timeout_s + 0.5
    assert (caught.value.model, caught.value.request_id) == ("m", "r")


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


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"z" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nz\r\n" * 1000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    ],
    ids=["headers", "body", "chunks", "interim replies"],
)
def test_a_reply_that_trickles_ends_at_the_deadline(connect: Connect, data: bytes) -> None:
    def answer(server: Server, connection: socket.socket) -> None:
        request_from(connection)
        for byte in data:
            connection.sendall(bytes((byte,)))
            if server.stopping.wait(0.02):
                return

    with tcp_server(answer) as server, deadline_of(0.4):
        connect(server.port).send(timeout_s=0.4)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + bytes(1_000_000)])
def test_a_reply_that_stops_ends_at_the_deadline(connect: Connect, data: bytes) -> None:
    def answer(server: Server, connection: socket.socket) -> None:
        connection.sendall(data)
        server.stopping.wait(10)

    with tcp_server(answer) as server, deadline_of(0.3):
        connect(server.port).send(timeout_s=0.3)


def test_a_server_that_does_not_read_ends_at_the_deadline(connect: Connect) -> None:
    with tcp_server(silent) as server, deadline_of(0.4):
        connect(server.port).send(bytes(50_000_000), timeout_s=0.4)


def test_a_server_that_does_not_accept_ends_at_the_deadline(connect: Connect) -> None:
    with full_listener() as port, deadline_of(0.3, match="before the request was sent"):
        connect(port).send(timeout_s=0.3)


@pytest.mark.parametrize("data", [b"", OK[:-1], b"SSH-2.0-x\r\n", OK.replace(b": 2", b": 2\r\nContent-Length: 3")])
def test_a_broken_exchange_is_a_failed_connection_and_nothing_is_sent_twice(connect: Connect, data: bytes) -> None:
    with tcp_server(each(data)) as server:
        with pytest.raises(
            ConnectionFailed, match="no connection, or it broke: .*; check that the server runs"
        ) as caught:
            connect(server.port).send(b"body")
        assert len(server.connections) == 1
    assert caught.value.retryable
    assert caught.value.__cause__ is not None


def test_a_connection_that_is_reset_is_a_failed_connection(connect: Connect) -> None:
    def answer(_: Server, connection: socket.socket) -> None:
        request_from(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with tcp_server(answer) as server, pytest.raises(ConnectionFailed, match="reset"):
        connect(server.port).send(b"body")


def test_a_refused_connection_fails_at_once(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed, match="refused"):
        connect(port).send()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".b"])
def test_a_host_name_that_cannot_be_is_a_failed_connection(connect: Connect, host: str) -> None:
    with pytest.raises(ConnectionFailed):
        connect(1, host).send()


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A host name with two addresses; the machine has none.
    resolve = socket.getaddrinfo
    with full_listener() as port, tcp_server(each(OK)) as server:
        found = [resolve("127.0.0.1", one, type=socket.SOCK_STREAM)[0] for one in (port, server.port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert connect(1, "h").send(timeout_s=2.0).status == 200


def test_a_reply_may_come_in_many_forms(connect: Connect) -> None:
    zipped = gzip.compress(b"ok")
    head = b"HTTP/1.1 200 OK\r\n"
    replies = (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        head + b"Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX-Sum: 1\r\n\r\n",
        head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped) + zipped,
        head + b"\r\nok",
    )
    with tcp_server(each(*replies)) as server:
        client = connect(server.port)
        assert [bytes(client.send().body) for _ in replies] == [b"ok"] * len(replies)
        assert len(server.connections) == 1


@pytest.mark.parametrize("body", [(LARGE, b"", b"x", LARGE[:70_000]), (b"abc",) * 3000, (bytes(100_000),) * 12])
def test_every_byte_arrives_in_order_both_ways(connect: Connect, body: tuple[bytes, ...]) -> None:
    with tcp_server(echo) as server:
        client = connect(server.port)
        for _ in range(2):
            assert bytes(client.send(*body).body) == b"".join(body)
        assert len(server.connections) == 1


def test_a_small_request_leaves_in_one_piece(connect: Connect) -> None:
    pieces: list[bytes] = []

    def answer(_: Server, connection: socket.socket) -> None:
        pieces.append(connection.recv(65536))
        connection.sendall(OK)

    with tcp_server(answer) as server:
        connect(server.port).send(b"head", bytes(16))
    assert pieces[0].startswith(b"POST / HTTP/1.1\r\nhost: 127.0.0.1:")
    assert pieces[0].endswith(b"content-length: 20\r\n\r\nhead" + bytes(16))


@pytest.mark.parametrize("reply", [OK.replace(b"1.1", b"1.0"), OK.replace(b"OK", b"OK\r\nConnection: close", 1)])
def test_a_connection_is_not_used_again_against_the_servers_wish(connect: Connect, reply: bytes) -> None:
    with tcp_server(each(reply, reply)) as server:
        client = connect(server.port)
        assert [client.send().status for _ in range(2)] == [200, 200]
        assert len(server.connections) == 2


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"], ids=["end", "reply"])
def test_a_connection_that_the_server_closed_while_idle_is_replaced(connect: Connect, after: bytes) -> None:
    def answer(_: Server, connection: socket.socket) -> None:
        request_from(connection)
        connection.sendall(OK)
        time.sleep(0.05)
        connection.sendall(after)

    with tcp_server(answer) as server:
        client = connect(server.port)
        for _ in range(3):
            assert client.send(b"x").status == 200
            time.sleep(0.15)
        assert len(server.connections) == 3


def test_a_refusal_is_read_though_the_request_was_not(connect: Connect) -> None:
    def answer(server: Server, connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        server.stopping.wait(0.2)

    with tcp_server(answer) as server:
        assert connect(server.port).send(bytes(50_000_000)).status == 413


@pytest.mark.parametrize(
    "options", [{"path": "/\r\nX: 1"}, {"headers": {"x": "1\r\nY: 2"}}, {"headers": {"x\r\nY": "2"}}]
)
def test_nothing_can_be_added_to_a_request(connect: Connect, options: Mapping[str, Any]) -> None:
    with tcp_server(each(OK)) as server:
        with pytest.raises(InvalidInput):
            connect(server.port).send(**options)
        assert len(server.connections) == 0


def test_a_closed_transport_sends_nothing(connect: Connect) -> None:
    with tcp_server(each(OK)) as server:
        client = connect(server.port)
        kind, call = exchange_of()
        client.transport.close() if isinstance(client, Blocking) else client.loop.run_until_complete(
            client.transport.close()
        )
        with pytest.raises(Cancelled, match="the client was closed during the call"):
            client.send()
