"""HTTP/1.1 without a socket: whatever pieces the bytes come in, the reply is the same."""

import gzip
import zlib
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonforge_client import InvalidInput
from tritonforge_client.core import http11
from tritonforge_client.core.exchange import HttpRequest
from tritonforge_client.core.http11 import (
    SCRATCH_BYTES,
    ReceivedReply,
    pieces_from_buffers,
    reply_reader,
    request_head,
)
from tritonforge_client.core.request import ReplyFormatError

# Sizes on both sides of what the scratch buffer holds.
BODIES = st.one_of(
    st.binary(max_size=300), st.integers(0, 200_000).map(lambda size: np.arange(size, dtype=np.uint8).tobytes())
)
SPLITS = st.lists(st.integers(1, 90_000), max_size=30) | st.lists(st.integers(1, 5), max_size=200)


def read(data: bytes, sizes: list[int] | None = None, *, method: str = "GET", ends: bool = True) -> ReceivedReply:
    """Feed bytes in pieces of given sizes, the rest as it fits, then the end of the connection."""
    reader = reply_reader(method, bytearray(SCRATCH_BYTES))
    left = list(sizes or ())
    position = 0
    try:
        wanted = next(reader)
        while position < len(data) or ends:
            piece = data[position : position + min(len(wanted), left.pop(0) if left else len(data))]
            wanted[: len(piece)] = piece
            position += len(piece)
            wanted = reader.send(len(piece))
    except StopIteration as stop:
        received: ReceivedReply = stop.value
        return received
    raise AssertionError("the reader wants more")


def message(body: bytes, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def sized(body: bytes, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return message(body, *headers, f"Content-Length: {len(body)}", status=status, version=version)


def chunks(body: bytes, sizes: list[int], trailers: str = "") -> bytes:
    data = b""
    position = 0
    while position < len(body):
        piece = body[position : position + (sizes.pop(0) if sizes else len(body))]
        data += f"{len(piece):X};note=1\r\n".encode() + piece + b"\r\n"
        position += len(piece)
    return data + b"0\r\n" + trailers.encode() + b"\r\n"


@given(body=BODIES, splits=SPLITS, interim=st.booleans())
@settings(deadline=None)
def test_a_body_of_known_length_is_the_same_in_any_pieces(body: bytes, splits: list[int], interim: bool) -> None:
    first = message(b"", "Link: x", status="103 Early Hints") if interim else b""
    received = read(first + sized(body, "X-A: 1"), splits, ends=False)
    assert bytes(received.response.body) == body
    assert received.response.headers == {"x-a": "1", "content-length": str(len(body))}
    assert (received.response.status, received.reusable) == (200, True)


@given(body=BODIES, chunk_sizes=st.lists(st.integers(1, 70_000), max_size=20), splits=SPLITS, trailer=st.booleans())
@settings(deadline=None)
def test_a_body_in_chunks_is_the_same_in_any_pieces(
    body: bytes, chunk_sizes: list[int], splits: list[int], trailer: bool
) -> None:
    sent = message(chunks(body, chunk_sizes, "X-Sum: 1\r\n" * trailer), "Transfer-Encoding: chunked")
    received = read(sent, splits, ends=False)
    assert bytes(received.response.body) == body
    assert received.reusable


@given(body=BODIES, splits=SPLITS)
@settings(deadline=None)
def test_a_body_that_ends_with_the_connection_is_the_same_in_any_pieces(body: bytes, splits: list[int]) -> None:
    received = read(message(body), splits)
    assert bytes(received.response.body) == body
    assert not received.reusable


@given(data=st.binary(max_size=400), splits=SPLITS)
@settings(deadline=None)
def test_noise_is_refused_or_read_but_never_anything_else(data: bytes, splits: list[int]) -> None:
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"):
        try:
            read(start + data, splits)
        except ReplyFormatError:
            continue


def test_a_large_body_is_received_where_it_stays() -> None:
    size = 5_000_000
    reader = reply_reader("GET", bytearray(SCRATCH_BYTES))
    wanted = next(reader)
    head = message(b"", f"Content-Length: {size}")
    wanted[: len(head)] = head
    body = reader.send(len(head))
    assert len(body) == size
    with pytest.raises(StopIteration) as stop:
        reader.send(size)
    assert np.shares_memory(np.frombuffer(body, np.uint8), np.frombuffer(stop.value.value.response.body, np.uint8))


def test_a_length_that_is_a_lie_allocates_little() -> None:
    reader = reply_reader("GET", bytearray(SCRATCH_BYTES))
    head = message(b"", "Content-Length: 999999999999999999")
    next(reader)[: len(head)] = head
    assert len(reader.send(len(head))) <= 64 * 1024 * 1024


def test_a_body_above_the_first_allocation_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http11, "_FIRST_BODY_BYTES", 100_000)
    body = np.random.default_rng(0).bytes(1_000_000)
    assert bytes(read(sized(body)).response.body) == body


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Same")])
def test_some_replies_have_no_body_whatever_their_headers_say(method: str, status: str) -> None:
    received = read(message(b"", "Content-Length: 10", status=status), method=method, ends=False)
    assert (bytes(received.response.body), received.reusable) == (b"", True)


@pytest.mark.parametrize(
    "data",
    [
        sized(b"abc", "Connection: close"),
        sized(b"abc", "Connection: x, Close"),
        sized(b"abc", version="1.0"),
        sized(b"abc") + b"H",
        message(b"abc"),
    ],
    ids=["close", "close in a list", "HTTP/1.0", "more than asked for", "no length"],
)
def test_a_connection_is_not_used_again(data: bytes) -> None:
    received = read(data)
    assert (bytes(received.response.body), received.reusable) == (b"abc", False)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(b"abc" * 1000, mtime=0)),
        ("X-GZIP", gzip.compress(b"abc" * 1000, mtime=0)),
        ("deflate", zlib.compress(b"abc" * 1000)),
        ("deflate", zlib.compress(b"abc" * 1000)[2:-4]),
        ("deflate, gzip", gzip.compress(zlib.compress(b"abc" * 1000), mtime=0)),
        ("identity", b"abc" * 1000),
    ],
)
def test_content_codings_are_undone(coding: str, body: bytes) -> None:
    assert read(sized(body, f"Content-Encoding: {coding}")).response.body == b"abc" * 1000


