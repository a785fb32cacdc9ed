"""When requests leave and replies come, on the wire, as blocking transports tell it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.certificates import self_signed
from support.http2_peer import Peer, message_of, sending, speaking
from support.http_ends import OK, Server, exchange_of, request_from, tcp_server

from tritonforge_client import AsyncClient, Client, ConnectionFailed, DeadlineExceeded, Options, ServerError, WireTimes
from tritonforge_client.core.call import Call, Compression
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.transport.grpc import GrpcTransport
from tritonforge_client.transport.http import HttpTransport

TESTS = Path(__file__).parents[1]
SO_TIMESTAMPNS = 35
MS = 1_000_000


@dataclass
class Ends:
    """A server and a transport to it.

    Attributes:
        port: Where the server listens.
        protocol: ``http`` or ``grpc``.
        tls: What the client speaks.
        arrived_ns: When the server had read each request.
        delays_s: How long the next requests wait for their answers; none when it is empty.
    """

    port: int
    protocol: str
    tls: ssl.SSLContext | None = None
    arrived_ns: list[int] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        kind = HttpTransport if self.protocol == "http" else GrpcTransport
        self.transport: Any = kind("127.0.0.1", self.port, tls=self.tls)

    def ask(self, body: bytes = b"hello", *, timeout_s: float = 5, compression: Compression | None = None) -> None:
        if self.protocol == "http":
            request, _ = exchange_of(body)
            self.transport.send(request, Call(endpoint="h", timeout_s=timeout_s, compression=compression))
        else:
            grpc_request = GrpcRequest(method="ModelInfer", body=(body,))
            self.transport.send(grpc_request, Call(endpoint="h", timeout_s=timeout_s, compression=compression))

    def arrived(self) -> None:
        """The server has read a request."""
        self.arrived_ns.append(time.perf_counter_ns())
        if self.delays_s:
            time.sleep(self.delays_s.pop(0))

    @property
    def is_stamping(self) -> bool:
        """Whether the kernel notes when bytes come over the connection that is idle."""
        (idle,) = self.transport._pool._idle
        return bool(idle._socket.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS))


@contextmanager
def ends_of(protocol: str, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None) -> Iterator[Ends]:
    made: list[Ends] = []

    def answer_http(_: Server, connection: socket.socket) -> None:
        while request_from(connection) != (b"", b""):
            made[0].arrived()
            connection.sendall(OK)

    def answer_grpc(peer: Peer, stream: int) -> None:
        made[0].arrived()
        sending(message_of(b"ok"))(peer, stream)

    answer = answer_http if protocol == "http" else speaking(lambda: Peer(answer_grpc))
    theirs, ours = tls if tls is not None else (None, None)
    with ExitStack() as stack:
        server = stack.enter_context(tcp_server(answer, theirs))
        made.append(Ends(server.port, protocol, ours))
        stack.callback(made[0].transport.close)
        yield made[0]


@pytest.fixture(params=["http", "grpc"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with ends_of(request.param) as made:
        yield made


def timed(ends: Ends, not_before_ns: int = 0, **options: Any) -> WireTimes:
    with WireTimes(not_before_ns) as times:
        ends.ask(**options)
    return times


def moments(times: WireTimes) -> tuple[int, int, int]:
    assert times.ready_ns is not None
    assert times.sent_ns is not None
    assert times.received_ns is not None
    return times.ready_ns, times.sent_ns, times.received_ns


def test_moments_come_in_their_order(ends: Ends) -> None:
    for _ in range(3):  # the first makes a connection
        ends.delays_s.append(0.02)
        before_ns = time.perf_counter_ns()
        ready_ns, sent_ns, received_ns = moments(timed(ends))
        assert before_ns <= ready_ns <= sent_ns <= ends.arrived_ns[-1] <= received_ns - 20 * MS
        assert received_ns <= time.perf_counter_ns()


@pytest.mark.parametrize("wait_ms", [1, 20])
def test_nothing_reaches_the_server_before_its_time(ends: Ends, wait_ms: int) -> None:
    for _ in range(3):
        due_ns = time.perf_counter_ns() + wait_ms * MS
        ready_ns, sent_ns, _ = moments(timed(ends, due_ns))
        assert ready_ns < due_ns <= sent_ns <= ends.arrived_ns[-1]


def test_a_moment_that_has_passed_is_not_waited_for(ends: Ends) -> None:
    ready_ns, sent_ns, _ = moments(timed(ends, time.perf_counter_ns() - 5 * MS))
    assert ready_ns == sent_ns


def test_all_is_prepared_before_it_is_waited(ends: Ends) -> None:
    ends.ask()
    body = np.random.default_rng(0).bytes(2_000_000)  # which gzip works at for tens of milliseconds
    before_ns = time.perf_counter_ns()
    ready_ns, sent_ns, _ = moments(timed(ends, before_ns + 1000 * MS, body=body, compression="gzip"))
    assert 10 * MS < ready_ns - before_ns < 1000 * MS
    assert sent_ns >= before_ns + 1000 * MS


def test_no_call_waits_beyond_its_deadline(ends: Ends) -> None:
    start_s = time.monotonic()
    times = WireTimes(time.perf_counter_ns() + 60_000 * MS)
    with pytest.raises(DeadlineExceeded), times:
        ends.ask(timeout_s=0.2)
    assert 0.2 <= time.monotonic() - start_s < 1
    assert times.received_ns is None
    assert ends.arrived_ns == []


def test_of_several_exchanges_the_last_one_counts(ends: Ends) -> None:
    ends.delays_s += [0.05, 0.0]
    with WireTimes() as times:
        ends.ask()
        first = moments(times)
        ends.ask()
    assert first[2] <= moments(times)[1] <= ends.arrived_ns[-1]


def test_nothing_is_asked_of_the_kernel_unless_it_is_wanted(ends: Ends) -> None:
    ends.ask()
    assert not ends.is_stamping
    timed(ends)
    assert ends.is_stamping
    times = WireTimes()
    ends.ask()
    assert (times.ready_ns, times.sent_ns, times.received_ns) == (None, None, None)


def test_over_tls_the_clock_tells_when_a_reply_was_read(ends: Ends, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate)
    theirs.set_alpn_protocols(["h2"] if ends.protocol == "grpc" else ["http/1.1"])
    ours = ssl.create_default_context(cafile=str(certificate.with_name("certificate.pem")))
    with ends_of(ends.protocol, (theirs, ours)) as secret:
        for _ in range(2):
            secret.delays_s.append(0.02)
            _, sent_ns, received_ns = moments(timed(secret))
            assert sent_ns <= secret.arrived_ns[-1] <= received_ns - 20 * MS
            assert received_ns <= time.perf_counter_ns()
        assert not secret.is_stamping


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_call_that_reaches_nobody_has_no_reply(protocol: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    times = WireTimes()
    client = Client(f"{protocol}://127.0.0.1:{port}", options=Options(retry=None))
    with client, pytest.raises(ConnectionFailed), times:
        client.server_metadata()
    assert times.sent_ns is not None
    assert times.received_ns is None


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_call_that_gets_no_good_answer_has_no_reply(protocol: str) -> None:
    times = WireTimes()
    with ends_of(protocol) as ends:
        client = Client(f"{protocol}://127.0.0.1:{ends.port}")
        with client, pytest.raises(ServerError), times:
            client.server_metadata()
    assert len(ends.arrived_ns) == 1
    assert times.received_ns is None


def test_threads_do_not_mix(ends: Ends) -> None:
    ends.delays_s += [0.2]

    def slow() -> WireTimes:
        return timed(ends)

    with ThreadPoolExecutor(2) as pool, WireTimes() as outer:
        first = pool.submit(slow)
        while not ends.arrived_ns:
            time.sleep(0.001)
        _, sent_ns, received_ns = moments(pool.submit(timed, ends).result())
        _, slow_sent_ns, slow_received_ns = moments(first.result())
        other = threading.Thread(target=ends.ask)
        other.start()
        other.join(5)
    assert slow_sent_ns < sent_ns < received_ns < slow_received_ns
    assert outer.sent_ns is None


def test_what_a_thread_of_its_own_sends_leaves_no_sooner() -> None:
    ended = threading.Event()
    with ends_of("grpc") as ends:
        due_ns = time.perf_counter_ns() + 30 * MS
        with WireTimes(due_ns) as times:
            call = Call(endpoint="h", timeout_s=5)
            pending = ends.transport.begin(GrpcRequest(method="ModelInfer", body=(b"hello",)), call, ended.set)
            assert ended.wait(5)
            assert bytes(pending.outcome()) == b"ok"
    assert times.sent_ns is not None
    assert due_ns <= times.sent_ns <= ends.arrived_ns[0]
    assert times.received_ns is None


def test_asynchronous_clients_know_nothing_of_it() -> None:
    async def ask(url: str) -> WireTimes:
        async with AsyncClient(url) as client:
            with WireTimes(time.perf_counter_ns() + 60_000 * MS) as times:
                assert await client.ready()
            return times

    with ends_of("http") as ends:
        times = asyncio.run(ask(f"http://127.0.0.1:{ends.port}"))
    assert (times.ready_ns, times.sent_ns, times.received_ns) == (None, None, None)


# ---- with gevent ----

PREAMBLE = """
from gevent import monkey
monkey.patch_all()
import sys, time
sys.path.insert(0, sys.argv[1])
import gevent
from client.test_wire import MS, Ends
from tritonforge_client import WireTimes
ends = Ends(int(sys.argv[3]), sys.argv[2])
"""
NOBODY_LOOKS = """
really_sleep = monkey.get_original("time", "sleep")
ends.ask()
for _ in range(3):  # the kernel begins to note a moment after it is asked
    with WireTimes() as times:
        gevent.spawn(really_sleep, 0.3)  # in which nothing of this process runs
        ends.ask()
    seen_ns = time.perf_counter_ns() - times.sent_ns
