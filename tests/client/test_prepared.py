"""Requests that are encoded once: they are sent as any other, and read only if that is wanted."""

from __future__ import annotations

import dataclasses
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest
from support.fakes import COUNTER, DIGITS, SUM, Fake
from support.http_ends import Server, each, request_from, tcp_server

from tritonforge_client import (
    Attempt,
    BreakerOpen,
    BreakerPolicy,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    HedgePolicy,
    InvalidInput,
    ModelNotFound,
    ModelSpec,
    Options,
    Prepared,
    RetryPolicy,
    ServerError,
    SpecDrift,
    TensorSpec,
)
from tritonforge_client.testing import FakeTransport

IMAGES = {"images": np.ones((2, 2), np.float32)}
ECHO = ModelSpec(
    name="echo",
    inputs=(TensorSpec(name="x", datatype="FP32", dims=(2,)),),
    outputs=(TensorSpec(name="x", datatype="FP32", dims=(2,)),),
)
ONES = b'{"model_name":"echo","outputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,1]}]}'


def http_reply(head: bytes, elements: bytes = b"", *, status: bytes = b"200 OK") -> bytes:
    lines = (
        b"HTTP/1.1 " + status,
        b"Inference-Header-Content-Length: %d" % len(head),
        b"Content-Length: %d" % (len(head) + len(elements)),
    )
    return b"\r\n".join((*lines, b"", head + elements))


def test_an_answer_is_decoded_to_what_infer_returns(pair: tuple[Client, Fake]) -> None:
    client, _ = pair
    model = client.bind(DIGITS)
    prepared = model.prepare(IMAGES, outputs=["scores"], request_id="r")
    expected = model.infer_with_reply(IMAGES, outputs=["scores"], request_id="r")
    answer = client.send(prepared)
    reply = answer.decode()
    assert list(reply.value) == ["scores"]
    np.testing.assert_array_equal(reply.value["scores"], expected.value["scores"])
    like = dataclasses.replace(reply, value=expected.value, elapsed_s=expected.elapsed_s)
    assert like == expected
    assert (answer.endpoint, answer.attempts, answer.elapsed_s) == ("fake", 1, reply.elapsed_s)
    assert (prepared.model, prepared.request_id, prepared.size_bytes) == ("digits", "r", 16)


