"""Targets whose host is a name with several addresses, over servers on several loopback addresses."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from support.blocking import BlockingClient
from support.certificates import self_signed
from support.fault_proxy import FaultProxy
from support.http_ends import full_listener

from tritonforge_client import (
    TLS,
    AsyncClient,
    Cancelled,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    Options,
    RetryPolicy,
)
from tritonforge_client.core import endpoints as endpoints_module
from tritonforge_client.core import resolve

NAME = "triton.test"
A, B, C = "127.0.0.1", "127.0.0.2", "127.0.0.3"
KINDS = ("grpc", "http", "grpc-async", "http-async")
QUICK = Options(timeout_s=5, retry=RetryPolicy(initial_s=0.001, maximum_s=0.001))


class Resolver:
    """What the system's resolver says.

    Attributes:
        answers: Addresses by name; a name that is not there has none.
        asked: Every question for a name.
        holding: Holds back answers while it is not set.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.holding = threading.Event()
        self.holding.set()
        self._real: Callable[..., Any] = socket.getaddrinfo

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if not str(host).endswith(".test"):
            return self._real(host, port, *args, **options)
        self.asked.append(host)
        assert self.holding.wait(10)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kinds = (socket.SOCK_STREAM, socket.SOCK_STREAM)  # some resolvers say everything twice
        return [(socket.AF_INET, kind, 6, "", (address, port)) for address in self.answers[host] for kind in kinds]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    names = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


@pytest.fixture
def asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_ASKED_AGAIN_S", 0.0)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def client_of(kind: str, port: int, *, name: str = NAME, **options: Any) -> Client:
    protocol, _, is_async = kind.partition("-")
    target = f"{protocol}{'s' if 'tls' in options else ''}+dns://{name}:{port}"
    options = {"options": QUICK, **options}
    return cast("Client", BlockingClient(target, **options)) if is_async else Client(target, **options)


# ---- servers that tell their own address ----


@contextmanager
def http_server(address: str, port: int, hosts: list[str], pem: Path | None) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["host"])
            body = json.dumps({"name": address, "version": "", "extensions": []}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that hangs up

    server = Server((address, port), Handler)
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_server(address: str, port: int, hosts: list[str], pem: Path | None) -> Iterator[int]:
    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(self.answer)

        def answer(self, _: bytes, context: Any) -> bytes:
            hosts.append(context._rpc_event.call_details.host.decode())
            if context._rpc_event.call_details.method.endswith(b"ServerReady"):
                return b"\x08\x01"
            return b"\x0a" + bytes([len(address)]) + address.encode()

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Handler(),))
    if pem is None:
        port = server.add_insecure_port(f"{address}:{port}")
    else:
        both = pem.read_bytes()
        port = server.add_secure_port(f"{address}:{port}", grpc.ssl_server_credentials([(both, both)]))
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


class Backends:
    """Servers on the same port of several addresses.

    Attributes:
        port: The port.
        hosts: Whom each request asked for.
    """

    def __init__(self, kind: str, pem: Path | None = None) -> None:
        self.port = 0
        self.hosts: list[str] = []
        self._server = http_server if kind.startswith("http") else grpc_server
        self._pem = pem
        self._running: dict[str, ExitStack] = {}

    def start(self, *addresses: str) -> None:
        for address in addresses:
            stack = self._running[address] = ExitStack()
            self.port = stack.enter_context(self._server(address, self.port, self.hosts, self._pem))

    def stop(self, *addresses: str) -> None:
        for address in addresses or tuple(self._running):
            self._running.pop(address).close()


@pytest.fixture
def backends(kind: str) -> Iterator[Backends]:
    made = Backends(kind)
    yield made
    made.stop()


def who(client: Client, times: int = 1) -> list[str]:
    """Which servers answer so many calls."""
    return [client.server_metadata().name for _ in range(times)]


def transports_of(client: Any) -> list[Any]:
    """All that there ever were."""
    inner = client if isinstance(client, Client) else client._inner
    transports: list[Any] = inner._session.caller.transports
    return transports


# ---- all four clients ----


def test_every_address_of_a_name_is_called_in_turn(kind: str, backends: Backends, dns: Resolver) -> None:
    backends.start(A, B, C)
    dns.answers[NAME] = [B, A, C]
    with client_of(kind, backends.port) as client:
        assert dns.asked == []  # nothing is asked before there is a call
        answered = who(client, 9)
    assert {answered.count(address) for address in (A, B, C)} == {3}
    assert dns.asked == [NAME]
    assert set(backends.hosts) == {f"{NAME}:{backends.port}"}


