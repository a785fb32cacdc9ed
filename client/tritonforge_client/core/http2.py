"""gRPC over HTTP/2 without I/O: from a request to the bytes that are sent, from the bytes that arrive to its replies.

A connection carries one request at a time, and calls at once take connections of their own, as over HTTP/1.1: none
waits behind the bytes of another, and nobody has to stand by to tell their replies apart. Tensors are sent from where
they lie and received where they stay.

Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), and "gRPC over HTTP2" (PROTOCOL-HTTP2.md of grpc/grpc).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar
from urllib.parse import unquote

import numpy as np

from tritonforge_client.core.http2_head import headers_from_block
from tritonforge_client.core.http11 import decoded
from tritonforge_client.core.request import ReplyFormatError

T = TypeVar("T")

Buffer: TypeAlias = bytes | memoryview
Io: TypeAlias = Sequence[Buffer] | memoryview
"""Buffers that are to be sent, all of them; or a place for the next bytes, which is answered with how many came."""
Steps: TypeAlias = Generator[Io, int, T]

SCRATCH_BYTES: Final = 64 * 1024
"""Size of the buffer for everything but large messages. A head and its continuations have to fit in."""

# Frame types and flags, and what of the settings concerns a client (RFC 9113, sections 6 and 6.5.2).
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    0, 1, 3, 4, 5, 6, 7, 8, 9,
)  # fmt: skip
_PRIORITY_FRAME: Final = 2
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _HAS_PRIORITY = 1, 1, 4, 8, 32
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 2, 4, 5

_USUAL_WINDOW: Final = 65_535
_USUAL_FRAME_BYTES: Final = 16_384
_LARGEST: Final = (1 << 31) - 1
_LARGEST_FRAME_BYTES: Final = (1 << 24) - 1
_GIVE_BACK_BYTES: Final = 1 << 29

# Whoever sends us tensors need not wait for room, and heads can be read without those before them.
_GREETING: Final = b"".join(
    (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x00\x18\x04\x00\x00\x00\x00\x00",
        struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _ENABLE_PUSH, 0),
        struct.pack(">HIHI", _INITIAL_WINDOW_SIZE, _LARGEST, _MAX_FRAME_SIZE, _LARGEST_FRAME_BYTES),
        b"\x00\x00\x04\x08\x00\x00\x00\x00\x00",
        struct.pack(">I", _LARGEST - _USUAL_WINDOW),
    )
)

_STATUSES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
# What a stream's end by RST_STREAM means, by its code; INTERNAL for all others (PROTOCOL-HTTP2.md, "Errors").
_STATUS_OF_RESET: Final = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED"}


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


class Http2Connection:
    """One connection, which carries one request after the other.

    Attributes:
        reusable: Whether it can carry another request.
    """

    def __init__(self) -> None:
        self.reusable = True
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._start = self._end = 0
        self._is_leaving = False
        self._outbox: list[Buffer] = [_GREETING]
        self._stream = -1
        self._window = self._first_window = self._stream_window = _USUAL_WINDOW
        self._frame_bytes = _USUAL_FRAME_BYTES
        self._received = self._received_of_stream = 0
        self._reset_stream()

    def _reset_stream(self) -> None:
        self._is_sent = False
        self._head: Mapping[str, str] | None = None
        self._block: bytes | None = None
        self._ends_stream = self._ended = False
        self._prefix = b""
        self._body: memoryview | None = None
        self._filled = 0
        self._messages: deque[Buffer] = deque()

    # ---- what a transport does ----

    def begin(self, block: bytes, message: Sequence[Buffer], *, compressed: bool) -> Steps[None]:
        """Send a request, which has one message.

        Args:
            block: Its head, from ``request_block``.
            message: The message in pieces.
            compressed: Whether it is compressed in the way that the head says.
        """
        self.reusable = False
        self._reset_stream()
        self._stream += 2
        self._stream_window, self._received_of_stream = self._first_window, 0
        sent = self._head_frames(block)
        views = [memoryview(piece).cast("B") for piece in message if len(piece) > 0]
        left = sum([len(view) for view in views])
        pieces = deque([memoryview(struct.pack(">BI", compressed, left)), *views])
        left += 5
        while left > 0:
            room = min(left, self._window, self._stream_window)
            if room > 0:
                left -= room
                self._window -= room
                self._stream_window -= room
                sent += self._data_frames(pieces, room, is_last=left == 0)
            if sent:
                # A setting of the server's holds from the moment that it is acknowledged.
                yield [*self.unsent(), *sent]
                sent = []
            if left > 0:
                yield from self._frame()
                if self._ended:  # refused before it was all there
                    return
        self._is_sent = True

    def next_message(self) -> Steps[Buffer | None]:
        """Receive the next message of the reply.

        Returns:
            The message; ``None`` after the last one.

        Raises:
            CallFailed: The call ended with another status than OK.
            ReplyFormatError: The bytes are not HTTP/2 or not gRPC, or end too early.
        """
        while not self._messages:
            if self._ended:
                try:
                    self._act_on_all()  # be it that the server leaves
                except (CallFailed, ReplyFormatError):
                    self._is_leaving = True  # the reply was whole before
                if self._outbox:
                    yield self.unsent()
                self._check_end()
                return None
            yield from self._frame()
        return self._messages.popleft()

    def only_message(self) -> Steps[Buffer]:
        """Receive the reply of a call that has one message.

        Raises:
            CallFailed: As ``next_message``.
            ReplyFormatError: As ``next_message``, or there is none, or another one.
        """
        message = yield from self.next_message()
        another = yield from self.next_message()
        if message is None or another is not None:
            raise ReplyFormatError("expected one message, got " + ("none" if message is None else "several"))
        return message

    def idle_room(self) -> memoryview:
        """Where bytes go that come while no request is carried."""
        return self._room(1)

    def received_idle(self, size: int) -> bool:
        """Read so many bytes that came while no request was carried; ``unsent`` has what they are answered.

        Returns whether the connection can carry another request; raises ``ReplyFormatError`` for what is no HTTP/2.
        """
        self._end += size
        self._act_on_all()
        return size > 0 and not self._is_leaving

    # ---- sending ----

    def unsent(self) -> list[Buffer]:
        """Take what is to be sent beside requests, as ``received_idle`` leaves it."""
        sent, self._outbox = self._outbox, []
        return sent

    def _head_frames(self, block: bytes) -> list[Buffer]:
        size = self._frame_bytes
        if len(block) <= size:  # as nearly always
            return [_frame_head(len(block), _HEADERS, _END_HEADERS, self._stream) + block]
        frames: list[Buffer] = []
        for at in range(0, len(block), size):
            piece = block[at : at + size]
            kind = _HEADERS if at == 0 else _CONTINUATION
            flags = _END_HEADERS if at + size >= len(block) else 0
            frames.append(_frame_head(len(piece), kind, flags, self._stream) + piece)
        return frames

    def _data_frames(self, pieces: deque[memoryview], room: int, *, is_last: bool) -> list[Buffer]:
        """Take so many bytes off the pieces and put them into frames."""
        frames: list[Buffer] = []
        while room > 0:
            size = min(room, self._frame_bytes)
            room -= size
            frames.append(_frame_head(size, _DATA, _END_STREAM if is_last and room == 0 else 0, self._stream))
            while size > 0:
                piece = pieces.popleft()
                if len(piece) > size:
                    pieces.appendleft(piece[size:])
                    piece = piece[:size]
                frames.append(piece)
                size -= len(piece)
        return frames

    # ---- receiving ----

    def _room(self, size: int) -> memoryview:
        """Where the next bytes go, so that those from ``_start`` can become ``size`` in a row."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + size > SCRATCH_BYTES or self._end == SCRATCH_BYTES:
            kept = self._end - self._start
            self._scratch[:kept] = self._scratch[self._start : self._end]
            self._start, self._end = 0, kept
        return self._scratch[self._end :]

    def _receive(self, size: int) -> Steps[None]:
        """Receive until so many bytes are there in a row."""
        while self._end - self._start < size:
            if self._outbox:
                yield self.unsent()
            count = yield self._room(size)
            _check_count(count)
            self._end += count

    def _frame(self) -> Steps[None]:
        """Receive one frame and do what it says."""
        if self._end - self._start < 9:
            yield from self._receive(9)
        length, kind, flags, stream = _frame_fields(self._scratch[self._start : self._start + 9])
        self._start += 9
        if kind == _DATA and self._end - self._start < length:
            yield from self._large_data(length, flags, stream)
            return
        _check_length(length)
        if self._end - self._start < length:
            yield from self._receive(length)
        start, self._start = self._start, self._start + length
        self._act(kind, flags, stream, self._scratch[start : self._start])

    def _act_on_all(self) -> None:
        """Do what the frames say that are here already."""
        while self._end - self._start >= 9:
            length, kind, flags, stream = _frame_fields(self._scratch[self._start : self._start + 9])
            _check_length(length)
            end = self._start + 9 + length
            if end > self._end:
                break
            payload, self._start = self._scratch[self._start + 9 : end], end
            self._act(kind, flags, stream, payload)

    def _act(self, kind: int, flags: int, stream: int, payload: memoryview) -> None:
        """Do what a frame says."""
        size = len(payload)
        if kind == _DATA:
            self._check_data(stream)
            self._add_data(_unpadded(payload, flags))
            self._end_data(size, flags)
        elif kind in {_HEADERS, _CONTINUATION}:
            self._add_block(kind, flags, stream, payload)
        elif kind == _SETTINGS and size % 6 == 0:
            if not flags & _ACK:
                self._settings(payload)
        elif kind == _WINDOW_UPDATE and size == 4:
            self._widen(int.from_bytes(payload, "big") & _LARGEST, stream)
        elif kind == _PING and size == 8:
            if not flags & _ACK:
                self._outbox.append(_frame_head(8, _PING, _ACK, 0) + payload)
        elif kind == _GOAWAY and size >= 8:
            self._go_away(payload)
        elif kind == _RST_STREAM and size == 4:
            self._reset(int.from_bytes(payload, "big"), stream)
        elif kind <= _WINDOW_UPDATE and kind != _PRIORITY_FRAME:
            raise ReplyFormatError(f"a frame of type {kind} with {size} bytes is damaged, or was not asked for")
        # Frames of other types are to be ignored.

    def _settings(self, payload: memoryview) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._first_window
                self._first_window = value
            elif name == _MAX_FRAME_SIZE:
                self._frame_bytes = max(value, _USUAL_FRAME_BYTES)
        self._outbox.append(_frame_head(0, _SETTINGS, _ACK, 0))

    def _widen(self, size: int, stream: int) -> None:
        if stream == 0:
            self._window += size
        elif stream == self._stream:
            self._stream_window += size

    def _go_away(self, payload: memoryview) -> None:
        self._is_leaving = True
        last, code = struct.unpack_from(">II", payload)
        if self._stream > last & _LARGEST and not self._ended:
            said = bytes(payload[8:]).decode("utf-8", "replace")
            raise CallFailed("UNAVAILABLE", f"received GOAWAY with code {code}, the request was not taken: {said}")

    def _reset(self, code: int, stream: int) -> None:
        if stream == self._stream and not self._ended:
            status = _STATUS_OF_RESET.get(code, "INTERNAL")
            raise CallFailed(status, f"received RST_STREAM with error code {code}")

    def _add_block(self, kind: int, flags: int, stream: int, payload: memoryview) -> None:
        """Put the pieces of a head together, which follow each other, and read it."""
        if (kind == _HEADERS) != (self._block is None):
            raise ReplyFormatError("expected the rest of a head, or its beginning, got the other")
        if kind == _HEADERS:
            self._block, self._ends_stream = b"", bool(flags & _END_STREAM)
            payload = _unpadded(payload, flags)[5 if flags & _HAS_PRIORITY else 0 :]
        self._block = (self._block or b"") + payload
        if len(self._block) > SCRATCH_BYTES:
            raise ReplyFormatError(f"expected a head of at most {SCRATCH_BYTES} bytes, got more")
        if flags & _END_HEADERS:
            block, self._block = self._block, None
            if stream == self._stream and not self._ended:
                self._headers(headers_from_block(block))

    def _headers(self, fields: Mapping[str, str]) -> None:
        if self._head is not None:
            self._head = {**self._head, **fields}
        elif not fields.get(":status", "").startswith("1"):
            _check_answer(fields.get(":status", ""), fields.get("content-type", ""))
            self._head = fields
        self._ended = self._ends_stream

    def _check_end(self) -> None:
        """Look at the trailers."""
        head = self._head or {}
        status = head.get("grpc-status", "")
        if not status.isdecimal():
            raise ReplyFormatError("the reply ended without a grpc-status")
        is_whole = self._body is None and not self._prefix
        self.reusable = self._is_sent and is_whole and not self._is_leaving and self._stream < _LARGEST - 2
        if int(status) > 0:
            name = _STATUSES[int(status)] if int(status) < len(_STATUSES) else "UNKNOWN"
            raise CallFailed(name, unquote(head.get("grpc-message", "")))
        if not is_whole:
            raise ReplyFormatError("the reply ended in the middle of a message")

    # ---- messages ----

    def _large_data(self, length: int, flags: int, stream: int) -> Steps[None]:
        """Receive a frame of a message, most of it right where it stays."""
        self._check_data(stream)
        padding = 0
        if flags & _PADDED:
            if self._start == self._end:
                yield from self._receive(1)
            padding = self._scratch[self._start] + 1
            self._start += 1
        left = length - padding
        while left > 0:
            here = self._scratch[self._start : min(self._end, self._start + left)]
            if len(here) > 0:
                used = self._add_piece(here)
                self._start += used
                left -= used
            elif self._body is None:
                yield from self._receive(1)
            else:
                if self._outbox:
                    yield self.unsent()
                count = yield self._body[self._filled : self._filled + left]
                _check_count(count)
                self._fill(count)
                left -= count
        if padding > 1:
            yield from self._receive(padding - 1)
            self._start += padding - 1
        self._end_data(length, flags)

    def _check_data(self, stream: int) -> None:
        if stream != self._stream or self._ended or self._head is None:
            raise ReplyFormatError("a message came where none was asked for")

    def _end_data(self, length: int, flags: int) -> None:
        """Note the end of a frame, and let the server send as much again.

        It has been told of so much room that this is seldom due.
        """
        self._ended = bool(flags & _END_STREAM)
        self._received += length
        self._received_of_stream += length
        if self._received >= _GIVE_BACK_BYTES:
            self._outbox.append(_window_update(0, self._received))
            self._received = 0
        if self._received_of_stream >= _GIVE_BACK_BYTES and not self._ended:
            self._outbox.append(_window_update(self._stream, self._received_of_stream))
            self._received_of_stream = 0

    def _add_data(self, here: memoryview) -> None:
        while len(here) > 0:
            here = here[self._add_piece(here) :]

    def _add_piece(self, here: memoryview) -> int:
        """Take a piece of a message, and return how much it was."""
        if self._body is None:
            return self._begin_message(here)
        used = min(len(here), len(self._body) - self._filled)
        self._body[self._filled : self._filled + used] = here[:used]
        self._fill(used)
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

    def _fill(self, count: int) -> None:
        body = self._body
        self._filled += count
        if body is not None and self._filled == len(body):
            self._body = None
            self._add(body.toreadonly())

    def _add(self, message: Buffer) -> None:
        coding = (self._head or {}).get("grpc-encoding", "identity")
        self._messages.append(decoded(message, coding) if self._prefix[0] else message)
        self._prefix = b""


