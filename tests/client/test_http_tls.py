"""HTTP over TLS, with certificates made for the test."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.certificates import self_signed
from support.http_ends import (
    OK,
    Asynchronous,
    Blocking,
    Connect,
    Server,
    clients_of,
    each,
    echo,
    request_from,
    silent,
    tcp_server,
)

from tritonforge_client import ConnectionFailed, DeadlineExceeded

LARGE = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture(params=[Blocking, Asynchronous])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Whatever a test says holds for both transports."""
    with clients_of(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody but itself vouches for, with its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """What a client speaks that trusts the certificate."""
    return ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("body", [(b"abc",), (LARGE, b"x", b"", LARGE[:70_000]), (b"abc",) * 3000])
def test_every_byte_arrives_in_order_both_ways(
    connect: Connect, server_tls: ssl.SSLContext, tls: ssl.SSLContext, body: tuple[bytes, ...]
) -> None:
    with tcp_server(echo, server_tls) as server:
        client = connect(server.port, tls=tls)
        for _ in range(2):
            assert bytes(client.send(*body).body) == b"".join(body)
        assert server.connections == 1


def test_a_certificate_that_nobody_trusts_is_a_failed_connection(connect: Connect, server_tls: ssl.SSLContext) -> None:
    with (
        tcp_server(echo, server_tls) as server,
        pytest.raises(ConnectionFailed, match="certificate verify failed") as caught,
    ):
        connect(server.port, tls=ssl.create_default_context()).send(b"secret")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_a_certificate_for_another_host_is_a_failed_connection(
    connect: Connect, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    with tcp_server(echo, server_tls) as server, pytest.raises(ConnectionFailed, match="certificate verify failed"):
        connect(server.port, "localhost", tls).send(b"secret")


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_reply_that_ends_with_the_connection_needs_the_goodbye_of_tls(
    connect: Connect, server_tls: ssl.SSLContext, tls: ssl.SSLContext, says_goodbye: bool
) -> None:
    def answer(_: Server, connection: socket.socket) -> None:
        request_from(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        if says_goodbye and isinstance(connection, ssl.SSLSocket):
            connection.unwrap()

    with tcp_server(answer, server_tls) as server:
        client = connect(server.port, tls=tls)
        if says_goodbye:
            assert bytes(client.send().body) == b"all of it"
        else:
            with pytest.raises(ConnectionFailed):
                client.send()


@pytest.mark.parametrize("in_loop", [True, False])
def test_a_connection_that_the_server_closed_while_idle_is_replaced(
    connect: Connect, server_tls: ssl.SSLContext, tls: ssl.SSLContext, in_loop: bool
) -> None:
    with tcp_server(each(OK), server_tls) as server:
        client = connect(server.port, tls=tls)
        for count in range(1, 4):
            assert client.send(b"x").status == 200
            assert server.ended.acquire(timeout=5)
            client.rest(0.02, in_loop=in_loop)
            assert server.connections == count


def test_a_handshake_that_is_not_answered_ends_at_the_deadline(connect: Connect, tls: ssl.SSLContext) -> None:
    with tcp_server(silent) as server, pytest.raises(DeadlineExceeded, match="before the request was sent"):
        connect(server.port, tls=tls).send(timeout_s=0.3)


def test_a_server_that_does_not_read_ends_at_the_deadline(
    connect: Connect, server_tls: ssl.SSLContext, tls: ssl.SSLContext
) -> None:
    with tcp_server(silent, server_tls) as server, pytest.raises(DeadlineExceeded):
        connect(server.port, tls=tls).send(bytes(50_000_000), timeout_s=0.5)
