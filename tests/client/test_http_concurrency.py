"""Many calls at once over HTTP, and calls that are given up: by closing the transport, by cancelling a task."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from support.http_ends import (
    OK,
    Asynchronous,
    Blocking,
    Server,
    each,
    echo,
    exchange_of,
    full_listener,
    nothing_left_behind,
    request_from,
    silent,
    tcp_server,
)

from tritonforge_client import Cancelled, DeadlineExceeded
from tritonforge_client.transport import sockets, sockets_aio
from tritonforge_client.transport.http import HttpTransport
from tritonforge_client.transport.http_aio import AsyncHttpTransport

BODIES = [bytes((number,)) * (50 + number * 3000) for number in range(64)]


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield


@pytest.fixture(params=["a server that does not answer", "a server that does not accept"])
def silence(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port where calls wait."""
    if request.param.endswith("accept"):
        with full_listener() as port:
            yield port
    else:
        with tcp_server(silent) as server:
            yield server.port


def in_loop(port: int, use: Callable[[AsyncHttpTransport], Awaitable[None]]) -> None:
    """Run a coroutine with a transport that is closed afterwards."""

    async def main() -> None:
        transport = AsyncHttpTransport("127.0.0.1", port)
        try:
            await use(transport)
        finally:
            await transport.close()

    asyncio.run(main())


def test_threads_share_a_transport_and_get_their_own_replies() -> None:
    with tcp_server(echo) as server, ThreadPoolExecutor(8) as threads:
        transport = HttpTransport("127.0.0.1", server.port)
        replies = threads.map(lambda body: bytes(transport.send(*exchange_of(body)).body), BODIES * 5)
        assert list(replies) == BODIES * 5
        assert server.connections <= 8
        transport.close()


def test_tasks_share_a_transport_and_get_their_own_replies() -> None:
    async def use(transport: AsyncHttpTransport) -> None:
        for _ in range(3):
            replies = await asyncio.gather(*(transport.send(*exchange_of(body)) for body in BODIES))
            assert [bytes(reply.body) for reply in replies] == BODIES
        assert server.connections == len(BODIES)

    with tcp_server(echo) as server:
        in_loop(server.port, use)


@pytest.mark.parametrize("kind", [Blocking, Asynchronous])
def test_no_more_connections_are_kept_than_allowed(
    kind: type[Blocking | Asynchronous], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sockets, sockets_aio):
        monkeypatch.setattr(module, "MAX_IDLE_CONNECTIONS", 2)
    together = threading.Barrier(6)

    def answer(_: Server, connection: socket.socket) -> None:
        while request_from(connection) != (b"", b""):
            together.wait(5)
            connection.sendall(OK)

    def check(server: Server) -> None:
        assert [server.ended.acquire(timeout=5) for _ in range(4)] == [True] * 4
        assert not server.ended.acquire(timeout=0.1)

    async def use(transport: AsyncHttpTransport) -> None:
        await asyncio.gather(*(transport.send(*exchange_of()) for _ in range(6)))
        await asyncio.to_thread(check, server)

    with tcp_server(answer) as server:
        if kind is Asynchronous:
            in_loop(server.port, use)
            return
        transport = HttpTransport("127.0.0.1", server.port)
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda _: transport.send(*exchange_of()), range(6)))
        check(server)
        transport.close()


def test_closing_ends_a_call_of_another_thread(silence: int) -> None:
    transport = HttpTransport("127.0.0.1", silence)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(transport.send, *exchange_of(timeout_s=10))
        time.sleep(0.2)
        start = time.monotonic()
        transport.close()
        with pytest.raises(Cancelled, match="the client was closed during the call"):
            call.result(5)
        assert time.monotonic() - start < 1


def test_closing_ends_the_call_of_another_task(silence: int) -> None:
    async def use(transport: AsyncHttpTransport) -> None:
        call = asyncio.create_task(transport.send(*exchange_of(timeout_s=10)))
        await asyncio.sleep(0.2)
        start = time.monotonic()
        await transport.close()
        with pytest.raises(Cancelled, match="the client was closed during the call"):
            await call
        assert time.monotonic() - start < 1

    in_loop(silence, use)


def test_nothing_is_sent_after_closing() -> None:
    async def use(transport: AsyncHttpTransport) -> None:
        await transport.send(*exchange_of())
        await transport.close()
        with pytest.raises(Cancelled, match="the client was closed"):
            await transport.send(*exchange_of())

    with tcp_server(each(OK, OK)) as server:
        in_loop(server.port, use)
        transport = HttpTransport("127.0.0.1", server.port)
        transport.send(*exchange_of())
        transport.close()
        with pytest.raises(Cancelled, match="the client was closed"):
            transport.send(*exchange_of())
        assert server.connections == 2


