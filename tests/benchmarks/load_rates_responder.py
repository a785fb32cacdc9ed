"""A server that answers every inference request with the same bytes, faster than any Python client can ask.

``load_rates.py`` runs it in a process of its own: it prints its ports and ends with its standard input. It knows just
enough of HTTP/1.1 and HTTP/2 for clients of one tensor, and reads nothing of what they send but where each request
ends: what is measured against it is the client alone.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
from collections.abc import Callable
from typing import Final, Protocol

SHAPE: Final = (1, 16)
"""Shape of the tensor ``x`` (FP32) that is expected, and of ``y`` that is answered."""

_ELEMENTS: Final = bytes(4 * SHAPE[0] * SHAPE[1])
_RECEIVE_BYTES: Final = 256 * 1024


def main() -> None:
    """Answer until the standard input ends."""
    loop = Responder({"http": HttpConversation, "grpc": GrpcConversation})
    print(json.dumps(loop.ports), flush=True)
    loop.run(until_readable=sys.stdin.fileno())


class Conversation(Protocol):
    """One connection without I/O."""

    def answer(self, received: bytes) -> bytes:
        """What is sent back for what came."""
        ...


class Responder:
    """Listens for each protocol on a free port of 127.0.0.1.

    Args:
        conversations: Makes the conversation of a new connection, by protocol.

    Attributes:
        ports: The ports by protocol.
    """

    def __init__(self, conversations: dict[str, Callable[[], Conversation]]) -> None:
        self._epoll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, Callable[[], Conversation]]] = {}
        self._open: dict[int, tuple[socket.socket, Conversation]] = {}
        self.ports: dict[str, int] = {}
        for protocol, make in conversations.items():
            listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            self._listeners[listener.fileno()] = (listener, make)
            self.ports[protocol] = listener.getsockname()[1]
            self._epoll.register(listener, select.EPOLLIN)

    def run(self, *, until_readable: int) -> None:
        """Answer until a file can be read."""
        self._epoll.register(until_readable, select.EPOLLIN)
        while True:
            for file, _ in self._epoll.poll():
                if file in self._open:
                    self._serve(file)
                elif file in self._listeners:
                    self._accept(*self._listeners[file])
                else:
                    return

    def _accept(self, listener: socket.socket, make: Callable[[], Conversation]) -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open[connection.fileno()] = (connection, make())
        self._epoll.register(connection, select.EPOLLIN)

    def _serve(self, file: int) -> None:
        connection, conversation = self._open[file]
        try:
            received = connection.recv(_RECEIVE_BYTES)
            if received:
                answer = conversation.answer(received)
                if answer:
                    connection.sendall(answer)
                return
        except OSError:
            pass
        connection.close()  # which also takes it out of the epoll set
        del self._open[file]


# ---- HTTP/1.1 ----

_HEAD: Final = json.dumps(
    {
        "model_name": "identity",
        "model_version": "1",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": SHAPE, "parameters": {"binary_data_size": len(_ELEMENTS)}}
        ],
    },
    separators=(",", ":"),
).encode()
_HTTP_REPLY: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n"
    b"Content-Length: %d\r\n\r\n" % (len(_HEAD), len(_HEAD) + len(_ELEMENTS))
) + b"".join((_HEAD, _ELEMENTS))
_LENGTH: Final = re.compile(rb"\r\nContent-Length: *([0-9]+)", re.IGNORECASE)


class HttpConversation:
    """Requests whose bodies have a length."""

    def __init__(self) -> None:
        self._received = b""
        self._needed = 1

    def answer(self, received: bytes) -> bytes:
        """The reply, once for each request that is complete."""
        self._received += received
        replies = 0
        while len(self._received) >= self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                self._needed = len(self._received) + 1
                break
            length = _LENGTH.search(self._received, 0, end)
            self._needed = end + 4 + (int(length[1]) if length is not None else 0)
            if len(self._received) >= self._needed:
                self._received, self._needed = self._received[self._needed :], 1
                replies += 1
        return _HTTP_REPLY * replies


# ---- gRPC over HTTP/2: RFC 9113, and RFC 7541 for headers ----

_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8  # kinds of frames
_END_STREAM = _ACK = 1  # flags
_END_HEADERS = 4
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LARGEST_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 65_535


def _frame(kind: int, flags: int, stream: bytes, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream + payload


def _field(number: int, value: bytes) -> bytes:
    """A protobuf field of fewer than 128 bytes."""
    return bytes((number << 3 | 2, len(value))) + value


_CONNECTION: Final = bytes(4)
# model_name, model_version, outputs (name, datatype, shape) and raw_output_contents of a ModelInferResponse.
_MESSAGE: Final = (
    _field(1, b"identity")
    + _field(2, b"1")
    + _field(5, _field(1, b"y") + _field(2, b"FP32") + _field(3, bytes(SHAPE)))
    + _field(6, _ELEMENTS)
)
# Headers as literals that no table remembers, so that they are the same bytes each time.
_OPENING: Final = b"\x88\x0f\x10\x10application/grpc"  # :status 200 and content-type
_TRAILERS: Final = b"\x00\x0bgrpc-status\x010"
_PREFIXED: Final = b"\0" + len(_MESSAGE).to_bytes(4, "big") + _MESSAGE
_GREETING: Final = _frame(_SETTINGS, 0, _CONNECTION, (4).to_bytes(2, "big") + _LARGEST_WINDOW.to_bytes(4, "big"))


def _window_update(size: int) -> bytes:
    return _frame(_WINDOW_UPDATE, 0, _CONNECTION, size.to_bytes(4, "big"))


class GrpcConversation:
    """Unary calls. The windows of the client are taken for endless, since its replies are small and read at once."""

    def __init__(self) -> None:
        self._received = b""
        self._has_begun = False
        self._unacknowledged = 0

    def answer(self, received: bytes) -> bytes:
        """The reply, once for each request that is complete, and what HTTP/2 itself asks for."""
        data = self._received + received
        parts = []
        position = 0
        if not self._has_begun:
            if len(data) < len(_PREFACE):
                self._received = data
                return b""
            self._has_begun, position = True, len(_PREFACE)
            parts += [_GREETING, _window_update(_LARGEST_WINDOW - _FIRST_WINDOW)]
        while position + 9 <= len(data):
            end = position + 9 + int.from_bytes(data[position : position + 3], "big")
            if end > len(data):
                break
            kind, flags = data[position + 3], data[position + 4]
            if kind == _DATA:
                self._unacknowledged += end - position - 9
                if flags & _END_STREAM:
                    parts.append(_reply(data[position + 5 : position + 9]))
            elif kind in {_SETTINGS, _PING} and not flags & _ACK:
                payload = data[position + 9 : end] if kind == _PING else b""
                parts.append(_frame(kind, _ACK, _CONNECTION, payload))
            position = end
        self._received = data[position:]
        if self._unacknowledged > _LARGEST_WINDOW // 2:
            parts.append(_window_update(self._unacknowledged))
            self._unacknowledged = 0
        return b"".join(parts)


def _reply(stream: bytes) -> bytes:
    return b"".join(
        (
            _frame(_HEADERS, _END_HEADERS, stream, _OPENING),
            _frame(_DATA, 0, stream, _PREFIXED),
            _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, _TRAILERS),
        )
    )


if __name__ == "__main__":
    main()