def test_the_first_address_is_preferred_where_the_first_target_is(kind: str, backends: Backends, dns: Resolver) -> None:
    backends.start(A, B)
    dns.answers[NAME] = [B, A]
    with client_of(kind, backends.port, balance="pick_first") as client:
        assert who(client, 3) == [B, B, B]
        backends.stop(B)
        assert who(client, 3) == [A, A, A]


def test_an_address_where_nothing_listens_is_not_noticed(kind: str, backends: Backends, dns: Resolver) -> None:
    backends.start(A)
    dns.answers[NAME] = [B, A]
    with client_of(kind, backends.port) as client:
        assert who(client, 6) == [A] * 6


def test_servers_that_move_are_found_at_their_new_addresses(
    kind: str, backends: Backends, dns: Resolver, asked_often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints_module, "_GONE_S", 0.0)
    backends.start(A)
    dns.answers[NAME] = [A]
    with client_of(kind, backends.port) as client:
        assert who(client, 2) == [A, A]
        assert dns.asked == [NAME]
        backends.stop(A)
        backends.start(B, C)
        dns.answers[NAME] = [B, C]
        assert sorted(who(client, 4)) == [B, B, C, C]
        # The old one is a stranger now, be it that it listens again.
        backends.start(A)
        assert sorted(who(client, 4)) == [B, B, C, C]
        assert [one.endpoint for one in transports_of(client) if one.closed] == [
            f"{host}:{backends.port}" for host in (NAME, A)
        ]
    assert dns.asked == [NAME] * 2


@contextmanager
def silent_port(address: str, kind: str) -> Iterator[tuple[Backends, FaultProxy]]:
    """A server that is reached at ``A``, through a proxy; at the same port of other addresses nobody listens yet."""
    hidden, reached = Backends(kind), Backends(kind)
    hidden.start(address)
    try:
        with FaultProxy(address, hidden.port) as proxy:
            reached.port = proxy.port
            yield reached, proxy
    finally:
        hidden.stop()
        reached.stop()


def test_a_host_that_vanishes_while_it_is_called_is_looked_for(
    kind: str, dns: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "_ASKED_AGAIN_S", 0.1)
    dns.answers[NAME] = [A]
    short = Options(timeout_s=0.3, retry=None)
    with silent_port(C, kind) as (backends, proxy), client_of(kind, proxy.port) as client:
        assert who(client) == [C]
        proxy.stall()
        backends.start(B)
        dns.answers[NAME] = [B]
        with pytest.raises(DeadlineExceeded):
            client.server_metadata(options=short)
        assert dns.asked == [NAME]
        assert client.server_metadata(options=short).name == B
    assert dns.asked == [NAME] * 2


def test_a_host_that_takes_no_connections_is_looked_for(
    kind: str, dns: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "_ASKED_AGAIN_S", 0.1)
    dns.answers[NAME] = [A]
    short = Options(timeout_s=0.3, retry=None)
    backends = Backends(kind)
    with full_listener() as backends.port, client_of(kind, backends.port) as client:
        with pytest.raises(DeadlineExceeded):
            client.server_metadata(options=short)
        backends.start(B)
        dns.answers[NAME] = [B]
        try:
            assert client.server_metadata(options=short).name == B
        finally:
            backends.stop()
    assert dns.asked == [NAME] * 2


def test_deadlines_that_pass_ask_no_more_than_once_a_second(kind: str, dns: Resolver) -> None:
    dns.answers[NAME] = [A]
    with full_listener() as port, client_of(kind, port) as client:
        client.ready(timeout_s=0.01)  # asks the name
        start_s = time.monotonic()
        for _ in range(30):
            assert not client.ready(timeout_s=0.05)
        took_s = time.monotonic() - start_s
    assert took_s >= 1.2
    assert 2 <= len(dns.asked) <= 2 + took_s


def test_waiting_for_readiness_follows_the_name(
    kind: str, backends: Backends, dns: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "_ASKED_AGAIN_S", 0.1)
    backends.start(B)
    with client_of(kind, backends.port) as client:
        assert not client.ready()
        dns.answers[NAME] = [C]
        assert not client.ready()
        dns.answers[NAME] = [B]
        client.wait_ready(timeout_s=5)
        assert who(client) == [B]


def test_a_name_without_addresses_is_a_failed_connection_and_asked_by_every_attempt(
    kind: str, backends: Backends, dns: Resolver
) -> None:
    backends.start(A)
    with client_of(kind, backends.port) as client:
        with pytest.raises(ConnectionFailed, match="expected addresses of this name, got none") as caught:
            client.server_metadata()
        error = caught.value
        assert "Name or service not known" in error.text
        assert isinstance(error.__cause__, socket.gaierror)
        assert (error.code, error.endpoint, error.attempts) == ("connection", f"{NAME}:{backends.port}", 3)
        assert dns.asked == [NAME] * 3
        dns.answers[NAME] = [A]
        assert who(client) == [A]


