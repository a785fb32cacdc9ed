"""One gRPC call over HTTP/2 without I/O: its request on the way out, and its reply as it comes.

Source: "gRPC over HTTP2" (PROTOCOL-HTTP2.md of grpc/grpc).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

import numpy as np

from tritonforge_client.core.http2_frames import DATA, END_STREAM, frame_head
from tritonforge_client.core.http11 import decoded
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.core.steps import Buffer

_STATUSES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip

# Below this size a copy is cheaper than buffers of its own.
_SMALL_BYTES: Final = 16 * 1024

_NOTHING: Final = memoryview(b"")


class CallFailed(Exception):  # noqa: N818 - an outcome, which the transport turns into an error
    """The server ended the call with another status than OK.

    Attributes:
        status: Name of a gRPC status code, or the HTTP status of who is no gRPC server.
        text: What the server says about it.
    """

    def __init__(self, status: str | int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class Http2Call:
    """One call, whose request has one message.

    Args:
        stream: Number of its stream.
        window: How much of the message the server takes for now, in bytes.
        message: The message in pieces of bytes.
        compressed: Whether it is compressed in the way that the head says.

    Attributes:
        stream: As given.
        window: What is left of it.
        left: How many bytes of the message are not sent.
        received: How many bytes came for which the server was not given room again.
        messages: Messages of the reply that nobody has taken.
        is_over: Whether nothing more comes.
        failure: Why it is over, unless the reply is whole.
    """

    __slots__ = (
        "_body", "_filled", "_head", "_pieces", "_prefix", "failure", "is_over", "left", "messages", "received",
        "stream", "window",
    )  # fmt: skip

    def __init__(self, stream: int, window: int, message: Sequence[Buffer], *, compressed: bool) -> None:
        self.stream = stream
        self.window = window
        size = sum([len(piece) for piece in message])
        prefix = struct.pack(">BI", compressed, size)
        self._pieces: deque[Buffer]
        if size < _SMALL_BYTES:
            self._pieces = deque((b"".join((prefix, *message)),))
        else:
            self._pieces = deque([prefix, *[memoryview(piece) for piece in message if len(piece) > 0]])
        self.left = size + 5
        self.received = 0
        self.messages: deque[Buffer] = deque()
        self.is_over = False
        self.failure: Exception | None = None
        self._head: Mapping[str, str] | None = None
        self._prefix = b""
        self._body: memoryview | None = None
        self._filled = 0

    def result(self) -> Buffer:
        """The reply of a call that is over and has one message.

        Raises:
            CallFailed: The call ended with another status than OK.
            ReplyFormatError: What came is not gRPC, or ended too early, or is none or several messages.
        """
        if self.failure is not None:
            raise self.failure
        if len(self.messages) != 1:
            raise ReplyFormatError("expected one message, got " + ("several" if self.messages else "none"))
        return self.messages[0]

    # ---- sending ----

    def take(self, room: int, frame_bytes: int) -> list[Buffer]:
        """Take so many bytes off the message, in frames that are not larger."""
        self.left -= room
        self.window -= room
        if self.left == 0 and room <= min(frame_bytes, _SMALL_BYTES) and len(self._pieces) == 1:  # as nearly always
            return [frame_head(room, DATA, END_STREAM, self.stream) + self._pieces.popleft()]
        frames: list[Buffer] = []
        while room > 0:
            size = min(room, frame_bytes)
            room -= size
            frames.append(frame_head(size, DATA, END_STREAM if self.left == room == 0 else 0, self.stream))
            while size > 0:
                piece = self._pieces.popleft()
                if len(piece) > size:
                    self._pieces.appendleft(piece[size:])
                    piece = piece[:size]
                frames.append(piece)
                size -= len(piece)
        return frames

    # ---- receiving ----

    def add_head(self, fields: Mapping[str, str]) -> None:
        """Read the head of the reply, or its trailers."""
        if self._head is not None:
            self._head = {**self._head, **fields}
        elif not fields.get(":status", "").startswith("1"):
            check_answer(fields)
            self._head = fields

    def add_data(self, here: memoryview) -> None:
        """Read the next bytes of messages."""
        if self._head is None:
            raise ReplyFormatError("a message came before the head of the reply")
        while len(here) > 0:
            here = here[self._add_piece(here) :]

    def add_reply(self, message: Buffer) -> bool:
        """Take a reply that came whole, and plain; returns ``False`` where something of another came before."""
        if self.left > 0 or self._head is not None:
            return False
        self.messages.append(message)
        return True

    def room(self) -> memoryview:
        """Where the next bytes of a large message go; empty where there is none."""
        return _NOTHING if self._body is None else self._body[self._filled :]

    def add_filled(self, count: int) -> None:
        """Note that so many bytes of a large message are in their place."""
        body = self._body
        self._filled += count
        if body is not None and self._filled == len(body):
            self._body = None
            self._add(body.toreadonly())

    def check_end(self) -> None:
        """Look at what the server says at the end."""
        head = self._head or {}
        status = head.get("grpc-status", "")
        if not status.isdecimal():
            raise ReplyFormatError("the reply ended without a grpc-status")
        if int(status) > 0:
            name = _STATUSES[int(status)] if int(status) < len(_STATUSES) else "UNKNOWN"
            raise CallFailed(name, unquote(head.get("grpc-message", "")))
        if self._body is not None or self._prefix:
            raise ReplyFormatError("the reply ended in the middle of a message")

    def _add_piece(self, here: memoryview) -> int:
        """Take a piece of a message, and return how much it was."""
        if self._body is None:
            return self._begin_message(here)
        used = min(len(here), len(self._body) - self._filled)
        self._body[self._filled : self._filled + used] = here[:used]
        self.add_filled(used)
        return used

    def _begin_message(self, here: memoryview) -> int:
        """Read the prefix of a message, and the message where all of it is here; return the size of both."""
        used = 5 - len(self._prefix)
        self._prefix += here[:used]
        if len(self._prefix) < 5:
            return len(here)
        size = int.from_bytes(self._prefix[1:], "big")
        if size <= len(here) - used:
            self._add(bytes(here[used : used + size]))
            return used + size
        # Not a bytearray: that would be filled with zeros first.
        self._body, self._filled = np.empty(size, np.uint8).data, 0
        return used

    def _add(self, message: Buffer) -> None:
        coding = (self._head or {}).get("grpc-encoding", "identity")
        self.messages.append(decoded(message, coding) if self._prefix[0] else message)
        self._prefix = b""


def check_answer(fields: Mapping[str, str]) -> None:
    """Refuse the head of who is no gRPC server.

    Raises:
        CallFailed: It has another HTTP status than 200.
        ReplyFormatError: What follows is something else than gRPC.
    """
    status, content_type = fields.get(":status", ""), fields.get("content-type", "")
    if status != "200":
        text = f"HTTP status {status}, which no gRPC server answers"
        raise CallFailed(int(status) if status.isdecimal() else "UNKNOWN", text)
    if not content_type.startswith("application/grpc"):
        raise ReplyFormatError(f"expected a reply of gRPC, got one of content-type {content_type[:60]!r}")
