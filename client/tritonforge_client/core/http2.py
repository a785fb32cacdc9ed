"""gRPC over HTTP/2 without I/O: from requests to the bytes that are sent, from the bytes that arrive to replies.

A connection can carry many calls at once. Tensors are sent from where they lie and received where they stay.

Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), and "gRPC over HTTP2" (PROTOCOL-HTTP2.md of grpc/grpc).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Generator, Sequence
from typing import Final, NoReturn

from tritonforge_client.core import http2_frames as h2
from tritonforge_client.core.http2_call import CallFailed, Http2Call
from tritonforge_client.core.http2_head import headers_from_block
from tritonforge_client.core.http2_reply import whole_reply
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.core.steps import Buffer, Steps

SCRATCH_BYTES: Final = 64 * 1024
"""Size of the buffer for everything but large messages. A head and its continuations have to fit in."""

_SHARE_BYTES: Final = 256 * 1024
"""So much of a message is sent before that of another call has its turn."""

_GIVE_BACK_BYTES: Final = 1 << 29
_NOBODY_READS_IT: Final = 8  # CANCEL (RFC 9113, section 7)
# What a stream's end by RST_STREAM means, by its code; INTERNAL for all others (PROTOCOL-HTTP2.md, "Errors").
_STATUS_OF_RESET: Final = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED"}


class Http2Connection:
    """One connection and its calls.

    What came is put at ``wanted``, ``received`` is told how much it was, and what is to be sent then is ``unsent``.

    Attributes:
        reusable: Whether it takes other calls.
        most_calls: How many calls at once the server takes.
        received_bytes: How many bytes came on it.
    """

    def __init__(self) -> None:
        self.reusable = True
        self.most_calls = h2.LARGEST
        self.received_bytes = 0
        self._calls: dict[int, Http2Call] = {}
        self._sending: deque[Http2Call] = deque()
        self._news: list[Http2Call] = []
        self._outbox: list[Buffer] = [h2.GREETING]
        self._stream = -1
        self._window = self._first_window = h2.USUAL_WINDOW
        self._frame_bytes = h2.USUAL_FRAME_BYTES
        self._not_given_back = 0
        self._block: bytes | None = None
        self._ends_stream = False
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._start = self._end = 0
        self._reader = self._reading()
        self._wanted = next(self._reader)

    # ---- calls ----

    @property
    def calls(self) -> int:
        """How many calls it carries."""
        return len(self._calls)

    @property
    def unsent_calls(self) -> int:
        """How many calls have something of their message to send."""
        return len(self._sending)

    def begin(self, block: bytes, message: Sequence[Buffer], *, compressed: bool) -> Http2Call:
        """Begin a call, which has one message.

        Args:
            block: Its head, from ``request_block``.
            message: The message in pieces, which must not change before they are sent.
            compressed: Whether it is compressed in the way that the head says.
        """
        self._stream += 2
        self.reusable = self.reusable and self._stream < h2.LARGEST - 2
        call = Http2Call(self._stream, self._first_window, message, compressed=compressed)
        self._calls[call.stream] = call
        self._sending.append(call)
        self._outbox += h2.head_frames(block, call.stream, self._frame_bytes)
        return call

    def cancel(self, call: Http2Call) -> None:
        """End a call that nobody waits for any more, at the server too."""
        if not call.is_over:
            self._end_call(call, CallFailed("CANCELLED", "nobody waits for it"))
            self._news.remove(call)

    # ---- for those who do one call at a time ----

    def reply(self, call: Http2Call) -> Steps[Buffer]:
        """Send a call and receive its reply, which has one message; raises as ``Http2Call.result``."""
        yield from self._until_over(call, or_message=False)
        return call.result()

    def next_message(self, call: Http2Call) -> Steps[Buffer | None]:
        """Send a call, if that was not done, and receive the next message of its reply.

        Returns:
            The message; ``None`` after the last one.

        Raises:
            CallFailed: The call ended with another status than OK.
            ReplyFormatError: The bytes are not HTTP/2 or not gRPC, or end too early.
        """
        yield from self._until_over(call, or_message=True)
        if len(call.messages) > 0:
            return call.messages.popleft()
        if call.failure is not None:
            raise call.failure
        return None

    def _until_over(self, call: Http2Call, *, or_message: bool) -> Steps[None]:
        """Send and receive until a call is over, or has a message."""
        while True:
            if (self._outbox or self._sending) and (buffers := self.unsent()):
                yield buffers
            if call.is_over or (or_message and len(call.messages) > 0):
                return
            self.received((yield self._wanted))

    # ---- sending ----

    def unsent(self, most_bytes: int = h2.LARGEST) -> list[Buffer]:
        """Take what is to be sent now.

        Args:
            most_bytes: About how much of messages at most.
        """
        # A setting of the server's holds from the moment that it is acknowledged, so that goes first.
        sent, self._outbox = self._outbox, []
        waiting = 0
        while waiting < len(self._sending) and self._window > 0 and most_bytes > 0:
            call = self._sending.popleft()
            share = min(most_bytes, _SHARE_BYTES) if self._sending else most_bytes
            room = min(call.left, call.window, self._window, share)
            if room > 0:
                waiting = 0
                sent += call.take(room, self._frame_bytes)
                self._window -= room
                most_bytes -= room
            else:
                waiting += 1
            if call.left > 0:
                self._sending.append(call)
        return sent

    # ---- receiving ----

    def wanted(self) -> memoryview:
        """Where the next bytes go."""
        return self._wanted

    def received(self, count: int) -> list[Http2Call]:
        """Read so many bytes; none are the end of the connection.

        Returns:
            The calls that are over now, or have another message.
        """
        self.received_bytes += count
        if count == 0:
            self._break(ReplyFormatError("the connection ended before the reply was complete"))
        else:
            try:
                self._wanted = self._reader.send(count)
            except (ReplyFormatError, StopIteration) as error:
                self._break(error)
        news, self._news = self._news, []
        return news

    def _break(self, error: Exception) -> None:
        """End everything, since nothing that comes can be understood."""
        self.reusable = False
        self._wanted = self._scratch
        self._reader.close()
        for call in list(self._calls.values()):
            self._end_call(call, error)
        self._outbox.clear()

    def _reading(self) -> Generator[memoryview, int, NoReturn]:
        """Receive frame after frame, and do what they say."""
        while True:
            needed = 9
            while self._end - self._start >= needed:
                if self._take_reply():
                    needed = 9
                    continue
                length, kind, flags, stream = h2.frame_fields(self._scratch, self._start)
                if self._end - self._start >= 9 + length:
                    payload = self._scratch[self._start + 9 : self._start + 9 + length]
                    self._start += 9 + length
                    self._act(kind, flags, stream, payload)
                elif kind == h2.DATA:
                    self._start += 9
                    yield from self._large_data(length, flags, stream)
                else:
                    needed = 9 + length
                    _check_length(length)
            yield from self._receive(needed)

    def _take_reply(self) -> bool:
        """Read a reply that is all there; returns whether there was one."""
        if self._block is not None or (reply := whole_reply(self._scratch[: self._end], self._start)) is None:
            return False
        stream, message, end = reply
        call = self._calls.get(stream)
        if call is None or not call.add_reply(message):
            return False
        self._start = end
        self._end_call(call, None, at_server=False)
        self._give_back(len(message) + 5)
        return True

    def _receive(self, size: int) -> Generator[memoryview, int, None]:
        """Receive what comes next into the scratch buffer."""
        count = yield self._room(size)
        self._end += count

    def _room(self, size: int) -> memoryview:
        """Where the next bytes go, so that those from ``_start`` can become ``size`` in a row."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + size > SCRATCH_BYTES or self._end == SCRATCH_BYTES:
            kept = self._end - self._start
            self._scratch[:kept] = self._scratch[self._start : self._end]
            self._start, self._end = 0, kept
        return self._scratch[self._end :]

    def _act(self, kind: int, flags: int, stream: int, payload: memoryview) -> None:
        """Do what a frame says."""
        size = len(payload)
        if kind == h2.DATA:
            call = self._call_of_data(stream)
            self._add_data(call, h2.unpadded(payload, flags))
            self._end_data(call, size, flags)
        elif kind in {h2.HEADERS, h2.CONTINUATION}:
            self._add_block(kind, flags, stream, payload)
        elif kind == h2.SETTINGS and size % 6 == 0:
            if not flags & h2.ACK:
                self._settings(payload)
        elif kind == h2.WINDOW_UPDATE and size == 4:
            self._widen(int.from_bytes(payload, "big") & h2.LARGEST, stream)
        elif kind == h2.PING and size == 8:
            if not flags & h2.ACK:
                self._outbox.append(h2.frame_head(8, h2.PING, h2.ACK, 0) + payload)
        elif kind == h2.GOAWAY and size >= 8:
            self._go_away(payload)
        elif kind == h2.RST_STREAM and size == 4:
            self._reset(int.from_bytes(payload, "big"), stream)
        elif kind <= h2.CONTINUATION and kind != h2.PRIORITY:
            raise ReplyFormatError(f"a frame of type {kind} with {size} bytes is damaged, or was not asked for")
        # Frames of other types are to be ignored.

    def _settings(self, payload: memoryview) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == h2.INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._first_window
                self._first_window = value
            elif name == h2.MAX_FRAME_SIZE:
                self._frame_bytes = max(value, h2.USUAL_FRAME_BYTES)
            elif name == h2.MAX_CONCURRENT_STREAMS:
                self.most_calls = value
        self._outbox.append(h2.frame_head(0, h2.SETTINGS, h2.ACK, 0))

    def _widen(self, size: int, stream: int) -> None:
        call = self._calls.get(stream)
        if stream == 0:
            self._window += size
        elif call is not None:
            call.window += size

    def _go_away(self, payload: memoryview) -> None:
        self.reusable = False
        last, code = struct.unpack_from(">II", payload)
        said = bytes(payload[8:]).decode("utf-8", "replace")
        text = f"received GOAWAY with code {code}, the request was not taken: {said}"
        for call in [call for call in self._calls.values() if call.stream > last & h2.LARGEST]:
            self._end_call(call, CallFailed("UNAVAILABLE", text))

    def _reset(self, code: int, stream: int) -> None:
        call = self._calls.get(stream)
        if call is not None:
            status = _STATUS_OF_RESET.get(code, "INTERNAL")
            error = CallFailed(status, f"received RST_STREAM with error code {code}")
            self._end_call(call, error, at_server=False)

    def _add_block(self, kind: int, flags: int, stream: int, payload: memoryview) -> None:
        """Put the pieces of a head together, which follow each other, and read it."""
        if (kind == h2.HEADERS) != (self._block is None):
            raise ReplyFormatError("expected the rest of a head, or its beginning, got the other")
        if kind == h2.HEADERS:
            self._block, self._ends_stream = b"", bool(flags & h2.END_STREAM)
            payload = h2.unpadded(payload, flags)[5 if flags & h2.HAS_PRIORITY else 0 :]
        self._block = (self._block or b"") + payload
        if len(self._block) > SCRATCH_BYTES:
            raise ReplyFormatError(f"expected a head of at most {SCRATCH_BYTES} bytes, got more")
        if not flags & h2.END_HEADERS:
            return
        block, self._block = self._block, None
        call = self._calls.get(stream)
        if call is not None:
            try:
                call.add_head(headers_from_block(block))
            except (CallFailed, ReplyFormatError) as error:
                self._end_call(call, error, at_server=not self._ends_stream)
                return
            if self._ends_stream:
                self._check_end(call)

    def _check_end(self, call: Http2Call) -> None:
        """End a call that the server has ended."""
        try:
            call.check_end()
        except (CallFailed, ReplyFormatError) as error:
            self._end_call(call, error, at_server=False)
        else:
            self._end_call(call, None, at_server=False)

    def _end_call(self, call: Http2Call, failure: Exception | None, *, at_server: bool = True) -> None:
        """Note that nothing more comes for a call, and tell the server if it cannot know."""
        del self._calls[call.stream]
        call.is_over, call.failure = True, failure
        self._news.append(call)
        if call.left > 0:
            self._sending.remove(call)
            # Who answers without having read all may close the connection next.
            self.reusable = self.reusable and at_server
        if at_server or call.left > 0:
            self._outbox.append(h2.reset(call.stream, _NOBODY_READS_IT))

    # ---- messages ----

    def _large_data(self, length: int, flags: int, stream: int) -> Generator[memoryview, int, None]:
        """Receive a frame of a message, most of it right where it stays."""
        call = self._call_of_data(stream)
        padding = 0
        if flags & h2.PADDED:
            while self._start == self._end:
                yield from self._receive(1)
            padding = self._scratch[self._start] + 1
            self._start += 1
        left = length - padding
        while left > 0:
            here = self._scratch[self._start : min(self._end, self._start + left)]
            room = call.room() if call is not None else here
            if len(here) > 0:
                self._start += len(here)
                left -= len(here)
                self._add_data(call, here)
            elif len(room) > 0:
                count = yield room[:left]
                left -= count
                self._add_data(call, count)
            else:
                yield from self._receive(1)
        while padding > 1:
            if self._start == self._end:
                yield from self._receive(1)
            skipped = min(padding - 1, self._end - self._start)
            self._start += skipped
            padding -= skipped
        self._end_data(call, length, flags)

    def _call_of_data(self, stream: int) -> Http2Call | None:
        """The call of a frame of a message; ``None`` where nobody reads it any more."""
        if stream % 2 == 0 or stream > self._stream:
            raise ReplyFormatError("a message came where none was asked for")
        return self._calls.get(stream)

    def _add_data(self, call: Http2Call | None, piece: memoryview | int) -> None:
        """Give a call the next bytes of its messages, or the count of those that are in their place."""
        if call is None or call.is_over:
            return
        before = len(call.messages)
        try:
            if isinstance(piece, int):
                call.add_filled(piece)
            else:
                call.add_data(piece)
        except ReplyFormatError as error:
            self._end_call(call, error)
        if len(call.messages) > before:
            self._news.append(call)

    def _end_data(self, call: Http2Call | None, length: int, flags: int) -> None:
        """Note the end of a frame, and let the server send as much again."""
        self._give_back(length)
        if call is None or call.is_over:
            return
        call.received += length
        if flags & h2.END_STREAM:
            self._check_end(call)
        elif call.received >= _GIVE_BACK_BYTES:
            self._outbox.append(h2.window_update(call.stream, call.received))
            call.received = 0

    def _give_back(self, length: int) -> None:
        """Let the server send so much more over all. It has been told of so much room that this is seldom due."""
        self._not_given_back += length
        if self._not_given_back >= _GIVE_BACK_BYTES:
            self._outbox.append(h2.window_update(0, self._not_given_back))
            self._not_given_back = 0


def _check_length(length: int) -> None:
    if length > SCRATCH_BYTES - 9:
        raise ReplyFormatError(f"expected frames of at most {SCRATCH_BYTES - 9} bytes beside messages, got {length}")
