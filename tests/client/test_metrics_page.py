"""The metrics page as every client reads it: from where, how often, and what happens when it does not come."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import pytest
from support.blocking import BlockingClient
from support.http_ends import Server, each, full_listener, nothing_left_behind, request_from, tcp_server

from tritonforge_client import (
    AsyncClient,
    Cancelled,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    Options,
    ServerError,
    TritonError,
)

PAGE = """
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="digits",version="1"} 3
nv_inference_request_success{model="digits",version="2"} 4
nv_inference_request_success{model="resnet",version="1"} 10
nv_inference_count{model="digits",version="1"} 5
"""


@pytest.fixture(params=["grpc", "http", "grpc-async", "http-async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def client_of(kind: str) -> Client:
    """A client of a server that is not there: the metrics are elsewhere."""
    scheme, _, is_async = kind.partition("-")
    target = f"{scheme}://127.45.67.89:1"
    options = Options(timeout_s=5.0, headers={"x-secret": "s"}, token=lambda: "secret", compression="gzip")
    return cast("Client", BlockingClient(target, options=options)) if is_async else Client(target, options=options)


@pytest.fixture
def client(kind: str) -> Iterator[Client]:
    with client_of(kind) as made:
        yield made


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
        metrics = client.metrics(url_of(server), families=["nv_inference_request_success"])
        assert metrics.value("nv_inference_request_success") == 17
        assert len(metrics.samples) == 3
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


@contextmanager
def no_answer(*, accepts: bool) -> Iterator[int]:
    """A port that takes connections and requests and no more, or not even connections."""
    if accepts:
        with tcp_server(never) as server:
            yield server.port
    else:
        with full_listener() as port:
            yield port


@pytest.mark.parametrize("accepts", [True, False], ids=["answering", "connecting"])
def test_closing_the_client_ends_a_page_that_does_not_come(kind: str, accepts: bool) -> None:
    gc.collect()  # what grpcio still keeps of other tests
    # The first client is there for what grpcio keeps open while there is any.
    with client_of(kind), nothing_left_behind(), no_answer(accepts=accepts) as port, ThreadPoolExecutor(1) as pool:
        client = client_of(kind)
        page = pool.submit(client.metrics, f"http://127.0.0.1:{port}", options=Options(timeout_s=60))
        time.sleep(0.3)
        assert not page.done()
        start_s = time.monotonic()
        client.close()
        with pytest.raises(Cancelled, match="the client was closed during the call") as caught:
            page.result(10)
        assert time.monotonic() - start_s < 2
        assert caught.value.endpoint == f"127.0.0.1:{port}"


def test_a_page_that_is_asked_for_while_the_client_is_closed_is_not_waited_for(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other thread sees the client closed too late to refuse the call, and too early to be seen by ``close``."""
    with tcp_server(never) as server, client_of(kind) as client:
        caller = caller_of(client)
        monkeypatch.setattr(type(caller), "begin", closing_after(type(caller).begin))
        with pytest.raises(Cancelled):
            client.metrics(url_of(server), options=Options(timeout_s=60))
        caller.closed = False
    assert server.connections == 0


def caller_of(client: Any) -> Any:
    return (client if isinstance(client, Client) else client._inner)._session.caller


def closing_after(begin: Any) -> Any:
    def wrapped(self: Any, *args: Any, **options: Any) -> Any:
        begun = begin(self, *args, **options)
        self.closed = True
        return begun

    return wrapped


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
