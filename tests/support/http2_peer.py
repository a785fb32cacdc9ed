"""A gRPC server of the h2 library: in memory, or on a socket."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from support.http_ends import Answer, Server

from tritonforge_client.core.steps import Steps

T = TypeVar("T")

HEAD = [(":status", "200"), ("content-type", "application/grpc")]
GOOD = [("grpc-status", "0")]


def message_of(data: bytes, *, compressed: bool = False) -> bytes:
    return bytes((compressed,)) + len(data).to_bytes(4, "big") + data


class Peer:
    """A server: takes what the client sends, and answers each request once it is whole.

    Args:
        answer: Sends the answer to the request of a stream.
        window: Bytes that a stream may send before it is given more.
        frame_bytes: Size of the client's largest frame.
    """

    def __init__(self, answer: Callable[[Peer, int], None], *, window: int = 65_535, frame_bytes: int = 16_384) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.MAX_FRAME_SIZE: frame_bytes})
        self.answer = answer
        self.heads: list[dict[str, str]] = []
        self.bodies: dict[int, bytearray] = {}
        self.resets: list[int] = []
        self.sent = bytearray()

    @property
    def received(self) -> bytearray:
        """What the last request has sent."""
        return self.bodies[max(self.bodies)]

    def receive(self, data: bytes) -> None:
        if self.h2.state_machine.state is ConnectionState.CLOSED:
            return  # the library takes nothing after a GOAWAY
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.heads.append({str(name): str(value) for name, value in event.headers})
                self.bodies[event.stream_id] = bytearray()
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self.answer(self, event.stream_id)
            elif isinstance(event, StreamReset):
                self.resets.append(event.stream_id)
        self.sent += self.h2.data_to_send()

    def take(self, size: int) -> bytes:
        self.sent += self.h2.data_to_send()
        data = bytes(self.sent[:size])
        del self.sent[:size]
        return data

    def run(self, steps: Steps[T], sizes: Iterator[int] = itertools.repeat(1 << 30)) -> T:  # noqa: B008
        """Do what the steps ask for; so much comes at once."""
        try:
            io = next(steps)
            while True:
                if isinstance(io, memoryview):
                    data = self.take(min(len(io), next(sizes)))
                    io[: len(data)] = data
                    io = steps.send(len(data))
                else:
                    for buffer in io:  # the library takes up a setting only after what it was received with
                        self.receive(bytes(buffer))
                    io = steps.send(0)
        except StopIteration as stop:
            result: T = stop.value
            return result


def sending(
    *messages: bytes, trailers: Sequence[tuple[str, str]] = GOOD, piece: int = 10_000
) -> Callable[[Peer, int], None]:
    """An answer of so many messages, in frames of so many bytes."""

    def answer(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, HEAD)
        data = b"".join(messages)
        for at in range(0, len(data), piece):
            peer.h2.send_data(stream, data[at : at + piece], pad_length=3 if at % 3 == 1 else None)
        peer.h2.send_headers(stream, trailers, end_stream=True)

    return answer


def echo(peer: Peer, stream: int) -> None:
    sending(bytes(peer.bodies[stream]))(peer, stream)


def failing(trailers: Sequence[tuple[str, str]]) -> Callable[[Peer, int], None]:
    return lambda peer, stream: peer.h2.send_headers(stream, [*HEAD, *trailers], end_stream=True)


def speaking(made: Callable[[], Peer]) -> Answer:
    """What ``tcp_server`` takes: each connection has a peer of its own."""

    def answer(_: Server, connection: socket.socket) -> None:
        peer = made()
        connection.sendall(peer.take(1 << 30))
        while data := connection.recv(1 << 20):
            peer.receive(data)
            connection.sendall(peer.take(1 << 30))

    return answer