def test_repeated_headers_are_joined_and_names_are_lower_case() -> None:
    data = sized(b"", "X-A: 1 ", "x-a:\t2", "Content-Length: 0, 0", "X-Empty:")
    headers = read(data).response.headers
    assert headers == {"x-a": "1, 2", "content-length": "0, 0, 0", "x-empty": ""}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "ended before the reply"),
        (b"SSH-2.0-x\r\n", "got b'SSH-2.0-x"),
        (b"HTTP/2 200\r\n\r\n", "got b'HTTP/2 200"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "ended before the reply"),
        (sized(b"abc")[:-1], "after 2 of 3 bytes"),
        (message(b"abc", "Content-Length: 3", "Content-Length: 4"), "one Content-Length"),
        (message(b"abc", "Content-Length: -3"), "one Content-Length"),
        (message(b"abc", "Content-Length: 3_0"), "one Content-Length"),
        (message(b"abc", "Content-Length: " + "9" * 19), "one Content-Length"),
        (message(b"abc", "Content-Length:"), "one Content-Length"),
        (message(b"0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 3"), "without Content-Length"),
        (message(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), "got 'gzip, chunked'"),
        (message(b"x\r\n", "Transfer-Encoding: chunked"), "size of a chunk"),
        (message(b"-1\r\n", "Transfer-Encoding: chunked"), "size of a chunk"),
        (message(b"2\r\nabc\r\n", "Transfer-Encoding: chunked"), "begins with"),
        (message(b"4\r\nabc", "Transfer-Encoding: chunked"), "after 3 bytes"),
        (message(b"3\r\nabc\r\n", "Transfer-Encoding: chunked"), "ended before the reply"),
        (message(b"0\r\n", "Transfer-Encoding: chunked"), "ended before the reply"),
        (sized(b"", "X : 1"), "expected a header"),
        (sized(b"", "X: 1", " folded"), "expected a header"),
        (sized(b"", "X: 1\nY: 2"), "expected a header"),
        (sized(b"", "X: a\0b"), "expected a header"),
        (sized(b"", "X: " + "y" * SCRATCH_BYTES), "at most 65536 bytes"),
        (sized(b"abc", "Content-Encoding: br"), "got 'br'"),
        (sized(b"abc", "Content-Encoding: gzip"), "expected a body with Content-Encoding gzip"),
        (sized(gzip.compress(b"abc", mtime=0)[:-1], "Content-Encoding: gzip"), "too early"),
        (message(b"", status="101 Switching Protocols"), "another protocol"),
    ],
)
def test_a_damaged_reply_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ReplyFormatError, match=text):
        read(data)


