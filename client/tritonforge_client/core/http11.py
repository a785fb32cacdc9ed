"""HTTP/1.1 without I/O: from a request to the bytes that are sent, from the bytes that arrive to a reply.

Sources: RFC 9110 (semantics) and RFC 9112 (messages). What they let a client mend or guess is refused.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from tritonforge_client.core.exchange import HttpRequest, HttpResponse
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.errors import InvalidInput

SCRATCH_BYTES: Final = 64 * 1024
"""Size of the buffer for a reply's head, which has to fit in."""

# No more is allocated before so much has come: the declared length may be wrong.
_FIRST_BODY_BYTES: Final = 64 * 1024 * 1024

# Without the first any coding would be welcome (RFC 9110, section 12.5.3).
_OWN_HEADERS: Final = {"accept-encoding": "identity", "user-agent": "tritonforge"}
_PATH: Final = re.compile(r"/[\x21-\x7e]*")
_HEADER_LINE: Final = re.compile(r"[\t\x20-\x7e]*")

_BEGIN: Final = b"HTTP/1."
_BODILESS: Final = frozenset({204, 304})
_CODINGS: Final = frozenset({"transfer-encoding", "content-encoding"})
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD_LINE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;.*)?")


def request_head(request: HttpRequest, host: str, headers: Mapping[str, str]) -> bytes:
    """Encode the request line and the headers.

    Args:
        request: The request.
        host: ``host:port`` of the server.
        headers: Headers of the caller, names in lower case. Those of the request replace them.

    Returns:
        All that is sent before the body.

    Raises:
        InvalidInput: The path or a header has a character that could end it early, or is not ASCII.
    """
    known = request.head  # read once: other threads may send the same request elsewhere
    if known is not None and known[0] == host and not headers:
        return known[1]
    size_bytes = request.size_bytes if request.method == "POST" or len(request.body) > 0 else None
    # A token of the caller's is not to be kept.
    encoded = _encoded_head if headers else _usual_head
    head = encoded(request.method, request.path, host, (*headers.items(), *request.headers.items()), size_bytes)
    if not headers:
        request.head = (host, head)
    return head


def _encoded_head(
    method: str, path: str, host: str, headers: tuple[tuple[str, str], ...], size_bytes: int | None
) -> bytes:
    fields = {"host": host, **_OWN_HEADERS, **dict(headers)}
    if size_bytes is not None:
        fields["content-length"] = str(size_bytes)
    if _PATH.fullmatch(path) is None:
        expected = "a / and visible ASCII characters, all others escaped"
        text = f"path: expected {expected}, got {path!r}"
        raise InvalidInput(text, field="path", expected=expected, got=repr(path))
    lines = [f"{method} {path} HTTP/1.1"]
    for name, value in fields.items():
        line = f"{name}: {value}"
        if _HEADER_LINE.fullmatch(line) is None:
            # The value may be a secret.
            expected = "printable ASCII characters"
            text = f"headers: {name!r}: expected {expected}, got others too"
            raise InvalidInput(text, field="headers", expected=expected, got="others too")
        lines.append(line)
    return "\r\n".join([*lines, "", ""]).encode("ascii")


# Requests to a model are mostly of the same sizes.
_usual_head = lru_cache(256)(_encoded_head)


def pieces_from_buffers(buffers: Iterable[bytes | memoryview], *, join_below_bytes: int) -> deque[memoryview]:
    """Return what is sent, piece by piece. Empty buffers are left out.

    Args:
        buffers: Contiguous buffers in the order of sending.
        join_below_bytes: Neighbours below this size are copied into one piece; with 0 nothing is copied.
    """
    pieces: deque[memoryview] = deque()
    joined = bytearray()
    for buffer in buffers:
        view = memoryview(buffer)
        is_small = view.nbytes < join_below_bytes
        if is_small:
            joined += view
        if len(joined) > 0 and (not is_small or len(joined) >= join_below_bytes):
            pieces.append(memoryview(joined))
            joined = bytearray()
        if not is_small and view.nbytes > 0:
            pieces.append(view.cast("B"))
    if len(joined) > 0:
        pieces.append(memoryview(joined))
    return pieces


def drop_sent(pieces: deque[memoryview], size: int) -> None:
    """Take off so many bytes that were sent."""
    while len(pieces) > 0 and size >= len(pieces[0]):
        size -= len(pieces.popleft())
    if size > 0:
        pieces[0] = pieces[0][size:]


class ReceivedReply(NamedTuple):
    """What a reader returns.

    Attributes:
        response: The reply.
        reusable: Whether the connection can carry another exchange.
    """

    response: HttpResponse
    reusable: bool


