"""gRPC over asyncio's connections: what comes when nobody waits for it, and calls that are given up."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from support.http2_peer import GOOD, HEAD, Peer, echo, failing, message_of, sending
from support.http_ends import Answer, Server, nothing_left_behind, silent, tcp_server

from tritonforge_client import Cancelled, ConnectionFailed, DeadlineExceeded, InvalidInput, QueueFull
from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.transport.grpc_aio import AsyncGrpcTransport

PING = b"\0\0\x08\x06\0\0\0\0\0" + b"12345678"
PONG = b"\0\0\x08\x06\x01\0\0\0\0" + b"12345678"

T = TypeVar("T")
PeerAnswer = Callable[[Peer, int], None]


def go_away(last_stream: int) -> bytes:
    return b"\0\0\x08\x07\0\0\0\0\0" + last_stream.to_bytes(4, "big") + bytes(4)


def exchange_of(message: bytes = b"hello", timeout_s: float = 5, **options: object) -> tuple[GrpcRequest, Call]:
    call = Call(endpoint="h", timeout_s=timeout_s, model="m", **options)  # type: ignore[arg-type]
    return GrpcRequest(method="ModelInfer", body=(message,)), call


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield


def frames_from(connection: socket.socket) -> Iterator[bytes]:
    """What comes, frame by frame: the library takes up a setting only after what it was received with."""
    with connection.makefile("rb") as reader:
        yield reader.read(24)
        while head := reader.read(9):
            yield head + reader.read(int.from_bytes(head[:3], "big"))


class Speaker:
    """Each of its connections has a peer of its own.

    Args:
        answer: Answers each request.
        window: Bytes that the client may send at once.
        frame_bytes: Size of the client's largest frame.

    Attributes:
        connections: The sockets of those that were made, over which a test may say what it likes.
        heard: The first bytes of every frame that came.
        ended: Is released once for each connection that was closed.
    """

    def __init__(self, answer: PeerAnswer = echo, *, window: int = 65_535, frame_bytes: int = 16_384) -> None:
        self._answer = answer
        self._window = window
        self._frame_bytes = frame_bytes
        self.connections: list[socket.socket] = []
        self.heard = bytearray()
        self.ended = threading.Semaphore(0)

    def __call__(self, _: Server, connection: socket.socket) -> None:
        self.connections.append(connection)
        peer = Peer(self._answer, window=self._window, frame_bytes=self._frame_bytes)
        if self._window > 65_535:
            peer.h2.increment_flow_control_window(self._window - 65_535)
        try:
            connection.sendall(peer.take(1 << 30))
            for frame in frames_from(connection):
                self.heard += frame[:100]
                peer.receive(frame)
                connection.sendall(peer.take(1 << 30))
        finally:
            self.ended.release()


class Caller:
    """The transport, with an event loop that runs only while a call does, or when it rests in it."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self.transport = AsyncGrpcTransport("127.0.0.1", port, tls=tls)

    def send(self, message: bytes = b"hello", **options: object) -> bytes:
        return bytes(self.run(self.transport.send(*exchange_of(message, **options))))  # type: ignore[arg-type]

    def run(self, awaitable: Awaitable[T]) -> T:
        return self._loop.run_until_complete(awaitable)

    def rest(self, *, in_loop: bool) -> None:
        """Wait between calls, with or without the event loop noticing what happens."""
        if in_loop:
            self.run(asyncio.sleep(0.05))
        else:
            time.sleep(0.05)

    def close(self) -> None:
        self.run(self.transport.close())
        self._loop.close()


@contextmanager
def caller_of(
    answer: Answer, tls: ssl.SSLContext | None = None, trust: ssl.SSLContext | None = None
) -> Iterator[tuple[Caller, Server]]:
    with tcp_server(answer, tls) as server:
        caller = Caller(server.port, trust)
        try:
            yield caller, server
        finally:
            caller.close()


def in_loop(port: int, use: Callable[[AsyncGrpcTransport], Awaitable[None]]) -> None:
    """Run a coroutine with a transport that is closed afterwards."""

    async def main() -> None:
        transport = AsyncGrpcTransport("127.0.0.1", port)
        try:
            await use(transport)
        finally:
            await transport.close()

    asyncio.run(main())


# ---- connections ----


