"""Plain sockets, which ``gevent.monkey.patch_all()`` makes cooperative, and the pools that keep them.

A socket's own timeout starts again with every byte that comes, so a slow server could keep a caller waiting for ever.
Here each operation gets what is left of the call's time, and no more.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from tritonforge_client.core.call import Call
from tritonforge_client.core.http11 import drop_sent, pieces_from_buffers
from tritonforge_client.errors import ConnectionFailed, TritonError
from tritonforge_client.transport.target import endpoint_text
from tritonforge_client.wire import WireTimes, begin_exchange, stamp_arrivals

if TYPE_CHECKING:
    import ssl

    from tritonforge_client.core.steps import Steps

T = TypeVar("T")

MAX_IDLE_CONNECTIONS: Final = 128
"""Connections kept for the next calls. More calls at once work too, over connections that are closed after them."""

JOIN_BELOW_BYTES: Final = 64 * 1024
"""Below this size one more copy is cheaper than one more system call."""

_MAX_BUFFERS: Final = os.sysconf("SC_IOV_MAX")


class Connection:
    """One connection, not made before it is needed.

    Args:
        host: Host name or address.
        port: Port.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, which its certificate is for.

    Attributes:
        reusable: Whether it has carried a whole exchange and can carry another.
        is_interrupted: Whether it was interrupted, so that every operation fails.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, name: str) -> None:
        self.reusable = False
        self._host = host
        self._port = port
        self._tls = tls
        self._name = name
        self._socket: socket.socket | None = None
        self._poll: select.poll | None = None
        self._times: WireTimes | None = None
        self._is_stamped: bool | None = None
        self.is_interrupted = False

    def is_stale(self) -> bool:
        """Whether it is of no use any more, after it was idle."""
        raise NotImplementedError

    def check_tls(self, wrapped: ssl.SSLSocket) -> None:
        """Refuse what a server chose in its handshake, by a ``ValueError``."""

    def connect(self, call: Call) -> None:
        """Begin an exchange: connect to the first address of the host that answers, unless that was done before."""
        self._times = times = begin_exchange()
        if self._socket is None:
            self._connect(call)
        if times is not None and self._is_stamped is None and self._socket is not None:
            self._is_stamped = self._tls is None and stamp_arrivals(self._socket)

    def _connect(self, call: Call) -> None:
        addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        self._depart(call)
        for count_left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                # An address that does not answer leaves time for the others.
                self._connect_to(address, call, share=1 / count_left)
                break
            except OSError:
                if count_left == 1:
                    raise
        if self._tls is not None:
            self._start_tls(self._tls, call)

    def interrupt(self) -> None:
        """Let the operation that another thread waits for end at once, and those after it fail."""
        self.is_interrupted = True
        if self._socket is not None:
            with suppress(OSError):
                # TLS's own shutdown would let the other thread go on without TLS.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def is_readable(self) -> bool:
        """Whether something can be received at once: bytes, or the end."""
        if self._socket is None:
            return False
        if self._poll is None:
            self._poll = system_poll()
            self._poll.register(self._socket, select.POLLIN)
        return len(self._poll.poll(0)) > 0

    def send_all(self, buffers: Sequence[bytes | memoryview], size_bytes: int, call: Call) -> None:
        """Send buffers of so many bytes together."""
        self._depart(call)
        is_plain = self._tls is None
        sent = self.armed(call).sendmsg(buffers) if is_plain and len(buffers) <= _MAX_BUFFERS else 0
        if sent == size_bytes:
            return  # as nearly always
        # TLS takes one buffer at a time.
        pieces = pieces_from_buffers(buffers, join_below_bytes=0 if is_plain else JOIN_BELOW_BYTES)
        drop_sent(pieces, sent)
        while len(pieces) > 0:
            armed = self.armed(call)
            sent = armed.sendmsg(list(islice(pieces, _MAX_BUFFERS))) if is_plain else armed.send(pieces[0])
            drop_sent(pieces, sent)

    def run(self, steps: Steps[T], call: Call) -> T:
        """Do what the steps of a protocol ask for until they return."""
        try:
            io = next(steps)
            while True:
                if isinstance(io, memoryview):
                    io = steps.send(self._receive_into(io, call))
                else:
                    self.send_all(io, sum([len(one) for one in io]), call)
                    io = steps.send(0)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _depart(self, call: Call) -> None:
        """Note when the exchange begins to talk to the server, and not before it may."""
        times = self._times
        if times is not None and times.sent_ns is None:
            times.depart(call.timeout_s - call.elapsed_s if times.not_before_ns > 0 else 0)

    def _receive_into(self, room: memoryview[Any], call: Call) -> int:
        armed = self.armed(call)
        times = self._times
        if times is not None and self._is_stamped:
            return times.receive_stamped(armed, room)
        size = armed.recv_into(room)
        if times is not None:
            times.received_ns = time.perf_counter_ns()
        return size

    def armed(self, call: Call, share: float = 1.0) -> socket.socket:
        """The socket, its next operation limited to what is left of the call's time, or to a share of it."""
        if self.is_interrupted or self._socket is None:
            raise ConnectionAbortedError("the connection was closed")
        left_s = call.started_s + call.timeout_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left_s * share)
        return self._socket

    def _connect_to(self, address: tuple[Any, ...], call: Call, share: float) -> None:
        family, kind, protocol, _, socket_address = address
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.armed(call, share).connect(socket_address)
        except OSError:
            self._socket.close()
            raise

    def _start_tls(self, tls: ssl.SSLContext, call: Call) -> None:
        # An end without TLS's own goodbye is an error: anybody on the way could have cut the reply off.
        wrapped = tls.wrap_socket(
            self.armed(call),
            server_hostname=self._name,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._socket = wrapped
        self.armed(call)
        wrapped.do_handshake()
        self.check_tls(wrapped)


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Pool(Generic[ConnectionT]):
    """Connections to one server. Threads may share it.

    Args:
        kind: Class of the connections.
        host: Host name or address.
        port: Port.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, where ``host`` is one of its addresses: it is asked for, and certificates are for it.

    Attributes:
        endpoint: ``host:port`` of the server.
        authority: The same by its name.
        closed: Whether it was closed.
    """

    def __init__(
        self, kind: type[ConnectionT], host: str, port: int, tls: ssl.SSLContext | None, name: str | None
    ) -> None:
        self.endpoint = endpoint_text(host, port)
        self.authority = endpoint_text(name if name is not None else host, port)
        self.closed = False
        self._kind = kind
        self._arguments = (host, port, tls, name if name is not None else host)
        self._idle: list[ConnectionT] = []
        self._busy: set[ConnectionT] = set()
        self._lock = threading.Lock()

    def take(self, call: Call) -> ConnectionT:
        """The connection that was used last, unless it is of no use any more; else a new one."""
        while True:
            with self._lock:
                if self.closed:
                    raise call.closed_error()
                connection = self._idle.pop() if len(self._idle) > 0 else self._kind(*self._arguments)
                self._busy.add(connection)
            if not connection.is_stale():
                return connection
            connection.reusable = False
            self.give_back(connection)

    def give_back(self, connection: ConnectionT) -> None:
        """Keep a connection for the next call, or close it."""
        with self._lock:
            self._busy.discard(connection)
            is_good = connection.reusable and not connection.is_interrupted
            if is_good and not self.closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def interrupt(self, held: Callable[[], ConnectionT | None]) -> None:
        """Let the operations of one call end at once.

        Args:
            held: The call's connection; ``None`` once it gives it back, after which others may use it.
        """
        with self._lock:
            connection = held()
            if connection is not None:
                connection.interrupt()

    def close(self) -> None:
        """Close every connection; operations that wait end at once."""
        with self._lock:
            self.closed = True
            for connection in self._busy:
                connection.interrupt()
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def system_poll() -> select.poll:
    """A poll of the system's own: gevent's would go around its whole loop, even where nothing is waited for."""
    monkey = sys.modules.get("gevent.monkey")
    poll: select.poll = (select.poll if monkey is None else monkey.get_original("select", "poll"))()
    return poll


def error_from_failure(failure: Exception, call: Call, *, was_connected: bool, is_closed: bool) -> TritonError:
    """What a broken exchange means.

    Args:
        failure: An error of a socket, of the resolver or of the reply reader.
        call: The call that failed.
        was_connected: Whether something may have been sent.
        is_closed: Whether the transport was closed meanwhile.
    """
    # An errno is the kernel's: it gave the connection up, and the call has time left.
    timed_out = isinstance(failure, TimeoutError) and failure.errno is None
    if timed_out or call.elapsed_s >= call.timeout_s:
        return call.deadline_error() if was_connected else call.deadline_error("before the request was sent")
    if is_closed:
        return call.closed_error()
    why = str(failure) or type(failure).__name__
    text = f"no connection, or it broke: {why}; check that the server runs at this address"
    return ConnectionFailed(text, **call.error_context())
