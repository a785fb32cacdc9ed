"""Each fault of the proxy, seen through plain sockets in front of an echo server."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.fault_proxy import FaultProxy

REQUEST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"


class EchoServer:
    """Sends every byte back; keeps what each connection brought, and how it ended."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.received: list[bytearray] = []
        self.ends: list[str] = []
        self.threads = [threading.Thread(target=self.serve)]
        self.threads[0].start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.received.append(bytearray())
            self.threads.append(threading.Thread(target=self.echo, args=(connection, self.received[-1])))
            self.threads[-1].start()

    def echo(self, connection: socket.socket, received: bytearray) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    received += data
                    connection.sendall(data)
                self.ends.append("end")
            except ConnectionError:
                self.ends.append("reset")

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()


@contextmanager
def reset_server(data: bytes) -> Iterator[int]:
    """Answers ``data`` to one connection, and resets it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(data)
                time.sleep(0.1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.fixture
def server() -> Iterator[EchoServer]:
    echo = EchoServer()
    yield echo
    echo.close()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.port) as made:
        yield made


def connected(proxy: FaultProxy, timeout_s: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout_s)


def exactly(client: socket.socket, count: int) -> bytes:
    """Receive ``count`` bytes, or what comes before the end."""
    data = b""
    while len(data) < count and (piece := client.recv(count - len(data))):
        data += piece
    return data


def nothing_comes(client: socket.socket, wait_s: float = 0.15) -> bool:
    """Whether neither a byte nor an end comes in a while."""
    before_s = client.gettimeout()
    client.settimeout(wait_s)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(before_s)
    return False


def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    end_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.01)
    return condition()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_bytes_pass_both_ways_and_are_counted(proxy: FaultProxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
        assert proxy.open_connections() == 1
    assert proxy.passed_bytes == {"request": 5, "reply": 5}
    assert proxy.accepted == 1


def test_megabytes_pass_both_ways_at_once(proxy: FaultProxy) -> None:
    data = os.urandom(8_000_000)
    with connected(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert exactly(client, len(data)) == data
        sender.join(5)


def test_the_end_of_one_direction_is_passed_on_and_the_other_goes_on(proxy: FaultProxy, server: EchoServer) -> None:
    with connected(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert exactly(client, 100) == b"last words"
    assert eventually(lambda: server.ends == ["end"])


def test_a_reset_by_the_client_reaches_the_server(proxy: FaultProxy, server: EchoServer) -> None:
    with connected(proxy) as client:
        client.sendall(b"x")
        exactly(client, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert eventually(lambda: server.ends == ["reset"])


def test_a_reset_by_the_server_reaches_the_client() -> None:
    with reset_server(b"half") as port, FaultProxy("127.0.0.1", port) as proxy, connected(proxy) as client:
        client.sendall(b"x")
        assert exactly(client, 4) == b"half"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_server_that_does_not_listen_is_a_reset() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with FaultProxy("127.0.0.1", nobody.getsockname()[1]) as proxy:
            # The reset may come so early that connecting already fails.
            with pytest.raises(ConnectionResetError), connected(proxy) as client:
                client.recv(1)
            assert eventually(lambda: proxy.open_connections() == 0)


def test_refusing_turns_new_connections_away_and_keeps_open_ones(proxy: FaultProxy) -> None:
    with connected(proxy) as old:
        proxy.refuse()
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                connected(proxy)
        old.sendall(b"still here")
        assert exactly(old, 10) == b"still here"
        proxy.heal()
        with connected(proxy) as new:
            new.sendall(b"back")
            assert exactly(new, 4) == b"back"
    assert proxy.accepted == 2


@pytest.mark.parametrize("after_bytes", [0, 3, 10])
def test_a_reset_comes_after_that_many_bytes_of_the_reply(
    proxy: FaultProxy, server: EchoServer, after_bytes: int
) -> None:
    proxy.reset(after_bytes=after_bytes)
    with connected(proxy) as client:
        client.sendall(b"0123456789")
        assert exactly(client, after_bytes) == b"0123456789"[:after_bytes]
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert bytes(server.received[0]) == b"0123456789"
    assert eventually(lambda: server.ends == ["reset"])
    assert proxy.passed_bytes["reply"] == after_bytes


def test_a_reset_after_many_bytes_loses_none_of_them(proxy: FaultProxy) -> None:
    data = os.urandom(3_000_000)
    proxy.reset(after_bytes=1_000_000)

    def send(client: socket.socket) -> None:
        with suppress(ConnectionError):
            client.sendall(data)

    with connected(proxy) as client:
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        time.sleep(0.2)  # by now the reset is due, but nothing was read
        assert exactly(client, 1_000_000) == data[:1_000_000]
        sender.join(5)


def test_a_fault_of_the_request_lets_the_server_have_its_beginning(proxy: FaultProxy, server: EchoServer) -> None:
    proxy.reset(after_bytes=4, direction="request")
    with connected(proxy) as client:
        client.sendall(b"0123456789")
        with pytest.raises(ConnectionResetError):
            exactly(client, 10)
    assert eventually(lambda: server.ends == ["reset"])
    assert bytes(server.received[0]) == b"0123"


def test_bytes_are_counted_from_the_moment_a_fault_is_switched_on(proxy: FaultProxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"before")
        exactly(client, 6)
        proxy.reset(after_bytes=2)
        client.sendall(b"after")
        assert exactly(client, 2) == b"af"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_healed_proxy_resets_nothing(proxy: FaultProxy) -> None:
    with connected(proxy) as client:
        proxy.reset(after_bytes=5)
        client.sendall(b"abc")
        assert exactly(client, 3) == b"abc"
        proxy.heal()
        client.sendall(b"defghi")
        assert exactly(client, 6) == b"defghi"


def test_a_cut_is_an_orderly_end_in_the_middle(proxy: FaultProxy, server: EchoServer) -> None:
    proxy.cut(after_bytes=4)
    with connected(proxy) as client:
        client.sendall(b"0123456789")
        assert exactly(client, 100) == b"0123"
        assert client.recv(1) == b""
        assert eventually(lambda: len(server.ends) == 1)
        # What the client still says is not answered with a reset: it learns of the end by reading.
        client.sendall(b"more")
        assert client.recv(1) == b""
        assert proxy.open_connections() == 1
    assert eventually(lambda: proxy.open_connections() == 0)


def test_a_stall_holds_the_rest_back_until_it_is_over(proxy: FaultProxy) -> None:
    proxy.stall(after_bytes=4)
    with connected(proxy) as client:
        client.sendall(b"0123456789")
        assert exactly(client, 4) == b"0123"
        assert nothing_comes(client)
        assert proxy.open_connections() == 1
        proxy.heal()
        assert exactly(client, 6) == b"456789"


def test_a_stall_hides_that_the_server_has_ended(proxy: FaultProxy, server: EchoServer) -> None:
    with connected(proxy) as client:
        client.sendall(b"x")
        exactly(client, 1)
        proxy.stall()
        client.shutdown(socket.SHUT_WR)
        assert eventually(lambda: server.ends == ["end"])
        assert nothing_comes(client)
        proxy.heal()
        assert client.recv(1) == b""


def test_a_stalled_request_does_not_reach_the_server(proxy: FaultProxy, server: EchoServer) -> None:
    proxy.stall(direction="request")
    with connected(proxy) as client:
        client.sendall(b"hello")
        assert nothing_comes(client)
        assert bytes(server.received[0]) == b""
        proxy.heal()
        assert exactly(client, 5) == b"hello"


def test_slow_bytes_take_their_time_until_the_fault_is_over(proxy: FaultProxy) -> None:
    proxy.slow(bytes_per_s=10_000)
    with connected(proxy) as client:
        start_s = time.monotonic()
        client.sendall(bytes(4_000))
        exactly(client, 4_000)
        elapsed_s = time.monotonic() - start_s
        assert 0.35 <= elapsed_s < 1.5
        client.sendall(bytes(50_000))
        exactly(client, 1_000)
        proxy.heal()
        start_s = time.monotonic()
        exactly(client, 49_000)
        assert time.monotonic() - start_s < 1.0  # 4.9 s at the slow rate


def test_a_rate_of_nothing_is_refused(proxy: FaultProxy) -> None:
    with pytest.raises(ValueError, match=r"got 0; use stall\(\)"):
        proxy.slow(bytes_per_s=0)


def test_garbage_is_noise_of_the_same_length(proxy: FaultProxy, server: EchoServer) -> None:
    proxy.garbage()
    with connected(proxy) as client:
        client.sendall(b"0" * 100)
        noise = exactly(client, 100)
        assert bytes(server.received[0]) == b"0" * 100
        assert len(noise) == 100
        assert len(set(noise)) > 20
        proxy.heal()
        client.sendall(b"plain")
        assert exactly(client, 5) == b"plain"


def test_http_is_answered_without_a_server() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with FaultProxy("127.0.0.1", nobody.getsockname()[1]) as proxy:
            proxy.http_status(429, b"slow down", {"Retry-After": "1"})
            with connected(proxy) as client:
                for _ in range(3):
                    client.sendall(REQUEST)
                    expected = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9\r\nRetry-After: 1\r\n\r\nslow down"
                    assert exactly(client, len(expected)) == expected
            assert proxy.passed_bytes == {"request": 0, "reply": 0}


def test_a_burst_answers_that_many_requests_and_passes_the_next(proxy: FaultProxy, server: EchoServer) -> None:
    proxy.burst(3)
    answers = []
    with connected(proxy) as one, connected(proxy) as other:
        for client in (one, other, one):
            client.sendall(REQUEST)
            answers.append(client.recv(65536))
        for client in (one, other):
            client.sendall(REQUEST)
            assert exactly(client, len(REQUEST)) == REQUEST
    assert all(answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n") for answer in answers)
    assert all(b"Exceeds maximum queue size" in answer for answer in answers)
    assert [bytes(received) for received in server.received] == [REQUEST, REQUEST]


def test_an_answered_request_is_read_to_its_end_first(proxy: FaultProxy, server: EchoServer) -> None:
    proxy.http_status(503, count=1)
    head = b"POST /x HTTP/1.1\r\ncontent-LENGTH: 200000\r\n\r\n"
    with connected(proxy) as client:
        client.sendall(head[:20])
        assert nothing_comes(client)
        client.sendall(head[20:])
        client.sendall(bytes(199_999))
        assert nothing_comes(client)
        client.sendall(b"\0" + REQUEST)
        answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        assert exactly(client, len(answer)) == answer
        assert exactly(client, len(REQUEST)) == REQUEST
    assert bytes(server.received[0]) == REQUEST


def test_a_request_that_is_on_its_way_is_not_answered(proxy: FaultProxy) -> None:
    with connected(proxy) as client:
        client.sendall(REQUEST[:-2])
        exactly(client, len(REQUEST) - 2)
        proxy.http_status(503)
        client.sendall(REQUEST[-2:])
        assert exactly(client, 2) == b"lo"
        client.sendall(REQUEST)
        assert client.recv(65536).startswith(b"HTTP/1.1 503")


def test_a_frozen_proxy_lets_everything_wait(proxy: FaultProxy, server: EchoServer) -> None:
    with connected(proxy) as old:
        old.sendall(b"a")
        exactly(old, 1)
        proxy.freeze()
        with connected(proxy) as new:
            old.sendall(b"b")
            new.sendall(b"c")
            assert nothing_comes(old)
            assert nothing_comes(new)
            assert [bytes(received) for received in server.received] == [b"a"]
            proxy.thaw()
            assert exactly(old, 1) == b"b"
            assert exactly(new, 1) == b"c"


def test_thawing_keeps_the_other_faults(proxy: FaultProxy) -> None:
    proxy.reset(after_bytes=1)
    proxy.freeze()
    proxy.thaw()
    with connected(proxy) as client:
        client.sendall(b"xyz")
        assert exactly(client, 1) == b"x"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_open_connections_are_those_that_clients_hold_even_while_frozen(proxy: FaultProxy) -> None:
    clients = [connected(proxy) for _ in range(3)]
    assert eventually(lambda: proxy.open_connections() == 3)
    proxy.freeze()
    for left, client in enumerate(clients):
        assert proxy.open_connections() == 3 - left
        client.close()
    assert proxy.open_connections() == 0
    assert proxy.accepted == 3


def test_faults_in_both_directions_hold_at_once(proxy: FaultProxy, server: EchoServer) -> None:
    proxy.stall(after_bytes=2, direction="request")
    proxy.reset(after_bytes=2)
    with connected(proxy) as client:
        client.sendall(b"abcd")
        assert exactly(client, 2) == b"ab"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert bytes(server.received[0]) == b"ab"


@pytest.mark.parametrize("fault", ["none", "freeze", "stall", "cut", "slow", "refuse"])
def test_nothing_is_left_after_closing(server: EchoServer, fault: str) -> None:
    before = descriptors(), threading.active_count()
    proxy = FaultProxy("127.0.0.1", server.port)
    if fault != "none" and fault != "refuse":
        getattr(proxy, fault)(*((100,) if fault == "slow" else ()))
    clients = [connected(proxy) for _ in range(3)]
    for client in clients:
        client.sendall(bytes(1000))
    if fault == "refuse":
        proxy.refuse()
    proxy.close()
    proxy.close()
    for client in clients:
        with suppress(ConnectionResetError):
            exactly(client, 2000)
        client.close()
    assert eventually(lambda: (descriptors(), threading.active_count()) == before), (descriptors(), before)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