def test_a_connection_carries_one_call_after_the_other() -> None:
    with caller_of(Speaker()) as (caller, server):
        for size in (0, 5, 300_000, 70_000):
            message = np.random.default_rng(size).bytes(size)
            assert caller.send(message) == message
        assert server.connections == 1


def test_tasks_share_a_transport_and_get_their_own_replies() -> None:
    messages = [bytes((number,)) * (50 + number * 3000) for number in range(32)]

    async def use(transport: AsyncGrpcTransport) -> None:
        for _ in range(3):
            replies = await asyncio.gather(*(transport.send(*exchange_of(message)) for message in messages))
            assert [bytes(reply) for reply in replies] == messages
        assert server.connections == len(messages)

    with tcp_server(Speaker()) as server:
        in_loop(server.port, use)


def test_an_error_of_the_server_costs_no_connection() -> None:
    answer = failing([("grpc-status", "14"), ("grpc-message", "Exceeds maximum queue size")])
    with caller_of(Speaker(answer)) as (caller, server):
        for _ in range(3):
            with pytest.raises(QueueFull, match="Exceeds maximum queue size"):
                caller.send()
        assert server.connections == 1


def test_a_header_that_cannot_be_sent_costs_no_connection() -> None:
    with caller_of(Speaker()) as (caller, server):
        for _ in range(2):
            assert caller.send() == b"hello"
            with pytest.raises(InvalidInput):
                caller.send(headers={"x": "a\nb"})
        assert server.connections == 1


def test_a_refusal_is_read_though_the_request_was_not() -> None:
    def answer(server: Server, connection: socket.socket) -> None:
        peer = Peer(echo)
        while not peer.heads:
            peer.receive(connection.recv(1000))
        peer.h2.send_headers(1, [*HEAD, ("grpc-status", "14"), ("grpc-message", "no")], end_stream=True)
        connection.sendall(peer.take(1 << 30))
        server.stopping.wait(0.2)

    with caller_of(answer) as (caller, server):
        for _ in range(2):
            with pytest.raises(ConnectionError, match="no"):
                caller.send(bytes(5_000_000))
        assert server.connections == 2


# ---- bytes between calls ----


@pytest.mark.parametrize("in_loop", [True, False])
def test_what_a_server_says_between_calls_is_answered_and_no_reason_to_leave_it(*, in_loop: bool) -> None:
    speaker = Speaker()
    with caller_of(speaker) as (caller, server):
        for count in range(1, 4):
            assert caller.send() == b"hello"
            for half in (PING[:11], PING[11:]):  # a frame may come in pieces
                speaker.connections[0].sendall(half)
                caller.rest(in_loop=in_loop)
            if in_loop:
                assert speaker.heard.count(PONG) == count
        assert caller.send() == b"hello"
        assert speaker.heard.count(PONG) == 3
        assert server.connections == 1


@pytest.mark.parametrize("in_loop", [True, False])
@pytest.mark.parametrize(
    ("said", "ends"),
    [
        (b"", True),
        (go_away(1 << 30), False),
        (go_away(1), True),
        (b"\0\0\x01\x06\0\0\0\0\0x", False),
        (b"\0\0\x01\0\0\0\0\0\x01x", False),
    ],
    ids=["end", "goaway", "goaway and end", "damaged ping", "data of no call"],
)
def test_a_connection_that_is_of_no_use_any_more_is_replaced(said: bytes, *, ends: bool, in_loop: bool) -> None:
    speaker = Speaker()
    with caller_of(speaker) as (caller, server):
        for count in range(1, 4):
            assert caller.send() == b"hello"
            assert server.connections == count
            speaker.connections[-1].sendall(said)
            if ends:
                speaker.connections[-1].shutdown(socket.SHUT_WR)
            caller.rest(in_loop=in_loop)
            if in_loop:  # it is closed at once, and not only when another call comes
                assert speaker.ended.acquire(timeout=5)


def test_a_server_that_leaves_during_a_call_answers_it_and_gets_no_other() -> None:
    def leaving(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, HEAD)
        peer.sent += peer.h2.data_to_send() + go_away(stream)
        peer.h2.send_data(stream, message_of(b"last"))
        peer.h2.send_headers(stream, GOOD, end_stream=True)

    with caller_of(Speaker(leaving)) as (caller, server):
        for count in range(1, 4):
            assert caller.send() == b"last"
            assert server.connections == count


