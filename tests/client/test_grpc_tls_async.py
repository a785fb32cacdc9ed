"""gRPC over TLS, over asyncio's connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.certificates import self_signed
from support.grpc_ends import (
    PING,
    PONG,
    Speaker,
    caller_of,
    exchange_of,
    go_away,
)
from support.http_ends import Server, nothing_left_behind

from tritonforge_client import ConnectionFailed, DeadlineExceeded


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody but itself vouches for, with its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


def contexts(certificate: Path, *protocols: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server that speaks these protocols, and a client that trusts it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context, ssl.create_default_context(cafile=certificate.with_name("certificate.pem"))


def test_over_tls_connections_are_kept_while_they_are_of_use(certificate: Path) -> None:
    speaker = Speaker()
    message = np.random.default_rng(0).bytes(3_000_000)
    with caller_of(speaker, *contexts(certificate, "h2")) as (caller, server):
        for stays_in_loop in (True, False):
            assert caller.send(message) == message
            speaker.connections[-1].sendall(PING)
            caller.rest(in_loop=stays_in_loop)
        assert caller.send(message) == message
        assert speaker.heard.count(PONG) == 2
        assert server.connections == 1
        speaker.connections[-1].sendall(go_away(1))
        caller.rest(in_loop=True)
        assert caller.send() == b"hello"
        socket.socket.shutdown(speaker.connections[-1], socket.SHUT_WR)
        caller.rest(in_loop=False)
        assert caller.send() == b"hello"
        assert server.connections == 3


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
def test_over_tls_http2_has_to_be_chosen(certificate: Path, protocols: tuple[str, ...]) -> None:
    ended = threading.Event()

    def answer(_: Server, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(1)
        ended.set()

    with caller_of(answer, *contexts(certificate, *protocols)) as (caller, _):
        with pytest.raises(ConnectionFailed, match="a server that speaks HTTP/2 over TLS"):
            caller.send()
        caller.rest(in_loop=True)
        assert ended.wait(2)


def test_calls_that_wait_for_one_connection_may_give_up_alone(certificate: Path) -> None:
    """Its handshake takes until the test says so."""
    context, trust = contexts(certificate, "h2")
    goes_on, speaker = threading.Event(), Speaker()

    def slow(server: Server, connection: socket.socket) -> None:
        assert goes_on.wait(10)
        with context.wrap_socket(connection, server_side=True) as wrapped:
            speaker(server, wrapped)

    with caller_of(slow, None, trust) as (caller, server):

        async def use() -> None:
            late, cancelled, *others = (
                asyncio.create_task(caller.transport.send(*exchange_of(b"%d" % number, timeout_s=timeout_s)))
                for number, timeout_s in enumerate((0.2, 10, 10, 10))
            )
            await asyncio.sleep(0.1)
            cancelled.cancel()
            with pytest.raises(DeadlineExceeded, match="before the request was sent"):
                await late
            goes_on.set()
            assert [bytes(await other) for other in others] == [b"2", b"3"]

        caller.run(use())
        assert server.connections == 1


def test_a_connection_that_nobody_waits_for_any_more_is_not_made(certificate: Path) -> None:
    _, trust = contexts(certificate, "h2")
    ended = threading.Semaphore(0)

    def silent(_: Server, connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            pass
        ended.release()

    with caller_of(silent, None, trust) as (caller, server):

        async def use() -> None:
            calls = [asyncio.create_task(caller.transport.send(*exchange_of())) for _ in range(3)]
            await asyncio.sleep(0.1)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            assert await asyncio.to_thread(ended.acquire, timeout=5)

        caller.run(use())
        assert server.connections == 1