def test_retries_at_the_only_address_are_paid_from_the_budget(kind: str, dns: Resolver) -> None:
    dns.answers[NAME] = [A]
    attempts = []
    with client_of(kind, 1) as client:
        for _ in range(7):
            with pytest.raises(ConnectionFailed) as caught:
                client.server_metadata()
            attempts.append(caught.value.attempts)
    assert attempts == [3, 3, 3, 3, 3, 1, 1]


def test_addresses_that_are_known_outlast_the_name(
    kind: str, backends: Backends, dns: Resolver, asked_often: None
) -> None:
    backends.start(A, B)
    dns.answers[NAME] = [A, B]
    with client_of(kind, backends.port) as client:
        assert len(set(who(client, 2))) == 2
        dns.answers.clear()
        backends.stop(A)
        assert who(client, 4) == [B] * 4
    assert dns.asked.count(NAME) >= 2


def test_names_and_other_targets_are_one_client(kind: str, backends: Backends, dns: Resolver) -> None:
    protocol, _, is_async = kind.partition("-")
    backends.start(A, B, C)
    port = backends.port
    targets = [f"{protocol}+dns://{NAME}:{port}", f"{protocol}://{C}:{port}", f"{protocol}+dns://nowhere.test:{port}"]
    dns.answers[NAME] = [A, B]
    options = Options(retry=None)
    made = BlockingClient(targets, options=options) if is_async else Client(targets, options=options)
    with cast("Client", made) as client:
        assert sorted(who(client, 6)) == [A, A, B, B, C, C]
    # What nobody knows is not asked at each call while others serve.
    assert sorted(dns.asked) == ["nowhere.test", NAME]


@pytest.mark.parametrize("name", [NAME, "another.test"])
def test_certificates_are_checked_against_the_name(kind: str, name: str, dns: Resolver, tmp_path: Path) -> None:
    backends = Backends(kind, self_signed(tmp_path, f"DNS:{NAME}"))
    backends.start(A, B)
    dns.answers = {NAME: [A, B], "another.test": [A, B]}
    tls = TLS(root_certificates=tmp_path / "certificate.pem")
    try:
        with client_of(kind, backends.port, name=name, tls=tls) as client:
            if name == NAME:
                assert sorted(who(client, 4)) == [A, A, B, B]
            else:
                with pytest.raises(ConnectionFailed):
                    client.server_metadata()
    finally:
        backends.stop()


def test_a_client_that_is_closed_while_a_name_is_asked_connects_to_nothing(
    kind: str, backends: Backends, dns: Resolver
) -> None:
    backends.start(A)
    dns.answers[NAME] = [A]
    dns.holding.clear()
    client = client_of(kind, backends.port)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(who, client)
        while not dns.asked:
            time.sleep(0.001)
        threading.Timer(0.1, dns.holding.set).start()
        if isinstance(client, Client):
            client.close()
        else:
            asyncio.run_coroutine_threadsafe(client._inner.close(), client._loop).result(5)
        with pytest.raises(Cancelled, match="closed during the call"):
            answer.result(5)
    client.close()
    assert backends.hosts == []


# ---- the event loop ----


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_an_event_loop_goes_on_while_a_name_is_asked(protocol: str, dns: Resolver) -> None:
    dns.holding.clear()

    async def call() -> tuple[float, int]:
        async with AsyncClient(f"{protocol}+dns://{NAME}:1", options=Options(timeout_s=0.3)) as client:
            waiting = asyncio.ensure_future(client.server_metadata())
            began_s, turns = time.monotonic(), 0
            while not waiting.done():
                await asyncio.sleep(0.01)
                turns += 1
            with pytest.raises(DeadlineExceeded, match="before the request was sent"):
                await waiting
            dns.holding.set()
            return time.monotonic() - began_s, turns

    took_s, turns = asyncio.run(call())
    assert 0.3 <= took_s < 1
    assert turns > 10


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_tasks_share_the_question(protocol: str, dns: Resolver) -> None:
    backends = Backends(protocol)
    backends.start(A, B)
    dns.answers[NAME] = [A, B]

    async def call() -> list[str]:
        async with AsyncClient(f"{protocol}+dns://{NAME}:{backends.port}", options=QUICK) as client:
            return [one.name for one in await asyncio.gather(*(client.server_metadata() for _ in range(50)))]

    try:
        answered = asyncio.run(call())
    finally:
        backends.stop()
    assert (answered.count(A), answered.count(B)) == (25, 25)
    assert dns.asked == [NAME]
