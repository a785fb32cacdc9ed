"""HTTP/1.1 over plain sockets, which ``gevent.monkey.patch_all()`` makes cooperative.

A socket's own timeout starts again with every byte that comes, so a slow server could keep a caller waiting for ever.
Here each operation gets what is left of the call's time, and no more.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import HttpRequest, HttpResponse
from tritonforge_client.core.http11 import (
    SCRATCH_BYTES,
    ReceivedReply,
    drop_sent,
    pieces_from_buffers,
    reply_reader,
    request_head,
)
from tritonforge_client.core.http_compression import compressed_request
from tritonforge_client.core.http_dialect import HttpDialect
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.errors import ConnectionFailed, TritonError
from tritonforge_client.transport.target import endpoint_text

if TYPE_CHECKING:
    import ssl

MAX_IDLE_CONNECTIONS: Final = 128
"""Connections kept for the next calls. More calls at once work too, over connections that are closed after them."""

JOIN_BELOW_BYTES: Final = 64 * 1024
"""Below this size one more copy is cheaper than one more system call."""

_MAX_BUFFERS: Final = os.sysconf("SC_IOV_MAX")


class HttpTransport:
    """Connections to one server. Redirects are not followed and nothing is sent twice.

    Args:
        host: Host name or address.
        port: Port of the HTTP service.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, where ``host`` is one of its addresses: it is asked for, and certificates are for it.
    """

    dialect = HttpDialect()

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, name: str | None = None) -> None:
        self.endpoint = endpoint_text(host, port)
        self._address = (host, port)
        self._name = name if name is not None else host
        self._authority = endpoint_text(self._name, port)
        self._tls = tls
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._lock = threading.Lock()
        self._closed = False

    def send(self, request: HttpRequest, call: Call) -> HttpResponse:
        """Send one request and return the whole reply, whatever its status.

        Args:
            request: The request.
            call: Gives the headers of the caller and the deadline. Only the resolver of host names keeps to its own.

        Raises:
            InvalidInput: The path or a header cannot be sent.
            DeadlineExceeded: The time of the call is over.
            ConnectionFailed: No connection could be made, it broke, or what came was no reply.
            Cancelled: The transport was closed.
        """
        request = compressed_request(request, call.compression)
        head = request_head(request, self._authority, call.headers)
        call.remaining_s()
        connection = self._take(call)
        is_connected = False
        try:
            connection.connect(call)
            is_connected = True
            return connection.exchange(head, request, call)
        # A ValueError is a damaged reply, or a host name that no resolver would take.
        except (OSError, ValueError) as error:
            raise error_from_failure(error, call, was_connected=is_connected, is_closed=self._closed) from error
        finally:
            self._give_back(connection)

    def stream(self, request: HttpRequest, call: Call) -> Iterator[HttpResponse]:
        """Send one request and return its reply: over HTTP there is only one."""
        yield self.send(request, call)

    def close(self) -> None:
        """Close every connection; calls in flight end with ``Cancelled``."""
        with self._lock:
            self._closed = True
            for connection in self._busy:
                connection.interrupt()
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _take(self, call: Call) -> _Connection:
        """The connection that was used last, unless the server has closed it; else a new one."""
        while True:
            with self._lock:
                if self._closed:
                    raise call.closed_error()
                connection = self._idle.pop() if len(self._idle) > 0 else self._new_connection()
                self._busy.add(connection)
            if not connection.is_stale():
                return connection
            connection.reusable = False
            self._give_back(connection)

    def _new_connection(self) -> _Connection:
        return _Connection(*self._address, self._tls, self._name)

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if connection.reusable and not self._closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()


class _Connection:
    """One connection, not made before it is needed.

    Attributes:
        reusable: Whether it has carried a whole exchange and can carry another.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, name: str) -> None:
        self.reusable = False
        self._host = host
        self._port = port
        self._tls = tls
        self._name = name
        self._socket: socket.socket | None = None
        self._poll: select.poll | None = None
        self._is_interrupted = False
        self._scratch = bytearray(SCRATCH_BYTES)

    def is_stale(self) -> bool:
        """Whether the server closed it while it was idle. Nothing else makes an idle connection readable."""
        if self._socket is None:
            return False
        if self._poll is None:
            self._poll = system_poll()
            self._poll.register(self._socket, select.POLLIN)
        return len(self._poll.poll(0)) > 0

    def connect(self, call: Call) -> None:
        """Connect to the first address of the host that answers, unless that was done before."""
        if self._socket is not None:
            return
        addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
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

    def exchange(self, head: bytes, request: HttpRequest, call: Call) -> HttpResponse:
        """Send a request and receive its reply."""
        self.reusable = False
        try:
            self._send(head, request, call)
        except ConnectionError:
            # A server that refuses a request may answer and hang up before it has read all of it.
            with suppress(OSError, ReplyFormatError):
                return self._receive(request.method, call).response
            raise
        received = self._receive(request.method, call)
        self.reusable = received.reusable
        return received.response

    def interrupt(self) -> None:
        """Let the operation that another thread waits for end at once, and those after it fail."""
        self._is_interrupted = True
        if self._socket is not None:
            with suppress(OSError):
                # TLS's own shutdown would let the other thread go on without TLS.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def _connect_to(self, address: tuple[Any, ...], call: Call, share: float) -> None:
        family, kind, protocol, _, socket_address = address
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._armed(call, share).connect(socket_address)
        except OSError:
            self._socket.close()
            raise

    def _start_tls(self, tls: ssl.SSLContext, call: Call) -> None:
        # An end without TLS's own goodbye is an error: anybody on the way could have cut the reply off.
        wrapped = tls.wrap_socket(
            self._armed(call),
            server_hostname=self._name,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._socket = wrapped
        self._armed(call)
        wrapped.do_handshake()

    def _send(self, head: bytes, request: HttpRequest, call: Call) -> None:
        buffers = (head, *request.body)
        is_plain = self._tls is None
        sent = self._armed(call).sendmsg(buffers) if is_plain and len(buffers) <= _MAX_BUFFERS else 0
        if sent == len(head) + request.size_bytes:
            return  # as nearly always
        # TLS takes one buffer at a time.
        pieces = pieces_from_buffers(buffers, join_below_bytes=0 if is_plain else JOIN_BELOW_BYTES)
        drop_sent(pieces, sent)
        while len(pieces) > 0:
            armed = self._armed(call)
            sent = armed.sendmsg(list(islice(pieces, _MAX_BUFFERS))) if is_plain else armed.send(pieces[0])
            drop_sent(pieces, sent)

    def _receive(self, method: str, call: Call) -> ReceivedReply:
        reader = reply_reader(method, self._scratch)
        wanted = next(reader)
        while True:
            size = self._armed(call).recv_into(wanted)
            try:
                wanted = reader.send(size)
            except StopIteration as stop:
                received: ReceivedReply = stop.value
                return received

    def _armed(self, call: Call, share: float = 1.0) -> socket.socket:
        """The socket, its next operation limited to what is left of the call's time, or to a share of it."""
        if self._is_interrupted or self._socket is None:
            raise ConnectionAbortedError("the connection was closed")
        left_s = call.timeout_s - call.elapsed_s
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left_s * share)
        return self._socket


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
