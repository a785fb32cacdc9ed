"""gRPC over HTTP/2 without I/O, against the h2 library as the server."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from support.grpc_ends import go_away
from support.http2_peer import GOOD, HEAD, Peer, echo, failing, message_of, sending

from tritonforge_client.core.http2 import Http2Connection
from tritonforge_client.core.http2_call import CallFailed, Http2Call
from tritonforge_client.core.http2_head import headers_from_block, request_block
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.errors import InvalidInput


def block_of(headers: dict[str, str] | None = None, timeout_s: float = 1.0) -> bytes:
    return request_block(
        "ModelInfer", scheme="http", authority="h:1", timeout_s=timeout_s, compression=None, headers=headers or {}
    )


def call(connection: Http2Connection, peer: Peer, *message: Any, sizes: Iterator[int] | None = None) -> bytes:
    sizes = sizes if sizes is not None else itertools.repeat(1 << 30)
    return bytes(peer.run(connection.reply(connection.begin(block_of(), message, compressed=False)), sizes))


def between(connection: Http2Connection, peer: Peer, most: int = 1 << 30) -> bool:
    """Let the client read what comes while it asks for nothing; whether it would go on."""
    room = connection.wanted()
    data = peer.take(min(len(room), most))
    room[: len(data)] = data
    assert connection.received(len(data)) == []
    return connection.reusable


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 150_000), min_size=1, max_size=4),
    steps=st.lists(st.integers(1, 70_000), min_size=1, max_size=20).filter(lambda steps: sum(steps) > 20_000),
    window=st.integers(65_535, 300_000),
    frame_bytes=st.integers(16_384, 100_000),
)
def test_messages_arrive_whole_both_ways(lengths: list[int], steps: list[int], window: int, frame_bytes: int) -> None:
    random = np.random.default_rng(sum(lengths))
    pieces = [random.bytes(length) for length in lengths]
    connection, peer = Http2Connection(), Peer(echo, window=window, frame_bytes=frame_bytes)
    for message in (pieces, [np.frombuffer(b"".join(pieces), np.uint8).data], [b"short"]):
        whole = b"".join(map(bytes, message))
        assert call(connection, peer, *message, sizes=itertools.cycle(steps)) == whole
        assert peer.received == message_of(whole)
        assert connection.reusable


def test_a_head_says_what_grpc_asks_for() -> None:
    peer, connection = Peer(echo), Http2Connection()
    long = "x" * 40_000  # more than fits in one frame
    begun = connection.begin(block_of({"authorization": "Bearer y", "long": long}, 2.5), [b"a"], compressed=False)
    assert peer.run(connection.reply(begun)) == b"a"
    assert peer.heads == [
        {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/inference.GRPCInferenceService/ModelInfer",
            ":authority": "h:1",
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "tritonforge",
            "grpc-accept-encoding": "identity,deflate,gzip",
            "grpc-timeout": "2500000u",
            "authorization": "Bearer y",
            "long": long,
        }
    ]


@pytest.mark.parametrize(
    ("timeout_s", "text"),
    [
        (1e-6, "1u"), (0.001234, "1240u"), (59.99, "60000000u"), (99.0, "99000000u"), (99.95, "100000m"),
        (100.0, "100000m"), (1e6, "1000000S"), (1e9, "99999999S"),
    ],
)  # fmt: skip
def test_a_timeout_has_eight_digits_at_most_and_is_no_shorter(timeout_s: float, text: str) -> None:
    assert headers_from_block(block_of(timeout_s=timeout_s))["grpc-timeout"] == text


@pytest.mark.parametrize("headers", [{"x": "a\r\nb"}, {"x": "é"}, {"é": "x"}, {"a\0": "x"}])
def test_a_header_that_is_no_printable_text_is_refused_without_its_value(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="printable ASCII") as caught:
        block_of(headers)
    assert caught.value.field == "headers"
    assert all(value not in str(caught.value) for value in headers.values() if value != "x")


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)], ids=["gzip", "deflate"]
)
def test_compressed_messages_are_read(coding: str, compress: Callable[[bytes], bytes]) -> None:
    def answer(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, [*HEAD, ("grpc-encoding", coding)])
        peer.h2.send_data(stream, message_of(compress(b"abc" * 1000), compressed=True))
        peer.h2.send_headers(stream, GOOD, end_stream=True)

    assert call(Http2Connection(), Peer(answer), b"") == b"abc" * 1000


@pytest.mark.parametrize("piece", [1, 4, 6, 20_000])
def test_messages_of_a_stream_come_one_by_one(piece: int) -> None:
    messages = [b"", b"a", b"b" * 30_000, b"", b"c" * 100_000]
    peer, connection = Peer(sending(*map(message_of, messages), piece=piece)), Http2Connection()
    begun = connection.begin(block_of(), [b"x"], compressed=False)
    got = [peer.run(connection.next_message(begun), itertools.repeat(7_001)) for _ in range(6)]
    assert [bytes(message) if message is not None else None for message in got] == [*messages, None]


@pytest.mark.parametrize(
    ("trailers", "status", "text"),
    [
        ([("grpc-status", "14"), ("grpc-message", quote("not now, ü"))], "UNAVAILABLE", "not now, ü"),
        ([("grpc-status", "3")], "INVALID_ARGUMENT", ""),
        ([("grpc-status", "99")], "UNKNOWN", ""),
    ],
)
@pytest.mark.parametrize("with_message", [False, True])
def test_another_status_than_ok_is_a_failure(
    trailers: list[tuple[str, str]], status: str, text: str, *, with_message: bool
) -> None:
    answer = sending(message_of(b"a"), trailers=trailers) if with_message else failing(trailers)
    connection, peer = Http2Connection(), Peer(answer)
    with pytest.raises(CallFailed) as caught:
        call(connection, peer, b"x")
    assert (caught.value.status, caught.value.text) == (status, text)
    assert connection.reusable
    peer.answer = echo
    assert call(connection, peer, b"next") == b"next"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (sending(), "expected one message, got none"),
        (sending(message_of(b"a"), message_of(b"b")), "expected one message, got several"),
        (sending(message_of(b"abc")[:6]), "in the middle of a message"),
        (sending(b"\0\0"), "in the middle of a message"),
        (sending(message_of(b"a"), trailers=[("x", "y")]), "without a grpc-status"),
        (sending(message_of(b"a", compressed=True), trailers=GOOD), ""),
        (
            lambda p, s: p.h2.send_headers(s, [(":status", "200"), ("content-type", "text/html")]),
            "content-type 'text/html'",
        ),
        (lambda _peer, _stream: None, "the connection ended"),
    ],
)
def test_what_is_no_reply_of_grpc_is_refused(answer: Callable[[Peer, int], None], says: str) -> None:
    connection = Http2Connection()
    if says == "":  # a flag without a coding means nothing
        assert call(connection, Peer(answer), b"x") == b"a"
        return
    with pytest.raises(ReplyFormatError, match=says):
        call(connection, Peer(answer), b"x")


@pytest.mark.parametrize("ends_well", [False, True])
def test_the_status_of_who_is_no_grpc_server_is_told(*, ends_well: bool) -> None:
    def answer(peer: Peer, stream: int) -> None:
        peer.h2.send_headers(stream, [(":status", "503"), HEAD[1]], end_stream=not ends_well)
        if ends_well:
            peer.h2.send_data(stream, message_of(b"a"))
            peer.h2.send_headers(stream, GOOD, end_stream=True)

    with pytest.raises(CallFailed) as caught:
        call(Http2Connection(), Peer(answer), b"x")
    assert caught.value.status == 503


@pytest.mark.parametrize(
    ("code", "status"), [(7, "UNAVAILABLE"), (8, "CANCELLED"), (11, "RESOURCE_EXHAUSTED"), (2, "INTERNAL")]
)
def test_a_stream_that_is_reset_is_a_failure(code: int, status: str) -> None:
    connection = Http2Connection()
    with pytest.raises(CallFailed, match="RST_STREAM") as caught:
        call(connection, Peer(lambda peer, stream: peer.h2.reset_stream(stream, code)), b"x")
    assert caught.value.status == status
    assert connection.reusable


def test_an_answer_before_the_request_is_all_there_ends_it() -> None:
    class Refusing(Peer):
        def receive(self, data: bytes) -> None:
            before = len(self.heads)
            super().receive(data)
            if len(self.heads) > before:
                failing([("grpc-status", "8"), ("grpc-message", "too large")])(self, 1)

    connection, peer = Http2Connection(), Refusing(echo)
    with pytest.raises(CallFailed, match="too large"):
        call(connection, peer, bytes(1_000_000))
    assert not connection.reusable  # who has not read all may close it
    assert peer.resets == [1]  # and who does not need not wait for the rest
    assert len(peer.received) <= 65_535


def test_a_server_that_leaves_gets_no_other_request() -> None:
    connection, peer = Http2Connection(), Peer(echo)
    assert call(connection, peer, b"a") == b"a"
    peer.h2.close_connection(last_stream_id=1)
    assert not between(connection, peer)
    connection, peer = Http2Connection(), Peer(lambda p, _: p.h2.close_connection(last_stream_id=0))
    with pytest.raises(CallFailed, match="the request was not taken"):
        call(connection, peer, b"a")
    assert not connection.reusable


def test_a_server_that_leaves_after_this_request_answers_it() -> None:
    # The library sends nothing after a GOAWAY, so the frame is written by hand.
    def answer(peer: Peer, stream: int) -> None:
        peer.sent += peer.h2.data_to_send() + go_away(1)
        echo(peer, stream)

    connection = Http2Connection()
    assert call(connection, Peer(answer), b"a") == b"a"
    assert not connection.reusable


def test_what_comes_between_requests_is_answered_with_the_next_one() -> None:
    connection, peer = Http2Connection(), Peer(echo)
    assert call(connection, peer, b"a") == b"a"
    peer.h2.ping(b"12345678")
    assert between(connection, peer)
    pongs: list[object] = []
    receive = peer.h2.receive_data

    def watched(data: bytes) -> list[Any]:
        events = receive(data)
        pongs.extend(event for event in events if type(event).__name__ == "PingAckReceived")
        return list(events)

    peer.h2.receive_data = watched  # type: ignore[method-assign,assignment]
    assert call(connection, peer, b"b") == b"b"
    assert len(pongs) == 1
    assert not between(Http2Connection(), Peer(echo), 0)  # the end


def test_what_is_no_frame_between_requests_ends_the_connection_at_once() -> None:
    connection, peer = Http2Connection(), Peer(echo)
    assert call(connection, peer, b"a") == b"a"
    peer.sent += b"HTTP/1.1 400 Bad Request\r\n\r\n"
    assert not between(connection, peer)


def test_damage_after_a_reply_harms_the_connection_and_not_the_reply() -> None:
    def answer(peer: Peer, stream: int) -> None:
        echo(peer, stream)
        peer.sent += peer.h2.data_to_send() + b"\0\0\0\x09\0\0\0\0\0"  # the rest of a head that never began

    connection = Http2Connection()
    assert call(connection, Peer(answer), b"a") == b"a"
    assert not connection.reusable


def test_frames_between_requests_may_come_in_pieces_of_any_size() -> None:
    connection, peer = Http2Connection(), Peer(echo)
    assert call(connection, peer, b"a") == b"a"
    for _ in range(9000):  # more than the buffer holds
        peer.h2.ping(b"12345678")
    while peer.sent or peer.h2._data_to_send:
        assert between(connection, peer, 7919)
    assert call(connection, peer, b"b") == b"b"


# ---- several calls at once ----


class Talk:
    """A client and a peer that exchange so many bytes at a time."""

    def __init__(self, peer: Peer, sizes: Iterator[int] = itertools.repeat(1 << 30)) -> None:  # noqa: B008
        self.connection, self.peer, self._sizes = Http2Connection(), peer, sizes

    def begin(self, message: bytes) -> Http2Call:
        return self.connection.begin(block_of(), [message], compressed=False)

    def send(self, most_bytes: int = 1 << 30) -> int:
        """How many bytes were sent."""
        buffers = self.connection.unsent(most_bytes)
        for buffer in buffers:
            self.peer.receive(bytes(buffer))
        return sum(map(len, buffers))

    def turn(self, most_bytes: int = 1 << 30) -> list[Http2Call]:
        """Send, and read what is there of the answer."""
        self.send(most_bytes)
        room = self.connection.wanted()
        data = self.peer.take(min(len(room), next(self._sizes)))
        room[: len(data)] = data
        return self.connection.received(len(data)) if len(data) > 0 else []


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 400_000), min_size=2, max_size=8),
    steps=st.lists(st.integers(1, 70_000), min_size=1, max_size=20).filter(lambda steps: sum(steps) > 30_000),
    cancelled=st.sets(st.integers(0, 7)),
    most_bytes=st.integers(1, 300_000),
    cancel_at=st.integers(0, 40),
)
def test_calls_at_once_get_their_own_replies(
    lengths: list[int], steps: list[int], cancelled: set[int], most_bytes: int, cancel_at: int
) -> None:
    talk = Talk(Peer(echo), itertools.cycle(steps))
    messages = [np.random.default_rng(index).bytes(length) for index, length in enumerate(lengths)]
    calls = [talk.begin(message) for message in messages]
    told: set[Http2Call] = set()
    for turn in itertools.count():
        if turn == cancel_at:
            for index in cancelled & set(range(len(calls))):
                talk.connection.cancel(calls[index])
        told.update(call for call in talk.turn(max(most_bytes, 20_000)) if call.is_over)
        if talk.connection.calls == 0:
            break
    for index, call in enumerate(calls):
        assert call.is_over
        if index not in cancelled or call in told:
            assert bytes(call.result()) == messages[index]
    assert talk.connection.reusable
    after = talk.begin(b"after")
    while not after.is_over:
        talk.turn()
    assert bytes(after.result()) == b"after"


def test_a_short_message_does_not_wait_for_a_long_one() -> None:
    talk = Talk(Peer(lambda _peer, _stream: None, window=1 << 24, frame_bytes=1 << 20))
    talk.turn()  # the settings of the server
    talk.peer.h2.increment_flow_control_window(1 << 25)
    talk.turn()
    long, short = talk.begin(bytes(8_000_000)), talk.begin(b"short")
    talk.send(500_000)
    assert short.left == 0
    assert 7_000_000 < long.left < 8_000_000
    assert talk.send(500_000) > 0
    assert 6_000_000 < long.left < 7_600_000


def test_no_more_is_sent_than_both_windows_allow() -> None:
    talk = Talk(Peer(lambda _peer, _stream: None))
    acknowledge = talk.peer.h2.acknowledge_received_data
    talk.peer.h2.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign]
    first, second = talk.begin(bytes(50_000)), talk.begin(bytes(50_000))
    talk.turn()
    assert first.left + second.left == 100_010 - 65_535
    talk.peer.h2.acknowledge_received_data = acknowledge  # type: ignore[method-assign]
    talk.peer.h2.increment_flow_control_window(100_000)
    talk.turn()
    talk.turn()
    assert first.left + second.left == 0


def test_a_cancelled_call_is_told_the_server_and_sends_no_more() -> None:
    talk = Talk(Peer(lambda _peer, _stream: None))
    cancelled, other = talk.begin(bytes(500_000)), talk.begin(b"other")
    talk.turn()
    talk.connection.cancel(cancelled)
    talk.connection.cancel(cancelled)
    assert talk.turn() == []
    assert talk.peer.resets == [cancelled.stream]
    assert cancelled.is_over
    assert not other.is_over
    assert talk.connection.calls == 1
    assert talk.send() == 0


def test_what_comes_for_a_cancelled_call_is_skipped() -> None:
    talk = Talk(Peer(echo), itertools.repeat(10_000))
    large = talk.begin(bytes(60_000))
    for _ in range(3):
        talk.turn()
    assert not large.is_over
    assert 0 < len(large.room()) < 60_000
    talk.connection.cancel(large)
    after = talk.begin(b"after")
    while not after.is_over:
        talk.turn()
    assert bytes(after.result()) == b"after"


def test_a_server_that_leaves_answers_what_it_took() -> None:
    talk = Talk(Peer(lambda _peer, _stream: None))
    taken, refused = talk.begin(b"taken"), talk.begin(b"refused")
    talk.turn()
    talk.peer.sent += go_away(1)
    assert talk.turn() == [refused]
    with pytest.raises(CallFailed, match="the request was not taken"):
        refused.result()
    assert not talk.connection.reusable
    echo(talk.peer, taken.stream)
    assert talk.turn()[-1] is taken
    assert bytes(taken.result()) == message_of(b"taken")[5:]


def test_damage_ends_all_calls() -> None:
    talk = Talk(Peer(lambda _peer, _stream: None))
    calls = [talk.begin(b"a"), talk.begin(b"b")]
    talk.turn()
    talk.peer.sent += b"\0\0\0\x09\0\0\0\0\0"
    assert talk.turn() == calls
    for call in calls:
        with pytest.raises(ReplyFormatError, match="the rest of a head"):
            call.result()
    assert not talk.connection.reusable
    assert talk.send() == 0


def test_the_most_calls_of_the_server_are_known() -> None:
    talk = Talk(Peer(echo))
    assert talk.connection.most_calls > 1000
    talk.peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 7})
    talk.turn()
    assert talk.connection.most_calls == 7


# ---- bytes that are no reply ----


def whole_reply(*messages: bytes, piece: int = 100) -> bytes:
    peer, connection = Peer(sending(*map(message_of, messages), trailers=GOOD, piece=piece)), Http2Connection()
    connection.begin(block_of(), [b"x"], compressed=False)
    for buffer in connection.unsent():
        peer.receive(bytes(buffer))
    return peer.take(1 << 30)


def outcome_of(data: bytes, sizes: Sequence[int] = (1 << 20,)) -> list[bytes]:
    """What a client makes of these bytes; they end with the connection."""
    peer, connection = Peer(lambda _peer, _stream: None), Http2Connection()
    begun = connection.begin(block_of(), [b"x"], compressed=False)
    peer.sent = bytearray(data)
    peer.h2.data_to_send = lambda _=None: b""  # type: ignore[method-assign,assignment]
    peer.receive = lambda _: None  # type: ignore[method-assign,assignment]
    messages: list[bytes] = []
    while (message := peer.run(connection.next_message(begun), itertools.cycle(sizes))) is not None:
        messages.append(bytes(message))
    return messages


def test_a_reply_that_is_cut_off_anywhere_is_told() -> None:
    data = whole_reply(b"a" * 500, b"b")
    assert outcome_of(data) == [b"a" * 500, b"b"]
    for end in range(len(data)):
        with pytest.raises(ReplyFormatError):
            outcome_of(data[:end], (97,))


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6),
    size=st.integers(1, 800),
)
def test_damaged_bytes_are_refused_or_read_and_nothing_else(edits: list[tuple[int, int]], size: int) -> None:
    data = bytearray(whole_reply(b"a" * 500, b"b"))
    for at, value in edits:
        data[at % len(data)] = value
    with suppress(ReplyFormatError, CallFailed):
        outcome_of(bytes(data), (size,))


@settings(max_examples=1000, deadline=None)
@given(at=st.integers(0, 200), edit=st.binary(max_size=2))
def test_a_reply_that_came_at_once_is_what_it_is_in_pieces(at: int, edit: bytes) -> None:
    data = whole_reply(b"abc")
    at %= len(data)
    edited = data[:at] + edit + data[at + len(edit) :]
    outcomes: list[object] = []
    for size in (1 << 20, 1):
        try:
            outcomes.append(outcome_of(edited, (size,)))
        except (ReplyFormatError, CallFailed) as error:
            outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises((ReplyFormatError, CallFailed)):
        outcome_of(data)
