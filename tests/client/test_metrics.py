"""The metrics page: what it says, where it is, and what happens when it is not there."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from support.blocking import BlockingClient
from support.http_ends import Server, each, request_from, tcp_server

from tritonforge_client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    MetricFamily,
    MetricSample,
    Options,
    ServerError,
    TritonError,
)
from tritonforge_client.core.metrics import metrics_address, metrics_from_text
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.testing import FakeTransport

PAGE = r"""
# HELP nv_inference_request_success Number of successful requests, \\ all\nbatch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="digits",version="1"} 3
nv_inference_request_success{model="digits",version="2"} 4
nv_inference_request_success{model="resnet", version="1",} 10 1395066363000
# a comment, and an empty line

# TYPE nv_inference_queue_summary_us summary
nv_inference_queue_summary_us{quantile="0.5"} Nan
nv_inference_queue_summary_us_sum 1.7e+3
#	HELP	latency	In seconds
latency_bucket { le = "+Inf" }	5
odd{path="C:\\DIR\"\n",brace="} 1"}-Inf
plain +Inf
small .5e-1 -7
"""


def sample(name: str, value: float, **labels: str) -> MetricSample:
    return MetricSample(name=name, labels=labels, value=value)


def test_a_page_is_read_with_every_form_that_the_format_has() -> None:
    metrics = metrics_from_text(PAGE)
    assert metrics.families == {
        "nv_inference_request_success": MetricFamily(
            kind="counter", help="Number of successful requests, \\ all\nbatch sizes"
        ),
        "nv_inference_queue_summary_us": MetricFamily(kind="summary", help=""),
        "latency": MetricFamily(kind="untyped", help="In seconds"),
    }
    samples = list(metrics.samples)
    unanswered = samples.pop(3)
    assert math.isnan(unanswered.value)
    assert unanswered.labels == {"quantile": "0.5"}
    assert samples == [
        sample("nv_inference_request_success", 3, model="digits", version="1"),
        sample("nv_inference_request_success", 4, model="digits", version="2"),
        sample("nv_inference_request_success", 10, model="resnet", version="1"),
        sample("nv_inference_queue_summary_us_sum", 1700),
        sample("latency_bucket", 5, le="+Inf"),
        sample("odd", -math.inf, path='C:\\DIR"\n', brace="} 1"),
        sample("plain", math.inf),
        sample("small", 0.05),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "<html>",
        "name",
        "name1",
        "name ",
        "1name 1",
        "na-me 1",
        "name 1_000",
        "name 0x10",
        "name one",
        "name 1 2 3",
        "name 1 2.5",
        "name 1\r",
        'name{a="b" 1',
        'name{a="b"',
        'name{a="b"}',
        "name{a=b} 1",
        'name{a="b",,} 1',
        'name{,a="b"} 1',
        'name{a="b" c="d"} 1',
        'name{a="b",a="c"} 1',
        'name{a:b="c"} 1',
        r'name{a="\t"} 1',
        r'name{a="b\"} 1',
        "# TYPE name",
        "# TYPE name number",
        "# TYPE na-me gauge",
        "# HELP na-me text",
    ],
)
def test_a_line_of_another_form_is_refused_and_named(line: str) -> None:
    with pytest.raises(ReplyFormatError, match=r"^line 2: expected .*, got '"):
        metrics_from_text(f"before 1\n{line}\nafter 1\n")


@pytest.mark.parametrize("page", ["", "\n", "# nothing but this", " \t\n", "# TYPE", "# HELPER name", "#TYPES name"])
def test_a_page_may_say_nothing(page: str) -> None:
    metrics = metrics_from_text(page)
    assert (metrics.samples, metrics.families) == ((), {})


def test_values_are_added_up_by_labels() -> None:
    metrics = metrics_from_text(PAGE)
    assert metrics.value("nv_inference_request_success") == 17
    assert metrics.value("nv_inference_request_success", model="digits") == 7
    assert metrics.value("nv_inference_request_success", model="digits", version="2") == 4
    assert metrics.value("nv_inference_request_success", model="nosuch") == 0
    assert metrics.value("plain") == math.inf
    named = metrics_from_text('x{name="a",self="b"} 1\nx{name="c"} 2\n')
    assert named.value("x", name="a", self="b") == 1


@pytest.mark.parametrize(
    ("name", "labels", "text"),
    [
        (
            "nv_inference_requests_success",
            {},
            "no sample of nv_inference_requests_success; did you mean nv_inference_request_success",
        ),
        ("latency", {}, "did you mean latency_bucket"),
        ("nothing_like_it", {}, "there are latency_bucket, nv_inference_queue_summary_us,"),
        ("nv_inference_request_success", {"modle": "digits"}, "with label modle; did you mean model?"),
        ("plain", {"model": "digits"}, "no sample of plain with label model; there are none"),
    ],
)
def test_an_unknown_name_is_told_from_a_zero(name: str, labels: dict[str, str], text: str) -> None:
    with pytest.raises(KeyError) as caught:
        metrics_from_text(PAGE).value(name, **labels)
    assert text in caught.value.args[0]


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@given(
    labels=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True), st.text(), max_size=3),
    value=st.floats(),
    timestamp=st.none() | st.integers(-(1 << 60), 1 << 60),
)
@example(labels={"a": '\\"', "b": "\\n\n\r\x1c\u2028", "c": '}{,= "'}, value=-0.0, timestamp=0)
def test_any_label_value_is_read_back_as_prometheus_reads_it(
    labels: dict[str, str], value: float, timestamp: int | None
) -> None:
    stated = ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items())
    line = f"m{{{stated}}} {value}" + ("" if timestamp is None else f" {timestamp}")
    (ours,) = metrics_from_text(f"# TYPE m gauge\n{line}\n").samples
    (family,) = text_string_to_metric_families(f"# TYPE m gauge\n{line}\n")
    (theirs,) = family.samples
    assert ours.labels == theirs.labels == labels
    assert ours.name == theirs.name == "m"
    assert repr(ours.value) == repr(float(theirs.value)) == repr(value)


@given(st.text())
@example('m{a="' + "\\" * 10_000)
@example("m{" + '"' * 10_000)
@example("m" * 10_000 + "{" * 10_000)
def test_any_text_is_a_page_or_refused(text: str) -> None:
    with suppress(ReplyFormatError):
        metrics_from_text(text)


# ---- where it is ----


@pytest.mark.parametrize(
    ("url", "endpoint", "expected"),
    [
        (None, "triton:8001", ("triton", 8002, "/metrics")),
        (None, "[::1]:8000", ("::1", 8002, "/metrics")),
        ("http://other:9000/metrics", "triton:8001", ("other", 9000, "/metrics")),
        ("http://other", "fake", ("other", 8002, "/metrics")),
        ("http://[::1]:9000/", "fake", ("::1", 9000, "/metrics")),
        ("http://gateway/triton/metrics?pod=1", "fake", ("gateway", 8002, "/triton/metrics?pod=1")),
    ],
)
def test_the_address_is_the_url_or_tritons_own(url: str | None, endpoint: str, expected: tuple[str, int, str]) -> None:
    assert metrics_address(url, endpoint) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "other:9000",
        "https://other/metrics",
        "grpc://other:8001",
        "http://",
        "http://u:p@other",
        "http://other#x",
        "http://other:0",
        "http://other:65536",
        "http://other:x",
        "http://[::1",
        8002,
    ],
)
def test_a_url_of_another_form_is_refused(url: Any) -> None:
    with pytest.raises(InvalidInput, match="url: expected http://host:port/metrics, got ") as caught:
        metrics_address(url, "triton:8001")
    assert (caught.value.field, caught.value.got) == ("url", repr(url))


@pytest.mark.parametrize("target", [["http://a:1", "http://b:2"], ["grpc://[::1]:1", "grpc://[::2]:1"]])
def test_a_client_of_several_servers_needs_a_url(target: list[str]) -> None:
    names = re.escape(", ".join(one.partition("//")[2] for one in target))
    with Client(target) as client, pytest.raises(InvalidInput, match=f"got none for a client of {names}$"):
        client.metrics()


def test_a_fake_has_no_metrics_page() -> None:
    with Client("fake", transport=FakeTransport()) as client, pytest.raises(InvalidInput, match=r"a client of fake$"):
        client.metrics()


# ---- how it is read ----


@pytest.fixture(params=["grpc", "http", "grpc-async", "http-async"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """One client of each kind, of a server that is not there: the metrics are elsewhere."""
    scheme, _, is_async = request.param.partition("-")
    target = f"{scheme}://127.45.67.89:1"
    options = Options(timeout_s=5.0, headers={"x-secret": "s"}, token=lambda: "secret", compression="gzip")
    with cast("Client", BlockingClient(target, options=options)) if is_async else Client(target, options=options) as it:
        yield it


def reply(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/metrics"


def never(_: Server, connection: socket.socket) -> None:
    """Read, and answer nothing."""
    while connection.recv(65536) != b"":
        pass


def test_a_page_is_asked_for_once_and_without_secrets(client: Client) -> None:
    heads: list[bytes] = []

    def answer(_: Server, connection: socket.socket) -> None:
        while (head := request_from(connection)[0]) != b"":
            heads.append(head)
            connection.sendall(reply(PAGE.encode()))

    with tcp_server(answer) as server:
        assert client.metrics(url_of(server)).value("nv_inference_request_success") == 17
        assert server.ended.acquire(timeout=5)  # the client has closed the connection
    (head,) = heads
    assert head.startswith(b"GET /metrics HTTP/1.1\r\n")
    assert b"accept: text/plain; version=0.0.4" in head
    assert b"accept-encoding: gzip" in head
    assert b"secret" not in head


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"<html>", "200 OK", "got a page that cannot be read: line 1: expected a sample name"),
        (b'm{a="\xff"} 1', "200 OK", "can't decode byte 0xff"),
        (b'{"error":"Not Found"}', "404 Not Found", 'got status 404: "Not Found"; check the url, port and path'),
        (b"busy", "503 Service Unavailable", 'got status 503: "busy"'),
    ],
)
def test_what_is_no_page_is_an_error_of_the_server(client: Client, body: bytes, status: str, text: str) -> None:
    with tcp_server(each(reply(body, status))) as server, pytest.raises(ServerError) as caught:
        client.metrics(url_of(server))
    assert text in str(caught.value)
    assert caught.value.endpoint == f"127.0.0.1:{server.port}"


def test_where_nothing_listens_the_error_says_what_may_be_off(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed, match="refused") as caught:
        client.metrics(f"http://127.0.0.1:{port}")
    assert caught.value.endpoint == f"127.0.0.1:{port}"
    assert caught.value.attempts == 1
    assert "check that the server runs at this address, with metrics on (--allow-metrics)" in str(caught.value)


def test_a_page_that_does_not_come_ends_at_the_deadline(client: Client) -> None:
    start = time.monotonic()
    with tcp_server(never) as server:
        with pytest.raises(DeadlineExceeded):
            client.metrics(url_of(server), options=Options(timeout_s=0.3))
        assert 0.3 <= time.monotonic() - start < 0.8
        assert server.ended.acquire(timeout=5)  # the client has closed the connection


def test_without_a_url_port_8002_of_the_same_host_is_asked(client: Client) -> None:
    with pytest.raises(TritonError) as caught:
        client.metrics(options=Options(timeout_s=2))
    assert caught.value.endpoint == "127.45.67.89:8002"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_closed_client_reads_no_page(protocol: str) -> None:
    target = f"{protocol}://127.0.0.1:1"

    async def asynchronous() -> None:
        closed = AsyncClient(target)
        await closed.close()
        await closed.metrics()

    closed = Client(target)
    closed.close()
    for read in (closed.metrics, lambda: asyncio.run(asynchronous())):
        with pytest.raises(RuntimeError, match="is closed"):
            read()


def test_a_cancelled_task_closes_its_connection() -> None:
    async def cancelled(server: Server) -> None:
        async with AsyncClient("grpc://127.0.0.1:1") as client:
            task = asyncio.create_task(client.metrics(url_of(server)))
            await asyncio.to_thread(server.ended.acquire, timeout=0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with tcp_server(never) as server:
        asyncio.run(cancelled(server))
        assert server.connections == 1
        assert server.ended.acquire(timeout=5)