def test_a_server_that_leaves_without_taking_a_call_is_a_failed_connection() -> None:
    def leaving(peer: Peer, _: int) -> None:
        peer.sent += go_away(0)

    with caller_of(Speaker(leaving)) as (caller, _), pytest.raises(ConnectionFailed, match="was not taken"):
        caller.send()


# ---- streams ----


def received(caller: Caller, pause_s: float = 0.0, **options: object) -> list[bytes]:
    async def read() -> list[bytes]:
        got = []
        async for message in caller.transport.stream(*exchange_of(**options)):  # type: ignore[arg-type]
            got.append(bytes(message))
            await asyncio.sleep(pause_s)
        return got

    return caller.run(read())


@pytest.mark.parametrize("piece", [1, 4, 6, 20_000])
def test_no_byte_of_a_stream_is_lost(piece: int) -> None:
    messages = [b"", b"a", b"b" * 30_000, b"", b"c" * 100_000][: 2 if piece < 10 else 5]
    with caller_of(Speaker(sending(*map(message_of, messages), piece=piece))) as (caller, server):
        for pause_s in (0.0, 0.01):
            assert received(caller, pause_s) == messages
        assert server.connections == 1


def test_a_slow_reader_makes_the_server_wait_and_loses_nothing() -> None:
    messages = [bytes((number,)) * 1_000_000 for number in range(64)]
    sent: list[int] = []

    def answer(_: Server, connection: socket.socket) -> None:
        peer = Peer(lambda peer, stream: peer.h2.send_headers(stream, HEAD))
        while not peer.heads:
            peer.receive(connection.recv(1 << 20))
        for number, message in enumerate(messages):
            peer.h2.send_data(1, message_of(message))
            connection.sendall(peer.take(1 << 30))
            sent.append(number)
        peer.h2.send_headers(1, GOOD, end_stream=True)
        connection.sendall(peer.take(1 << 30))
        while connection.recv(1 << 20):
            pass

    async def use(transport: AsyncGrpcTransport) -> None:
        stream = transport.stream(*exchange_of(timeout_s=30))
        got = [bytes(await anext(stream))]
        await asyncio.sleep(0.5)
        assert len(sent) < 40  # the rest waits: what was not asked for fills the system's buffers
        got += [bytes(message) async for message in stream]
        assert got == messages

    with tcp_server(answer) as server:
        in_loop(server.port, use)


def test_a_stream_that_is_left_ends_at_the_server_too() -> None:
    def endless(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, HEAD)
        peer.h2.send_data(stream, message_of(b"a") * 3)

    speaker = Speaker(endless)

    async def use(transport: AsyncGrpcTransport) -> None:
        stream = transport.stream(*exchange_of())
        assert await anext(stream) == b"a"
        await stream.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(speaker.ended.acquire, timeout=2)

    with tcp_server(speaker) as server:
        in_loop(server.port, use)


def test_a_stream_that_ended_unread_leaves_a_connection_that_works() -> None:
    """Also where it came faster than it was read, so that nothing more was received for a while."""
    answer = sending(*map(message_of, [b"a", bytes(2_000_000)]), piece=1 << 20)
    speaker = Speaker(answer)

    async def use(transport: AsyncGrpcTransport) -> None:
        for _ in range(3):
            stream = transport.stream(*exchange_of())
            assert await anext(stream) == b"a"
            await asyncio.sleep(0.1)
            await stream.aclose()  # type: ignore[attr-defined]
            assert [len(message) async for message in transport.stream(*exchange_of())] == [1, 2_000_000]
        speaker.connections[-1].sendall(PING)
        await asyncio.sleep(0.1)
        assert PONG in speaker.heard

    with tcp_server(speaker) as server:
        in_loop(server.port, use)


def test_an_error_comes_after_the_messages_before_it() -> None:
    answer = sending(message_of(b"a"), message_of(b"b"), trailers=[("grpc-status", "14"), ("grpc-message", "enough")])

    async def use(transport: AsyncGrpcTransport) -> None:
        for leaves_early in (False, True):
            stream = transport.stream(*exchange_of())
            assert await anext(stream) == b"a"
            if leaves_early:
                await stream.aclose()  # type: ignore[attr-defined]
                continue
            assert await anext(stream) == b"b"
            with pytest.raises(ConnectionError, match="enough"):
                await anext(stream)

    with tcp_server(Speaker(answer)) as server:
        in_loop(server.port, use)