def _frame_fields(head: memoryview) -> tuple[int, int, int, int]:
    """Length, type, flags and stream."""
    high, low, kind, flags, stream = struct.unpack(">BHBBI", head)
    return high << 16 | low, kind, flags, stream & _LARGEST


def _frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    return struct.pack(">IBBI", length, kind, flags, stream)[1:]


def _window_update(stream: int, size: int) -> bytes:
    return _frame_head(4, _WINDOW_UPDATE, 0, stream) + struct.pack(">I", size)


def _unpadded(payload: memoryview, flags: int) -> memoryview:
    if not flags & _PADDED:
        return payload
    if len(payload) == 0 or payload[0] >= len(payload):
        raise ReplyFormatError("a frame has more padding than bytes")
    return payload[1 : len(payload) - payload[0]]


def _check_length(length: int) -> None:
    if length > SCRATCH_BYTES - 9:
        raise ReplyFormatError(f"expected frames of at most {SCRATCH_BYTES - 9} bytes beside messages, got {length}")


def _check_count(count: int) -> None:
    if count == 0:
        raise ReplyFormatError("the connection ended before the reply was complete")


def _check_answer(status: str, content_type: str) -> None:
    """Refuse the reply of who is no gRPC server."""
    if status != "200":
        text = f"HTTP status {status}, which no gRPC server answers"
        raise CallFailed(int(status) if status.isdecimal() else "UNKNOWN", text)
    if not content_type.startswith("application/grpc"):
        raise ReplyFormatError(f"expected a reply of gRPC, got one of content-type {content_type[:60]!r}")
