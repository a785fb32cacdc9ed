"""Both ends of gRPC connections: a server that says what a test wants, and the asynchronous transport."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from h2.settings import SettingCodes
from support.http2_peer import Peer, echo
from support.http_ends import Answer, Server, tcp_server

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.transport.grpc_aio import AsyncGrpcTransport

PING = b"\0\0\x08\x06\0\0\0\0\0" + b"12345678"
PONG = b"\0\0\x08\x06\x01\0\0\0\0" + b"12345678"
RESET = b"\0\0\x04\x03\0"

T = TypeVar("T")
PeerAnswer = Callable[[Peer, int], None]


def go_away(last_stream: int) -> bytes:
    return b"\0\0\x08\x07\0\0\0\0\0" + last_stream.to_bytes(4, "big") + bytes(4)


def exchange_of(message: bytes = b"hello", timeout_s: float = 5, **options: object) -> tuple[GrpcRequest, Call]:
    call = Call(endpoint="h", timeout_s=timeout_s, model="m", **options)  # type: ignore[arg-type]
    return GrpcRequest(method="ModelInfer", body=(message,)), call


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
        most_calls: How many calls at once a connection takes.

    Attributes:
        connections: The sockets of those that were made, over which a test may say what it likes.
        heard: The first bytes of every frame that came.
        ended: Is released once for each connection that was closed.
    """

    def __init__(
        self, answer: PeerAnswer = echo, *, window: int = 65_535, frame_bytes: int = 16_384, most_calls: int = 100
    ) -> None:
        self._answer = answer
        self._window = window
        self._frame_bytes = frame_bytes
        self._most_calls = most_calls
        self.connections: list[socket.socket] = []
        self.heard = bytearray()
        self.ended = threading.Semaphore(0)

    def __call__(self, _: Server, connection: socket.socket) -> None:
        self.connections.append(connection)
        peer = Peer(self._answer, window=self._window, frame_bytes=self._frame_bytes)
        peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self._most_calls})
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
