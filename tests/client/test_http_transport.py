"""HTTP faults that a real Triton cannot be made to show: a small TCP server answers byte by byte, or not at all."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from tritonforge_client import Client, ConnectionFailed, DeadlineExceeded, Options, ServerError, TritonError

INPUTS = {"x": np.zeros(4, np.float32)}


@contextmanager
def tcp_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Give each connection, in a thread of its own, to ``answer``."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def trickle(data: bytes, pause_s: float = 0.05) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        for byte in data:
            connection.sendall(bytes((byte,)))
            time.sleep(pause_s)

    return answer


def whole(data: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(data)

    return answer


def failure(url: str, *, timeout_s: float = 5.0) -> TritonError:
    with Client(url, options=Options(timeout_s=timeout_s)) as client, pytest.raises(TritonError) as caught:
        client.infer("m", INPUTS, request_id="r")
    return caught.value


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"z" * 1000],
    ids=["headers", "body"],
)
def test_a_reply_that_trickles_ends_at_the_deadline(data: bytes) -> None:
    with tcp_server(trickle(data)) as url:
        start = time.monotonic()
        error = failure(url, timeout_s=0.4)
        elapsed_s = time.monotonic() - start
    assert type(error) is DeadlineExceeded
    assert 0.4 <= elapsed_s < 0.9
    assert (error.model, error.request_id) == ("m", "r")


def test_a_server_that_does_not_read_ends_at_the_deadline() -> None:
    big = {"x": np.zeros(50_000_000, np.uint8)}
    with (
        tcp_server(lambda connection: time.sleep(5)) as url,
        Client(url, options=Options(timeout_s=0.4)) as client,
    ):
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.infer("m", big)
        assert time.monotonic() - start < 1.5


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"SSH-2.0-x\r\n"],
    ids=["nothing", "half a body", "another protocol"],
)
def test_a_broken_exchange_is_a_failed_connection(data: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    with tcp_server(answer) as url:
        error = failure(url)
    assert type(error) is ConnectionFailed
    assert error.retryable
    assert error.__cause__ is not None


def test_redirects_are_not_followed() -> None:
    asked = []

    def answer(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

    with tcp_server(answer) as url:
        error = failure(url)
    assert type(error) is ServerError
    assert "302" in str(error)
    assert len(asked) == 1


def test_a_reply_that_is_no_inference_reply_is_a_server_error() -> None:
    with tcp_server(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")) as url:
        error = failure(url)
    assert type(error) is ServerError
    assert "expected JSON, got b'hello'" in str(error)


def test_a_connection_that_the_server_closed_while_idle_is_replaced() -> None:
    connections = []

    def answer(connection: socket.socket) -> None:
        connections.append(connection)
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with tcp_server(answer) as url, Client(url) as client:
        for _ in range(3):
            assert client.ready()
            time.sleep(0.1)
    assert len(connections) == 3


def test_a_kept_connection_is_used_again_and_headers_are_sent() -> None:
    requests: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            requests.append(data)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with tcp_server(answer) as url, Client(url, options=Options(headers={"X-Token": "t"})) as client:
        assert client.ready("a b/c")
        assert client.ready()
    assert requests[0].startswith(b"GET /v2/models/a%20b%2Fc/ready HTTP/1.1\r\n")
    assert requests[1].startswith(b"GET /v2/health/ready HTTP/1.1\r\n")
    assert b"x-token: t\r\n" in requests[1]


def test_a_small_request_leaves_in_one_piece() -> None:
    pieces: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        pieces.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    with tcp_server(answer) as url:
        failure(url)
    head, _, body = pieces[0].partition(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    assert len(body) == int(length.split(b":")[1])
    assert body.endswith(bytes(16))