assert seen_ns >= 290 * MS, seen_ns
assert 20 * MS <= times.received_ns - times.sent_ns < 150 * MS, times.received_ns - times.sent_ns
"""
NO_MIXING = """
def told(wait_ms):
    due_ns = time.perf_counter_ns() + wait_ms * MS
    with WireTimes(due_ns) as times:
        ends.ask()
    assert due_ns <= times.sent_ns <= times.received_ns - 20 * MS
    return times.sent_ns

outer = WireTimes()
greenlets = [gevent.spawn(told, wait_ms) for wait_ms in (240, 60, 180, 120, 0)]
with outer:
    gevent.joinall(greenlets, raise_error=True)
sent_ns = [greenlet.value for greenlet in greenlets]
assert sorted(range(5), key=sent_ns.__getitem__) == [4, 1, 3, 2, 0], sent_ns
assert outer.sent_ns is None
"""


@pytest.mark.parametrize("script", [NOBODY_LOOKS, NO_MIXING], ids=["nobody looks", "greenlets"])
def test_under_gevent(ends: Ends, script: str) -> None:
    """The kernel tells when a reply came that nobody looked at, and greenlets do not mix."""
    ends.delays_s += [0.02] * 5
    command: list[str] = [sys.executable, "-c", PREAMBLE + script, str(TESTS), ends.protocol, str(ends.port)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