ReplyReader: TypeAlias = Generator[memoryview, int, ReceivedReply]
"""Yields a buffer for the next bytes and is sent how many of them came; 0 when the connection has ended."""


def reply_reader(method: str, scratch: bytearray) -> ReplyReader:
    """Read one reply. A body of known length is received right where it stays.

    Args:
        method: Method of the request.
        scratch: ``SCRATCH_BYTES`` for everything else. The reply keeps nothing of it.

    Returns:
        A generator. Interim replies are dropped.

    Raises:
        ReplyFormatError: The bytes are not a reply, or end too early.
    """
    view = memoryview(scratch)
    size = yield view
    whole = _whole_reply(method, scratch, view[:size])
    if whole is not None:
        return whole
    received = _Received(scratch, size)
    while True:
        head = _parsed_head((yield from received.until(b"\r\n\r\n", begin=_BEGIN)))
        if head.status >= 200:
            break
        if head.status == 101:
            raise ReplyFormatError("the server switched to another protocol, which nobody asked for")
    body = yield from _body(received, method, head.status, head.headers)
    # What follows a reply unasked would be taken for the next one.
    reusable = head.persists and not received.ended and received.size == 0
    body = decoded(body, head.headers.get("content-encoding", ""))
    return ReceivedReply(HttpResponse(status=head.status, headers=head.headers, body=body), reusable)


def _whole_reply(method: str, scratch: bytearray, view: memoryview) -> ReceivedReply | None:
    """Read a reply that came at once and has a plain body, as small ones do; ``None`` for every other."""
    end = scratch.find(b"\r\n\r\n", 0, len(view))
    if end < 0 or method == "HEAD" or not scratch.startswith(_BEGIN):
        return None
    head = _parsed_head(bytes(view[:end]))
    if head.plain_body_bytes != len(view) - end - 4:
        return None
    body = bytes(view[end + 4 :])
    return ReceivedReply(HttpResponse(status=head.status, headers=head.headers, body=body), head.persists)


class _Received:
    """What came and was not read yet, in the scratch buffer.

    Args:
        scratch: The buffer.
        size: How much came first; 0 when the connection has ended.
    """

    def __init__(self, scratch: bytearray, size: int) -> None:
        self._scratch = scratch
        self._view = memoryview(scratch)
        self._start = 0
        self._end = size
        self.ended = size == 0

    @property
    def size(self) -> int:
        return self._end - self._start

    def take(self, size: int) -> memoryview:
        """Read so many bytes at most. They stay until more are received."""
        start, self._start = self._start, min(self._start + size, self._end)
        return self._view[start : self._start]

    def receive(self) -> Generator[memoryview, int, bool]:
        """Receive more and return whether any came."""
        size = self.size
        if self.ended:
            return False
        if size == len(self._scratch):
            raise ReplyFormatError(f"expected a head of at most {size} bytes, got more")
        if self._start > 0:
            self._view[:size] = self._view[self._start : self._end]
            self._start, self._end = 0, size
        more = yield self._view[self._end :]
        self._end += more
        self.ended = more == 0
        return more > 0

    def until(self, mark: bytes, *, begin: bytes = b"") -> Generator[memoryview, int, bytes]:
        """Read the bytes before a mark, and the mark. Others than ``begin`` at their start are refused at once."""
        searched = 0
        while (position := self._scratch.find(mark, self._start + searched, self._end)) < 0:
            self._check_start(begin)
            searched = max(0, self.size - len(mark) + 1)
            if not (yield from self.receive()):
                raise ReplyFormatError("the connection ended before the reply was complete")
        self._check_start(begin)
        found = bytes(self.take(position - self._start))
        self._start += len(mark)
        return found

    def _check_start(self, begin: bytes) -> None:
        start = bytes(self._view[self._start : min(self._end, self._start + 60)])
        if not (start.startswith(begin) or begin.startswith(start)):
            raise ReplyFormatError(f"expected a reply that begins with {begin!r}, got {start!r}")


class _Head(NamedTuple):
    """All before a body.

    Attributes:
        status: Status code.
        headers: Headers, names in lower case.
        persists: Whether the connection is to go on after the reply.
        plain_body_bytes: Size of a body that follows as it is; ``None`` for another body, or none.
    """

    status: int
    headers: Mapping[str, str]
    persists: bool
    plain_body_bytes: int | None