def test_it_may_be_sent_again_and_its_array_changed(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    images = np.ones((2, 2), np.float32)
    prepared = client.bind(DIGITS).prepare({"images": images})
    images[:] = 7
    client.send(prepared)
    client.send(prepared)
    assert [request.inputs["images"].tolist() for request in fake.requests] == [[[1, 1], [1, 1]]] * 2


def test_the_spec_is_kept_before_anything_is_sent(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    with pytest.raises(InvalidInput, match="expected float32"):
        client.bind(DIGITS).prepare({"images": np.ones((2, 2))})
    with pytest.raises(InvalidInput, match="unknown output"):
        client.bind(DIGITS).prepare(IMAGES, outputs=["score"])
    with pytest.raises(InvalidInput, match=r"use stream\(\)"):
        client.bind(COUNTER).prepare({"count": np.ones(1, np.int32)})
    with pytest.raises(InvalidInput, match=r"use sequence\(\)"):
        client.bind(SUM).prepare({"x": np.ones(1, np.int32)})
    with pytest.raises(InvalidInput, match="shared_memory: expected 'off'"):
        client.bind(DIGITS).prepare(IMAGES, options=Options(shared_memory="auto"))
    assert fake.requests == []


def test_it_is_retried_by_its_own_options(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    retried = Options(retry=RetryPolicy(attempts=3, initial_s=0.001, maximum_s=0.001), priority=2)
    prepared = client.bind(DIGITS).prepare(IMAGES, options=retried)
    fake.fail("queue_full", times=2)
    assert client.send(prepared).attempts == 3
    assert [request.parameters for request in fake.requests] == [{"priority": 2}] * 3


def test_its_deadline_holds(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    prepared = client.bind(DIGITS).prepare(IMAGES, options=Options(timeout_s=0.05))
    fake.delay(5)
    with pytest.raises(DeadlineExceeded):
        client.send(prepared)


def test_the_queue_is_told_the_whole_deadline(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    limited = dataclasses.replace(DIGITS, queue_timeout_us=1)
    fake.add(limited)
    client.send(client.bind(limited).prepare(IMAGES, options=Options(timeout_s=2)))
    timeout_us = fake.requests[0].parameters["timeout"]
    assert isinstance(timeout_us, int)
    assert 1_900_000 < timeout_us <= 2_000_000


def test_an_error_is_raised_when_it_is_sent(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    prepared = client.bind(DIGITS).prepare(IMAGES, request_id="r")
    fake.fail("not_found")
    with pytest.raises(ModelNotFound) as caught:
        client.send(prepared)
    assert (caught.value.model, caught.value.request_id) == ("digits", "r")


def test_an_answer_of_another_spec_is_noticed_when_it_is_read(pair: tuple[Client, Fake]) -> None:
    client, _ = pair
    narrow = dataclasses.replace(DIGITS, outputs=(TensorSpec(name="scores", datatype="FP32", dims=(4,)),))
    answer = client.send(client.bind(narrow).prepare(IMAGES))
    with pytest.raises(SpecDrift, match="output scores"):
        answer.decode()


def test_a_closed_client_prepares_and_sends_nothing_but_its_answers_can_be_read() -> None:
    fake = FakeTransport(DIGITS)
    with Client("fake", transport=fake) as client:
        model = client.bind(DIGITS)
        prepared = model.prepare(IMAGES)
        answer = client.send(prepared)
    for closed in (lambda: model.prepare(IMAGES), lambda: client.send(prepared)):
        with pytest.raises(RuntimeError, match="is closed"):
            closed()
    assert len(fake.requests) == 1
    assert answer.decode().value["scores"].shape == (2, 3)
    with Client("fake", transport=fake) as another:
        assert another.send(prepared).model == "digits"


def test_the_version_that_it_was_prepared_for_is_asked_for(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    fake.add(dataclasses.replace(DIGITS, version="2"))
    first, second, whichever = (
        client.bind(dataclasses.replace(DIGITS, version=version)).prepare(IMAGES) for version in ("1", "2", None)
    )
    assert [client.send(one).decode().model_version for one in (second, whichever)] == ["2", "2"]
    with pytest.raises(ModelNotFound, match="version 1 is not found"):
        client.send(first)


def test_a_token_is_asked_for_when_it_is_sent_and_not_before(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    tokens = iter(["first", "second"])
    prepared = client.bind(DIGITS).prepare(IMAGES, options=Options(token=lambda: next(tokens)))
    client.send(prepared)
    client.send(prepared)
    assert [one.headers["authorization"] for one in fake.requests] == ["Bearer first", "Bearer second"]


def test_its_breaker_opens(pair: tuple[Client, Fake]) -> None:
    client, fake = pair
    careful = Options(retry=None, breaker=BreakerPolicy(min_calls=1, open_s=60))
    prepared = client.bind(DIGITS).prepare(IMAGES, options=careful)
    fake.fail("connection")
    with pytest.raises(ConnectionFailed):
        client.send(prepared)
    with pytest.raises(BreakerOpen):
        client.send(prepared)
    assert len(fake.requests) == 1


def test_over_http_it_cannot_be_hedged() -> None:
    with Client(["http://127.0.0.1:1", "http://127.0.0.1:2"]) as client:
        prepared = client.bind(DIGITS).prepare(IMAGES, options=Options(hedge=HedgePolicy()))
        with pytest.raises(InvalidInput, match="hedge: expected a client over gRPC"):
            client.send(prepared)


def test_hooks_see_it_and_add_headers() -> None:
    seen = []

    class Tracing:
        @contextmanager
        def attempt(self, attempt: Attempt) -> Iterator[Mapping[str, str]]:
            seen.append((attempt.model, attempt.number))
            yield {"traceparent": "here"}

    fake = FakeTransport(DIGITS)
    with Client("fake", transport=fake, hooks=[Tracing()]) as client:
        client.send(client.bind(DIGITS).prepare(IMAGES))
    assert seen == [("digits", 1)]
    assert fake.requests[0].headers == {"traceparent": "here"}


def test_another_protocol_is_refused() -> None:
    with Client("http://127.0.0.1:1") as http, Client("grpc://127.0.0.1:1") as grpc:
        for preparing, sending, text in ((http, grpc, "for gRPC, got one for HTTP"), (grpc, http, "for HTTP, got one")):
            prepared = preparing.bind(DIGITS).prepare(IMAGES)
            with pytest.raises(InvalidInput, match=f"expected a request that was prepared {text}") as caught:
                sending.send(prepared)
            assert (caught.value.field, caught.value.model) == ("prepared", "digits")


def test_over_http_every_client_sends_the_same_bytes() -> None:
    requests: list[tuple[bytes, bytes]] = []

    def record(_: Server, connection: socket.socket) -> None:
        while (got := request_from(connection)) != (b"", b""):
            requests.append(got)
            connection.sendall(http_reply(ONES))

    with tcp_server(record) as server:
        url = f"http://127.0.0.1:{server.port}"
        with Client(url) as first, Client(url) as second:
            x = np.arange(2, dtype=np.float32)
            prepared = first.bind(ECHO).prepare({"x": x})
            first.bind(ECHO).infer({"x": x})
            x[:] = 0
            answers = [first.send(prepared), first.send(prepared), second.send(prepared)]
    assert [answer.decode().value["x"].tolist() for answer in answers] == [[1, 1]] * 3
    assert [answer.size_bytes for answer in answers] == [len(ONES)] * 3
    assert len(set(requests)) == 1
    assert requests[0][1].endswith(np.arange(2, dtype=np.float32).tobytes())
    assert prepared.size_bytes == len(requests[0][1])
    assert repr(prepared) == f"Prepared('echo', {prepared.size_bytes} bytes over HTTP)"


def test_over_http_it_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[bytes, bytes]] = []

    def record(_: Server, connection: socket.socket) -> None:
        while (got := request_from(connection)) != (b"", b""):
            requests.append(got)
            connection.sendall(http_reply(ONES))

    with tcp_server(record) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        model = client.bind(ECHO, options=Options(compression="gzip"))
        x = np.zeros(2, np.float32)
        prepared = model.prepare({"x": x})
        model.infer({"x": x})
        monkeypatch.delattr(zlib, "compressobj")
        client.send(prepared)
        client.send(prepared)
    assert len(set(requests)) == 1
    assert b"content-encoding: gzip" in requests[0][0]
    assert b"accept-encoding: gzip" in requests[0][0]
    assert prepared.size_bytes == len(requests[0][1])


def test_each_attempt_may_go_to_another_endpoint() -> None:
    with tcp_server(each(http_reply(ONES))) as one, tcp_server(each(http_reply(ONES))) as other:
        targets = [f"http://127.0.0.1:{server.port}" for server in (one, other)]
        with Client(targets[0]) as preparing, Client(targets) as sending:
            prepared = preparing.bind(ECHO).prepare({"x": np.zeros(2, np.float32)})
            endpoints = [sending.send(prepared).endpoint for _ in targets]
    assert sorted(endpoints) == sorted(target.removeprefix("http://") for target in targets)


@contextmanager
def answering(reply: bytes) -> Iterator[tuple[Client, Prepared]]:
    """A client of a server that answers this, and a request for it."""
    with tcp_server(each(reply)) as server:
        url = f"http://127.0.0.1:{server.port}"
        with Client(url, options=Options(retry=None)) as client:
            yield client, client.bind(ECHO).prepare({"x": np.zeros(2, np.float32)})


def test_over_http_a_status_is_an_error_when_it_comes() -> None:
    error = http_reply(b'{"error":"no such thing"}', status=b"400 Bad Request")
    with answering(error) as (client, prepared), pytest.raises(InvalidInput, match="no such thing"):
        client.send(prepared)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (http_reply(b"<html>"), "expected JSON"),
        (http_reply(ONES, b"more"), "the tensors of the reply end at byte"),
    ],
    ids=["a page", "more than was announced"],
)
def test_over_http_a_damaged_reply_is_an_error_when_it_is_read(reply: bytes, text: str) -> None:
    with answering(reply) as (client, prepared):
        answer = client.send(prepared)
        with pytest.raises(ServerError, match=text) as caught:
            answer.decode()
        assert caught.value.endpoint == answer.endpoint