def test_another_protocol_is_refused_before_it_ends() -> None:
    with pytest.raises(ReplyFormatError, match="SSH"):
        read(b"SSH-", ends=False)


def test_a_request_head_is_exactly_this() -> None:
    body = (b"abc", np.zeros(3, np.float32).data)
    request = HttpRequest(method="POST", path="/v2/a?b=%20", headers={"content-type": "x/y", "x-b": "2"}, body=body)
    assert request_head(request, "[::1]:8000", {"x-a": "1", "x-b": "1"}) == (
        b"POST /v2/a?b=%20 HTTP/1.1\r\nhost: [::1]:8000\r\naccept-encoding: identity\r\nuser-agent: tritonforge\r\n"
        b"x-a: 1\r\nx-b: 2\r\ncontent-type: x/y\r\ncontent-length: 15\r\n\r\n"
    )


def test_a_request_that_is_sent_again_says_what_is_true_then() -> None:
    request = HttpRequest(method="GET", path="/v2")
    heads = [request_head(request, host, headers) for host in ("a", "b", "a") for headers in ({}, {"x": "1"}, {})]
    assert heads == [
        b"GET /v2 HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\nuser-agent: tritonforge\r\n%b\r\n" % (host, more)
        for host in (b"a", b"b", b"a")
        for more in (b"", b"x: 1\r\n", b"")
    ]


def test_a_length_is_sent_where_a_body_is_expected() -> None:
    assert b"content-length: 0\r\n" in request_head(HttpRequest(method="POST", path="/"), "h", {})
    assert b"content-length" not in request_head(HttpRequest(method="GET", path="/"), "h", {})


@pytest.mark.parametrize(
    ("path", "host", "headers"),
    [
        ("/a\r\nX: 1", "h", {}),
        ("/a b", "h", {}),
        ("/é", "h", {}),
        ("", "h", {}),
        ("/", "h\r\nX: 1", {}),
        ("/", "bücher", {}),
        ("/", "h", {"x": "1\r\nY: 2"}),
        ("/", "h", {"x": "1\nY: 2"}),
        ("/", "h", {"x\r\nY": "2"}),
        ("/", "h", {"x": "a\0"}),
        ("/", "h", {"x": "secré"}),
    ],
)
def test_nothing_can_be_added_to_a_request(path: str, host: str, headers: Mapping[str, str]) -> None:
    for request, given_headers in (
        (HttpRequest(method="GET", path=path), headers),
        (HttpRequest(method="GET", path=path, headers=headers), {}),
    ):
        with pytest.raises(InvalidInput) as caught:
            request_head(request, host, given_headers)
        assert caught.value.field == ("path" if path != "/" else "headers")
        assert "secr" not in str(caught.value)


@given(buffers=st.lists(st.binary(max_size=40), max_size=20), join_below_bytes=st.integers(0, 50))
def test_pieces_are_the_buffers_and_large_ones_are_not_copied(buffers: list[bytes], join_below_bytes: int) -> None:
    pieces = pieces_from_buffers(buffers, join_below_bytes=join_below_bytes)
    assert b"".join(pieces) == b"".join(buffers)
    assert all(len(piece) > 0 for piece in pieces)
    assert sum(len(piece) < join_below_bytes for piece in pieces) <= 1 + sum(
        len(buffer) >= join_below_bytes for buffer in buffers
    )
    kept = [buffer for buffer in buffers if len(buffer) >= max(1, join_below_bytes)]
    assert [buffer for buffer in kept if not any(piece.obj is buffer for piece in pieces)] == []