def test_a_call_that_gave_up_connecting_leaves_no_socket() -> None:
    async def use(transport: AsyncHttpTransport) -> None:
        with nothing_left_behind():
            with pytest.raises(DeadlineExceeded):
                await transport.send(*exchange_of(timeout_s=0.2))
            call = asyncio.create_task(transport.send(*exchange_of()))
            await asyncio.sleep(0.1)
            call.cancel()
            await asyncio.wait((call,))
            await asyncio.sleep(0.05)

    with full_listener() as port:
        in_loop(port, use)


@pytest.mark.parametrize("body_bytes", [10, 50_000_000])
def test_a_cancelled_task_closes_its_connection_and_no_other(body_bytes: int) -> None:
    ended = threading.Event()

    def answer(server: Server, connection: socket.socket) -> None:
        if connection.recv(4, socket.MSG_PEEK) == b"POST":
            with suppress(ConnectionError):
                while connection.recv(1 << 20):
                    time.sleep(0.01)
            ended.set()
        else:
            each(OK, OK)(server, connection)

    async def use(transport: AsyncHttpTransport) -> None:
        call = asyncio.create_task(transport.send(*exchange_of(bytes(body_bytes))))
        await asyncio.sleep(0.1)
        await transport.send(*exchange_of())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(ended.wait, 2)
        await transport.send(*exchange_of())
        assert server.connections == 2

    with tcp_server(answer) as server:
        in_loop(server.port, use)


def test_a_task_can_be_cancelled_at_any_step() -> None:
    """After each number of turns of the event loop once; whatever happened, the next call works."""

    async def use(transport: AsyncHttpTransport) -> None:
        for turns in range(12):
            call = asyncio.create_task(transport.send(*exchange_of(b"x")))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait((call,))
            assert bytes((await transport.send(*exchange_of(b"abc"))).body) == b"abc"

    with tcp_server(echo) as server:
        in_loop(server.port, use)


def test_the_stream_of_a_request_is_its_one_reply() -> None:
    async def use(transport: AsyncHttpTransport) -> None:
        assert [reply.status async for reply in transport.stream(*exchange_of())] == [200]

    with tcp_server(each(OK)) as server:
        in_loop(server.port, use)
        transport = HttpTransport("127.0.0.1", server.port)
        assert [reply.status for reply in transport.stream(*exchange_of())] == [200]
        transport.close()


def test_large_bodies_leave_the_event_loop_free() -> None:
    """In processor time of its thread and at the best of three times, which other programs hardly change."""
    body = bytes(12_000_000)
    longest_s: list[float] = []

    async def watch() -> None:
        while True:
            start_s = time.thread_time()
            await asyncio.sleep(0)
            longest_s[-1] = max(longest_s[-1], time.thread_time() - start_s)

    async def use(transport: AsyncHttpTransport) -> None:
        for _ in range(3):
            longest_s.append(0.0)
            watcher = asyncio.create_task(watch())
            await asyncio.gather(*(transport.send(*exchange_of(body, timeout_s=60)) for _ in range(8)))
            watcher.cancel()

    with tcp_server(echo) as server:
        in_loop(server.port, use)
    assert min(longest_s) < 0.02


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent
from support.http_ends import OK, each, exchange_of
from tritonforge_client.transport.http import HttpTransport

transport = HttpTransport("127.0.0.1", int(sys.argv[1]))
start = time.monotonic()
calls = [gevent.spawn(transport.send, *exchange_of(b"x" * 3_000_000)) for _ in range(5)]
gevent.joinall(calls, raise_error=True)
assert [bytes(call.get().body) for call in calls] == [b"ok"] * 5
calls = [gevent.spawn(transport.send, *exchange_of()) for _ in range(5)]
gevent.joinall(calls, raise_error=True)
assert time.monotonic() - start < 2, time.monotonic() - start
transport.close()
"""


def test_calls_of_greenlets_wait_side_by_side() -> None:
    pytest.importorskip("gevent")

    def answer(_: Server, connection: socket.socket) -> None:
        while request_from(connection) != (b"", b""):
            time.sleep(0.3)
            connection.sendall(OK)

    with tcp_server(answer) as server:
        command = [sys.executable, "-c", GEVENT, str(server.port)]
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert run.returncode == 0, run.stderr
        assert server.connections == 5


def test_the_blocking_transport_imports_no_http_library() -> None:
    code = """
import sys
import tritonforge_client.transport.http
print([name for name in ("http.client", "email", "urllib3", "aiohttp", "grpc", "tritonclient") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "[]\n"
