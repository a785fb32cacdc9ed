"""A model server of known latency, in a process of its own: it keeps how long it really took for each request.

It speaks what the client needs of KServe v2 over HTTP. The time of a request begins when the kernel has received all of
it, as the kernel itself says (``SO_TIMESTAMPNS``; where it says nothing, when it is read), and ends when the answer is
about to be written. No client can see less than that; what one sees beyond it is the way through the kernel and the
client's own time.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import itertools
import json
import math
import os
import re
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from support.child import Child, say
from typing_extensions import Self

MODEL: Final = "known"

# Timers are too coarse for the last stretch, so it is spent awake.
_AWAKE_S: Final = 0.0015
_MOST_BYTES: Final = 64 * 1024
_SO_TIMESTAMPNS: Final = 35  # include/uapi/asm-generic/socket.h; Python has no name for it
_TIMESPEC: Final = struct.Struct("qq")
_ABOUT_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REQUEST: Final = b"POST /v2/models/known/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
_CONFIG: Final = {
    "name": MODEL,
    "max_batch_size": 8,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [16]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [16]}],
}


@dataclass(frozen=True, slots=True)
class Answered:
    """One inference as the server saw it.

    Attributes:
        received_s: When its last byte had come, on the clock of ``time.perf_counter()``, which processes share.
        took_s: Seconds from then until its answer was written.
    """

    received_s: float
    took_s: float


class Responder:
    """A server on 127.0.0.1 that answers after given times.

    Args:
        latencies_ms: Milliseconds from a request to its answer: the first request takes the first of them, and so on;
            after the last one comes the first again.
        core: The CPU that it may use; any that its parent may when ``None``.

    Attributes:
        url: Where it listens.
        cores: The CPUs that it may use.
    """

    def __init__(self, latencies_ms: Sequence[float], *, core: int | None = None) -> None:
        cores = os.sched_getaffinity(0) if core is None else {core}
        self._child = Child("support.responder", ",".join(map(str, cores)), *map(str, latencies_ms))
        self.cores = set(self._child.said["cores"])
        self.url = f"http://127.0.0.1:{self._child.said['port']}"

    def answered(self) -> list[Answered]:
        """Every inference that was answered since the last time this was asked, in the order of their answers."""
        self._child.tell("answered")
        return [Answered(*one) for one in self._child.answer()]

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connected(url: str) -> socket.socket:
    """A bare connection to a ``Responder``, or to a proxy in front of it."""
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)


def timed_request(connection: socket.socket) -> float:
    """Send an inference and wait for its answer, as fast as Python can; returns the seconds."""
    start_s = time.perf_counter()
    connection.sendall(_REQUEST)
    answer = connection.recv(_MOST_BYTES)
    end_s = time.perf_counter()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    return end_s - start_s


# ---- in the process of its own ----


class _Server:
    def __init__(self, latencies_ms: Sequence[float]) -> None:
        self._latencies_s = itertools.cycle([ms / 1e3 for ms in latencies_ms])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        # Connections inherit it. The kernel begins to keep times a moment after the first socket wants them.
        self._listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.port: int = self._listener.getsockname()[1]
        self._connections: dict[int, _Connection] = {}
        self._due: list[tuple[float, int, _Connection, float]] = []
        self._order = itertools.count()
        self._answered: list[tuple[float, float]] = []
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(sys.stdin, select.EPOLLIN)

    def run(self) -> None:
        """Serve until standard input ends."""
        while True:
            for number, _ in self._epoll.poll(self._rest_s()):
                if number in self._connections:
                    self._receive(self._connections[number])
                elif number == self._listener.fileno():
                    self._accept()
                elif sys.stdin.readline() != "":
                    say(self._answered)
                    self._answered = []
                else:
                    return
            self._answer_due()

    def _rest_s(self) -> float | None:
        """How long nothing is due; whole milliseconds, since epoll rounds up."""
        if len(self._due) == 0:
            return None
        return max(0, math.floor(1e3 * (self._due[0][0] - _AWAKE_S - time.perf_counter()))) / 1e3

    def _accept(self) -> None:
        stream, _ = self._listener.accept()
        self._connections[stream.fileno()] = _Connection(stream)
        self._epoll.register(stream, select.EPOLLIN)

    def _receive(self, connection: _Connection) -> None:
        number = connection.stream.fileno()
        try:
            path = connection.receive()
        except ConnectionError:
            del self._connections[number]
            self._epoll.unregister(number)
            connection.stream.close()
            return
        if path.endswith("/infer"):
            due_s = connection.received_s + next(self._latencies_s)
            heapq.heappush(self._due, (due_s, next(self._order), connection, connection.received_s))
        elif path != "":
            connection.send(_answer_about(path))

    def _answer_due(self) -> None:
        while len(self._due) > 0 and (now_s := time.perf_counter()) >= self._due[0][0]:
            _, _, connection, received_s = heapq.heappop(self._due)
            self._answered.append((received_s, now_s - received_s))
            connection.send(_INFERRED)


class _Connection:
    """A client's connection; it has one request at a time.

    Attributes:
        stream: Its socket.
        received_s: When its last bytes came.
    """

    def __init__(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = stream
        self.received_s = math.nan
        self._data = b""

    def receive(self) -> str:
        """Read what came; returns the path of the request once all of it is there, else nothing.

        Raises:
            ConnectionError: The client has gone.
        """
        data, about, _, _ = self.stream.recvmsg(_MOST_BYTES, _ABOUT_BYTES)
        if data == b"":
            raise ConnectionResetError("the client closed its connection")
        # In this order: what stops the process in between makes the time shorter than it was, never longer.
        wall_ns, self.received_s = time.time_ns(), time.perf_counter()
        for _, _, stamp in about:
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            self.received_s -= (wall_ns - seconds * 1_000_000_000 - nanoseconds) / 1e9
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head)
        if end == b"" or len(body) < (int(length[1]) if length is not None else 0):
            return ""
        self._data = b""
        return head.split(b" ", 2)[1].decode("ascii")

    def send(self, answer: bytes) -> None:
        """Write an answer; a client that has gone does not get it."""
        with contextlib.suppress(ConnectionError):
            self.stream.sendall(answer)


def _answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("ascii") + body


def _answer_about(path: str) -> bytes:
    """Answer what is asked beside inference."""
    if path.endswith("/ready"):
        return _answer("200 OK", b"")
    if path == f"/v2/models/{MODEL}/config":
        return _answer("200 OK", json.dumps(_CONFIG).encode())
    return _answer("404 Not Found", json.dumps({"error": f"nothing is known of {path}"}).encode())


def _inferred() -> bytes:
    """A row of zeros."""
    output = {"name": "y", "datatype": "FP32", "shape": [1, 16], "parameters": {"binary_data_size": 64}}
    head = json.dumps({"model_name": MODEL, "model_version": "1", "outputs": [output]}).encode()
    return _answer("200 OK", head + bytes(64), f"Inference-Header-Content-Length: {len(head)}")


_INFERRED: Final = _inferred()


def main() -> None:
    """Serve."""
    _, cores, *latencies_ms = sys.argv
    os.sched_setaffinity(0, map(int, cores.split(",")))
    server = _Server(list(map(float, latencies_ms)))
    say({"port": server.port, "cores": list(os.sched_getaffinity(0))})
    # A collection would be a pause of its own.
    gc.disable()
    server.run()


if __name__ == "__main__":
    main()
