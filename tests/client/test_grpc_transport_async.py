"""gRPC over asyncio's connections: what comes when nobody waits for it, and calls that are given up."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
from support.grpc_ends import (
    PING,
    PONG,
    RESET,
    Caller,
    Speaker,
    caller_of,
    exchange_of,
    go_away,
    in_loop,
)
from support.http2_peer import GOOD, HEAD, Peer, echo, failing, message_of, sending
from support.http_ends import Server, nothing_left_behind, silent, tcp_server

from tritonforge_client import Cancelled, ConnectionFailed, DeadlineExceeded, InvalidInput, QueueFull
from tritonforge_client.transport.grpc_aio import AsyncGrpcTransport


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield


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
        large = sum(len(message) > 65_536 for message in messages)
        assert 0 < large < server.connections == large + 1  # which the others share

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
        (b"\0\0\x01\0\0\0\0\0\x09x", False),
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
        await asyncio.sleep(0.1)
        assert RESET in speaker.heard
        assert await anext(transport.stream(*exchange_of())) == b"a"
        assert server.connections == 1

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
def test_a_cancelled_call_ends_at_the_server_and_harms_no_other(body_bytes: int) -> None:
    speaker = Speaker(lambda peer, stream: echo(peer, stream) if peer.received.endswith(b"!") else None)

    async def use(transport: AsyncGrpcTransport) -> None:
        call = asyncio.create_task(transport.send(*exchange_of(bytes(body_bytes))))
        await asyncio.sleep(0.1)
        assert await transport.send(*exchange_of(b"!")) == b"!"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.1)
        assert RESET in speaker.heard
        assert await transport.send(*exchange_of(b"!")) == b"!"
        assert server.connections == (1 if body_bytes == 10 else 2)

    with tcp_server(speaker) as server:
        in_loop(server.port, use)


def test_a_connection_from_which_nothing_comes_is_left() -> None:
    """Its server may be gone for good, and no system call tells."""
    speaker = Speaker(lambda peer, stream: echo(peer, stream) if peer.received.endswith(b"!") else None)

    async def use(transport: AsyncGrpcTransport) -> None:
        assert await transport.send(*exchange_of(b"!")) == b"!"
        for count in (1, 2):
            with pytest.raises(DeadlineExceeded):
                await transport.send(*exchange_of(b"?", timeout_s=0.2))
            assert await asyncio.to_thread(speaker.ended.acquire, timeout=5)
            assert await transport.send(*exchange_of(b"!")) == b"!"
            assert server.connections == 1 + count
        late = asyncio.create_task(transport.send(*exchange_of(b"?", timeout_s=0.5)))
        await asyncio.sleep(0)
        assert await transport.send(*exchange_of(b"!")) == b"!"
        with pytest.raises(DeadlineExceeded):
            await late
        assert await transport.send(*exchange_of(b"!")) == b"!"
        assert server.connections == 3  # of the last one something was heard

    with tcp_server(speaker) as server:
        in_loop(server.port, use)


def test_a_connection_that_breaks_ends_all_of_its_calls() -> None:
    speaker = Speaker(lambda _peer, _stream: None)

    async def use(transport: AsyncGrpcTransport) -> None:
        calls = [asyncio.create_task(transport.send(*exchange_of())) for _ in range(10)]
        await asyncio.sleep(0.1)
        assert server.connections == 1
        speaker.connections[0].shutdown(socket.SHUT_RDWR)
        for call in calls:
            with pytest.raises(ConnectionFailed):
                await call

    with tcp_server(speaker) as server:
        in_loop(server.port, use)


def test_no_more_calls_share_a_connection_than_the_server_takes() -> None:
    messages = [b"%d" % number for number in range(30)]

    async def use(transport: AsyncGrpcTransport) -> None:
        assert await transport.send(*exchange_of(b"0")) == b"0"
        replies = await asyncio.gather(*(transport.send(*exchange_of(message)) for message in messages))
        assert [bytes(reply) for reply in replies] == messages
        assert server.connections > 1

    with tcp_server(Speaker(most_calls=5)) as server:
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
