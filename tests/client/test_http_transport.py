"""HTTP faults that a real Triton cannot be made to show: a small TCP server answers byte by byte, or not at all."""

import gzip
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from support.http_ends import (
    OK,
    Asynchronous,
    Blocking,
    Connect,
    Server,
    clients_of,
    each,
    echo,
    full_listener,
    request_from,
    silent,
    tcp_server,
)

from tritonforge_client import Client, ConnectionFailed, DeadlineExceeded, InvalidInput, ServerError

LARGE = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture(params=[Blocking, Asynchronous])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Whatever a test says holds for both transports."""
    with clients_of(request.param) as made:
        yield made


@contextmanager
def deadline_of(timeout_s: float, *, match: str = "the server may still run the request") -> Iterator[None]:
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=match) as caught:
        yield
    assert timeout_s <= time.monotonic() - start < timeout_s + 0.5
    assert (caught.value.model, caught.value.request_id) == ("m", "r")


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
        request_from(connection)
        # Late, so that a time that began anew would show.
        server.stopping.wait(0.8)
        connection.sendall(data)
        server.stopping.wait(10)

    with tcp_server(answer) as server, deadline_of(1.0):
        connect(server.port).send(timeout_s=1.0)


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
            ConnectionFailed, match=r"no connection, or it broke: .*; check that the server runs"
        ) as caught:
            connect(server.port).send(b"body")
        assert server.connections == 1
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
        assert server.connections == 1


@pytest.mark.parametrize("body", [(LARGE, b"", b"x", LARGE[:70_000]), (b"abc",) * 3000, (bytes(100_000),) * 12])
def test_every_byte_arrives_in_order_both_ways(connect: Connect, body: tuple[bytes, ...]) -> None:
    with tcp_server(echo) as server:
        client = connect(server.port)
        for _ in range(2):
            assert bytes(client.send(*body).body) == b"".join(body)
        assert server.connections == 1


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
        assert server.connections == 2


@pytest.mark.parametrize("in_loop", [True, False])
@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"], ids=["end", "reply"])
def test_a_connection_that_the_server_closed_while_idle_is_replaced(
    connect: Connect, after: bytes, in_loop: bool
) -> None:
    def answer(_: Server, connection: socket.socket) -> None:
        request_from(connection)
        connection.sendall(OK)
        time.sleep(0.05)
        connection.sendall(after)

    with tcp_server(answer) as server:
        client = connect(server.port)
        for _ in range(3):
            assert client.send(b"x").status == 200
            assert server.ended.acquire(timeout=5)
            client.rest(0.02, in_loop=in_loop)
        assert server.connections == 3


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
        assert server.connections == 0


def test_headers_of_the_caller_are_sent_over_a_kept_connection(connect: Connect) -> None:
    heads: list[bytes] = []

    def answer(_: Server, connection: socket.socket) -> None:
        while (got := request_from(connection)) != (b"", b""):
            heads.append(got[0])
            connection.sendall(OK)

    with tcp_server(answer) as server:
        client = connect(server.port)
        client.send(path="/v2/models/a%20b/ready", headers={"x-token": "t"})
        client.send(path="/v2/health/ready", headers={"x-token": "u"})
        assert server.connections == 1
    assert heads[0].startswith(b"GET /v2/models/a%20b/ready HTTP/1.1\r\n")
    assert heads[1].startswith(b"GET /v2/health/ready HTTP/1.1\r\n")
    assert [b"x-token: t" in heads[0], b"x-token: u" in heads[1]] == [True, True]


def test_redirects_are_not_followed() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    with tcp_server(each(redirect, redirect)) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        with pytest.raises(ServerError, match="302"):
            client.infer("m", {"x": np.zeros(4, np.float32)})
        assert server.connections == 1


def test_a_reply_that_is_no_inference_reply_is_a_server_error() -> None:
    with (
        tcp_server(each(OK)) as server,
        Client(f"http://127.0.0.1:{server.port}") as client,
        pytest.raises(ServerError, match="expected JSON, got b'ok'"),
    ):
        client.infer("m", {"x": np.zeros(4, np.float32)})