# A server's replies to equal requests mostly have the same head.
@lru_cache(64)
def _parsed_head(head: bytes) -> _Head:
    status_line, *field_lines = head.decode("latin-1").split("\r\n")
    status_match = _STATUS_LINE.fullmatch(status_line)
    if status_match is None:
        raise ReplyFormatError(f"expected a status line of HTTP/1.1, got {status_line[:60]!r}")
    headers: dict[str, str] = {}
    for line in field_lines:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise ReplyFormatError(f"expected a header, got {line[:60]!r}")
        name, value = match[1].lower(), match[2].strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    status = int(status_match[2])
    wishes = headers.get("connection", "").lower().replace(" ", "").split(",")
    length = headers.get("content-length", "")
    is_plain = status >= 200 and status not in _BODILESS and headers.keys().isdisjoint(_CODINGS)
    return _Head(
        status=status,
        headers=headers,
        persists=status_match[1] != "0" and "close" not in wishes,
        plain_body_bytes=int(length) if is_plain and _LENGTH.fullmatch(length) is not None else None,
    )


def _body(
    received: _Received, method: str, status: int, headers: Mapping[str, str]
) -> Generator[memoryview, int, bytes | memoryview]:
    """Read a body; RFC 9112, section 6.3, tells how it ends."""
    transfer_coding, lengths = headers.get("transfer-encoding"), headers.get("content-length")
    if method == "HEAD" or status in _BODILESS:
        return b""
    if transfer_coding is not None:
        if transfer_coding.lower() != "chunked" or lengths is not None:
            text = "expected Transfer-Encoding: chunked without Content-Length"
            raise ReplyFormatError(f"{text}, got {transfer_coding!r} with {lengths!r}")
        return (yield from _chunked_body(received))
    if lengths is not None:
        return (yield from _sized_body(received, _length_from_header(lengths)))
    return (yield from _rest(received))


def _length_from_header(value: str) -> int:
    """The length; a repeated header is fine when it says the same."""
    lengths = {part.strip(" \t") for part in value.split(",")}
    length = lengths.pop()
    if len(lengths) > 0 or _LENGTH.fullmatch(length) is None:
        raise ReplyFormatError(f"expected one Content-Length in bytes, got {value[:60]!r}")
    return int(length)


def _sized_body(received: _Received, length: int) -> Generator[memoryview, int, bytes | memoryview]:
    if received.size >= length:
        return bytes(received.take(length))
    position = received.size
    # Not a bytearray: that would be filled with zeros first.
    body = np.empty(min(length, _FIRST_BODY_BYTES), np.uint8).data
    body[:position] = received.take(position)
    while position < length:
        if position == len(body):
            larger = np.empty(min(length, 2 * len(body)), np.uint8).data
            larger[:position] = body
            body = larger
        more = yield body[position:]
        if more == 0:
            raise ReplyFormatError(f"the connection ended after {position} of {length} bytes of the body")
        position += more
    return body


def _chunked_body(received: _Received) -> Generator[memoryview, int, memoryview]:
    body = bytearray()
    while True:
        line = yield from received.until(b"\r\n")
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ReplyFormatError(f"expected the size of a chunk, got {line[:60]!r}")
        left = int(match[1], 16)
        if left == 0:
            break
        while left > 0:
            piece = received.take(left)
            body += piece
            left -= len(piece)
            if left > 0 and not (yield from received.receive()):
                raise ReplyFormatError(f"the connection ended in a chunk, after {len(body)} bytes of the body")
        yield from received.until(b"\r\n", begin=b"\r\n")
    while (yield from received.until(b"\r\n")) != b"":  # trailers, of which none are known
        pass
    return memoryview(body)


def _rest(received: _Received) -> Generator[memoryview, int, memoryview]:
    """A body that ends with the connection."""
    body = bytearray(received.take(received.size))
    while (yield from received.receive()):
        body += received.take(received.size)
    return memoryview(body)


def decoded(body: bytes | memoryview, codings: str) -> bytes | memoryview:
    """Undo the codings of a body, the last one first."""
    for coding in reversed([part.strip(" \t").lower() for part in codings.split(",")]):
        if coding in {"", "identity"} or len(body) == 0:
            continue
        try:
            body = _inflated(body, coding)
        except zlib.error as error:
            raise ReplyFormatError(f"expected a body with Content-Encoding {coding}, got another: {error}") from error
    return body


def _inflated(body: bytes | memoryview, coding: str) -> bytes:
    if coding in {"gzip", "x-gzip"}:
        window_bits = 31
    elif coding == "deflate":
        # Some servers leave out the two bytes of the zlib format (RFC 9110, section 8.4.1.2).
        window_bits = 15 if body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0 else -15
    else:
        raise ReplyFormatError(f"expected Content-Encoding identity, gzip or deflate, got {coding[:60]!r}")
    inflater = zlib.decompressobj(window_bits)
    inflated = inflater.decompress(body)
    if not inflater.eof or len(inflater.unused_data) > 0:
        raise zlib.error("it ends too early, or goes on")
    return inflated
