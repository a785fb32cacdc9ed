"""gRPC over plain sockets: connections that are kept, and those that are not."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.certificates import self_signed
from support.http2_peer import HEAD, Peer, echo, message_of, sending, speaking
from support.http_ends import Server, tcp_server

from tritonforge_client import TLS, Cancelled, Client, ConnectionFailed, DeadlineExceeded, InvalidInput, Options
from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.transport.grpc import GrpcTransport


def call_of(timeout_s: float = 5, **options: object) -> Call:
    return Call(endpoint="h", timeout_s=timeout_s, **options)  # type: ignore[arg-type]


def request_of(message: bytes = b"hello") -> GrpcRequest:
    return GrpcRequest(method="ModelInfer", body=(message,))


@contextmanager
def transport_to(made: Callable[[], Peer], tls: ssl.SSLContext | None = None) -> Iterator[tuple[GrpcTransport, Server]]:
    with tcp_server(speaking(made), tls) as server:
        transport = GrpcTransport("127.0.0.1", server.port)
        try:
            yield transport, server
        finally:
            transport.close()


def peers(*answers: Callable[[Peer, int], None]) -> Callable[[], Peer]:
    """One peer after the other, for one connection after the other."""
    left = iter(answers)
    return lambda: Peer(next(left))


def test_a_connection_carries_one_call_after_the_other() -> None:
    with transport_to(peers(echo)) as (transport, server):
        for size in (0, 5, 300_000):
            message = np.random.default_rng(size).bytes(size)
            assert bytes(transport.send(request_of(message), call_of())) == message
        assert server.connections == 1


def test_calls_at_once_have_a_connection_each_and_get_their_own_answers() -> None:
    together = threading.Barrier(6)

    def answer(peer: Peer, stream: int) -> None:
        together.wait(5)
        echo(peer, stream)

    with transport_to(lambda: Peer(answer)) as (transport, server):
        got: dict[int, bytes] = {}

        def ask(number: int) -> None:
            got[number] = bytes(transport.send(request_of(bytes([number]) * 70_000), call_of()))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert got == {number: bytes([number]) * 70_000 for number in range(6)}
        assert server.connections == 6


def test_a_server_that_said_it_leaves_gets_no_other_call() -> None:
    def last(peer: Peer, stream: int) -> None:
        echo(peer, stream)
        peer.sent += peer.h2.data_to_send() + b"\0\0\x08\x07\0\0\0\0\0" + stream.to_bytes(4, "big") + bytes(4)

    with transport_to(peers(last, echo)) as (transport, server):
        assert transport.send(request_of(), call_of()) == b"hello"
        time.sleep(0.05)  # the GOAWAY comes when nobody waits for it
        assert transport.send(request_of(), call_of()) == b"hello"
        assert server.connections == 2


def test_what_a_server_says_between_calls_is_no_reason_to_leave_it() -> None:
    def pinging(peer: Peer, stream: int) -> None:
        echo(peer, stream)
        peer.h2.ping(b"12345678")

    with transport_to(peers(pinging)) as (transport, server):
        for _ in range(5):
            assert transport.send(request_of(), call_of()) == b"hello"
            time.sleep(0.02)
        assert server.connections == 1


def test_a_call_that_ends_early_ends_at_the_server_too() -> None:
    ended = threading.Event()

    def silent(server: Server, connection: socket.socket) -> None:
        while connection.recv(1 << 20):
            pass
        ended.set()

    with tcp_server(silent) as server:
        transport = GrpcTransport("127.0.0.1", server.port)
        with pytest.raises(DeadlineExceeded):
            transport.send(request_of(), call_of(0.1))
        assert ended.wait(5)
        ended.clear()
        done = threading.Event()
        pending = transport.begin(request_of(), call_of(30), done.set)
        time.sleep(0.1)
        pending.cancel()
        assert done.wait(5)
        assert ended.wait(5)
        with pytest.raises(Cancelled):
            pending.outcome()
        transport.close()


def test_a_stream_that_is_left_closes_its_connection_and_one_that_ended_does_not() -> None:
    def endless(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, HEAD)
        peer.h2.send_data(stream, message_of(b"a") * 3)

    with transport_to(peers(endless, sending(*map(message_of, (b"a", b"b", b"c"))))) as (transport, server):
        stream = transport.stream(request_of(), call_of())
        assert next(stream) == b"a"
        stream.close()  # type: ignore[attr-defined]
        for _ in range(2):
            assert list(map(bytes, transport.stream(request_of(), call_of()))) == [b"a", b"b", b"c"]
        assert server.connections == 2


def test_closing_ends_calls_in_flight_and_refuses_others() -> None:
    with transport_to(lambda: Peer(lambda _peer, _stream: None)) as (transport, _):
        threading.Timer(0.1, transport.close).start()
        began_s = time.monotonic()
        with pytest.raises(Cancelled):
            transport.send(request_of(), call_of(30))
        assert time.monotonic() - began_s < 5
        with pytest.raises(Cancelled):
            transport.send(request_of(), call_of())


def test_a_header_that_cannot_be_sent_costs_no_connection() -> None:
    with transport_to(peers(echo)) as (transport, server):
        assert transport.send(request_of(), call_of()) == b"hello"
        with pytest.raises(InvalidInput):
            transport.send(request_of(), call_of(headers={"x": "a\nb"}))
        assert transport.send(request_of(), call_of()) == b"hello"
        assert server.connections == 1


def test_over_tls_http2_has_to_be_chosen(tmp_path: Path) -> None:
    both = self_signed(tmp_path)
    for protocols in (["h2"], ["http/1.1"], []):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        if protocols:
            context.set_alpn_protocols(protocols)
        with tcp_server(speaking(lambda: Peer(echo)), context) as server:
            target = f"grpcs://127.0.0.1:{server.port}"
            options = Options(retry=None, timeout_s=5)
            with Client(target, tls=TLS(root_certificates=tmp_path / "certificate.pem"), options=options) as client:
                if protocols == ["h2"]:
                    transport = client._session.caller.transports[0]
                    assert bytes(transport.send(request_of(bytes(200_000)), call_of())) == bytes(200_000)
                else:
                    with pytest.raises(ConnectionFailed, match="a server that speaks HTTP/2 over TLS"):
                        client.spec("m")