def test_the_deadline_is_that_of_the_whole_stream() -> None:
    def answer(server: Server, connection: socket.socket) -> None:
        peer = Peer(lambda peer, stream: peer.h2.send_headers(stream, HEAD))
        while not peer.heads:
            peer.receive(connection.recv(1 << 20))
        while not server.stopping.wait(0.05):
            peer.h2.send_data(1, message_of(b"a"))
            connection.sendall(peer.take(1 << 30))

    with caller_of(answer) as (caller, _):
        start_s = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"timeout_s=0.4 passed and no reply came"):
            received(caller, timeout_s=0.4)
        assert 0.4 <= time.monotonic() - start_s < 1


# ---- calls that are given up ----


def test_a_server_that_does_not_read_ends_at_the_deadline() -> None:
    with caller_of(silent) as (caller, _):
        start_s = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            caller.send(bytes(50_000_000), timeout_s=0.3)
        assert 0.3 <= time.monotonic() - start_s < 0.8


@pytest.mark.parametrize("body_bytes", [10, 50_000_000])
def test_a_cancelled_task_closes_its_connection_and_no_other(body_bytes: int) -> None:
    speaker = Speaker(lambda peer, stream: echo(peer, stream) if peer.received.endswith(b"!") else None)

    async def use(transport: AsyncGrpcTransport) -> None:
        call = asyncio.create_task(transport.send(*exchange_of(bytes(body_bytes))))
        await asyncio.sleep(0.1)
        assert await transport.send(*exchange_of(b"!")) == b"!"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(speaker.ended.acquire, timeout=5)
        assert await transport.send(*exchange_of(b"!")) == b"!"
        assert server.connections == 2

    with tcp_server(speaker) as server:
        in_loop(server.port, use)


def test_a_task_can_be_cancelled_at_any_step() -> None:
    """After each number of turns of the event loop once; whatever happened, the next call works."""

    async def use(transport: AsyncGrpcTransport) -> None:
        for turns in range(16):
            for size in (5, 100_000):
                call = asyncio.create_task(transport.send(*exchange_of(bytes(size))))
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait((call,))
                assert await transport.send(*exchange_of(b"abc")) == b"abc"

    with tcp_server(Speaker()) as server:
        in_loop(server.port, use)


def test_closing_ends_the_calls_of_other_tasks_and_nothing_is_sent_afterwards() -> None:
    async def use(transport: AsyncGrpcTransport) -> None:
        async def streamed() -> None:
            async for _ in transport.stream(*exchange_of(timeout_s=10)):
                pass

        calls = [asyncio.create_task(transport.send(*exchange_of(timeout_s=10))), asyncio.create_task(streamed())]
        await asyncio.sleep(0.2)
        assert not transport.closed
        start_s = time.monotonic()
        await transport.close()
        for call in calls:
            with pytest.raises(Cancelled, match="the client was closed during the call"):
                await call
        assert time.monotonic() - start_s < 1
        assert transport.closed
        with pytest.raises(Cancelled):
            await transport.send(*exchange_of())
        with pytest.raises(Cancelled):
            await anext(transport.stream(*exchange_of()))
        assert server.connections == 2

    with tcp_server(silent) as server:
        in_loop(server.port, use)


# ---- the event loop ----


def test_large_messages_leave_the_event_loop_free() -> None:
    """In processor time of its thread and at the best of three times, which other programs hardly change."""
    message = bytes(12_000_000)
    longest_s: list[float] = []

    async def watch() -> None:
        while True:
            start_s = time.thread_time()
            await asyncio.sleep(0)
            longest_s[-1] = max(longest_s[-1], time.thread_time() - start_s)

    async def use(transport: AsyncGrpcTransport) -> None:
        for _ in range(3):
            longest_s.append(0.0)
            watcher = asyncio.create_task(watch())
            replies = await asyncio.gather(*(transport.send(*exchange_of(message, timeout_s=60)) for _ in range(8)))
            watcher.cancel()
            assert [len(reply) for reply in replies] == [len(message)] * 8

    answer = sending(message_of(message), piece=1 << 20)
    with tcp_server(Speaker(answer, window=1 << 24, frame_bytes=1 << 20)) as server:
        in_loop(server.port, use)
    assert min(longest_s) < 0.02


# ---- TLS ----


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody but itself vouches for, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(path), "-out", str(path.with_name("certificate.pem"))]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    with path.open("a") as both:
        both.write(path.with_name("certificate.pem").read_text())
    return path


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
