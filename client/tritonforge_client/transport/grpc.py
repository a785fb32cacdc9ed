"""gRPC over plain sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import Self

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.core.grpc_dialect import GrpcDialect
from tritonforge_client.core.http2 import Http2Connection
from tritonforge_client.core.http2_call import CallFailed, Http2Call
from tritonforge_client.core.http2_head import request_block
from tritonforge_client.core.http_compression import compressed_message
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.core.status import error_from_status
from tritonforge_client.core.steps import Buffer, Steps
from tritonforge_client.errors import TritonError
from tritonforge_client.transport.sockets import Connection, Pool, error_from_failure
from tritonforge_client.wire import begin_exchange

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")


class GrpcTransport:
    """Connections to one server, each of which carries one call at a time. Nothing is sent twice.

    Calls at once take connections of their own, as over HTTP/1.1: none waits behind the bytes of another, and nobody
    has to stand by to tell their replies apart. A call that ends early closes its connection, and the server then ends
    the request.

    Args:
        host: Host name or address.
        port: Port of the gRPC service.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, where ``host`` is one of its addresses: it is asked for, and certificates are for it.
    """

    dialect = GrpcDialect()

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, name: str | None = None) -> None:
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._pool = Pool(_GrpcConnection, host, port, tls, name)
        self._scheme = "http" if tls is None else "https"
        self.endpoint = self._pool.endpoint

    def send(self, request: GrpcRequest, call: Call) -> Buffer:
        """Send one message and return the reply's.

        Args:
            request: The request.
            call: Gives the headers of the caller and the deadline. Only the resolver of host names keeps to its own.

        Raises:
            InvalidInput: A header cannot be sent.
            TritonError: The server answered with another status than OK; ``DeadlineExceeded``: the time of the call
                is over; ``ConnectionFailed``: no connection could be made, it broke, or what came was no reply;
                ``Cancelled``: the transport was closed.
        """
        with _Exchange(self._pool, call) as exchange:
            begun = exchange.begin(request, self._scheme)
            return exchange.run(exchange.connection.http2.reply(begun))

    def stream(self, request: GrpcRequest, call: Call) -> Iterator[Buffer]:
        """Send one message and return the replies' as they come; raises as ``send``."""
        with _Exchange(self._pool, call) as exchange:
            begun = exchange.begin(request, self._scheme)
            while (message := exchange.run(exchange.connection.http2.next_message(begun))) is not None:
                yield message

    def begin(self, request: GrpcRequest, call: Call, ended: Callable[[], None]) -> GrpcPending:
        """Send one message without waiting for the reply; ``ended`` is then called from a thread of its own."""
        times = begin_exchange()
        if times is not None:
            times.depart(call.timeout_s - call.elapsed_s)  # the other thread knows nothing of them
        return GrpcPending(self, request, call, ended)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._pool.closed

    def close(self) -> None:
        """Close every connection; calls in flight end with ``Cancelled``."""
        self._pool.close()


class GrpcPending:
    """A request on its way."""

    def __init__(self, transport: GrpcTransport, request: GrpcRequest, call: Call, ended: Callable[[], None]) -> None:
        self._transport = transport
        self._exchange = _Exchange(transport._pool, call)
        self._reply: Buffer = b""
        self._error: TritonError | None = None
        threading.Thread(target=self._run, args=(request, ended), daemon=True).start()

    def _run(self, request: GrpcRequest, ended: Callable[[], None]) -> None:
        try:
            with self._exchange as exchange:
                begun = exchange.begin(request, self._transport._scheme)
                self._reply = exchange.run(exchange.connection.http2.reply(begun))
        except TritonError as error:
            self._error = error
        finally:
            ended()

    def outcome(self) -> Buffer:
        """Its reply, once it ended; raises ``TritonError``."""
        if self._error is not None:
            raise self._error
        return self._reply

    def cancel(self) -> None:
        """End it, at the server too; does nothing to one that ended."""
        self._exchange.cancel()


class _Exchange:
    """One call over one connection: turns what goes wrong into errors of the client, and ends the connection then.

    Attributes:
        connection: The connection, as long as the call lasts.
    """

    __slots__ = ("_call", "_held", "_is_cancelled", "_is_connected", "_pool", "connection")

    connection: _GrpcConnection

    def __init__(self, pool: Pool[_GrpcConnection], call: Call) -> None:
        self._pool = pool
        self._call = call
        self._held: _GrpcConnection | None = None
        self._is_connected = self._is_cancelled = False

    def __enter__(self) -> Self:
        self._call.remaining_s()
        self.connection = self._held = self._pool.take(self._call)
        return self

    def begin(self, request: GrpcRequest, scheme: str) -> Http2Call:
        """Connect and begin the call."""
        call, connection = self._call, self.connection
        connection.connect(call)
        self._is_connected = True
        if self._is_cancelled:
            raise call.closed_error()
        return begun_call(connection.http2, request, call, scheme, self._pool.authority)

    def run(self, steps: Steps[T]) -> T:
        """Do what the steps ask for until they return."""
        return self.connection.run(steps, self._call)

    def cancel(self) -> None:
        """End it from another thread."""
        self._is_cancelled = True
        self._pool.interrupt(lambda: self._held)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        connection, self._held = self.connection, None
        http2 = connection.http2
        connection.reusable = self._is_connected and http2.reusable and http2.calls == 0
        self._pool.give_back(connection)
        # A ValueError is a damaged reply, or a host name that no resolver would take.
        if isinstance(error, (CallFailed, OSError, ValueError)) and not isinstance(error, TritonError):
            is_closed = self._pool.closed or self._is_cancelled
            raise error_from_call(error, self._call, was_connected=self._is_connected, is_closed=is_closed) from error


def begun_call(http2: Http2Connection, request: GrpcRequest, call: Call, scheme: str, authority: str) -> Http2Call:
    """Begin a call over a connection.

    Args:
        http2: The connection.
        request: The request.
        call: Gives the headers of the caller, the compression and the time that the server is given.
        scheme: ``http`` or ``https``.
        authority: ``host:port`` of the server.

    Raises:
        InvalidInput: A header cannot be sent.
        DeadlineExceeded: The time of the call is over.
    """
    block = request_block(
        request.method,
        scheme=scheme,
        authority=authority,
        timeout_s=call.remaining_s(),
        compression=call.compression,
        headers=call.headers,
    )
    message, is_compressed = compressed_message(request.body, call.compression)
    return http2.begin(block, message, compressed=is_compressed)


def error_from_call(failure: Exception, call: Call, *, was_connected: bool, is_closed: bool) -> TritonError:
    """What a failed call means; the arguments are those of ``error_from_failure``, or the server ended the call."""
    if not isinstance(failure, CallFailed):
        return error_from_failure(failure, call, was_connected=was_connected, is_closed=is_closed)
    if failure.status == "DEADLINE_EXCEEDED" and call.elapsed_s >= call.timeout_s:
        return call.deadline_error()
    return error_from_status(failure.status, failure.text, call)


def check_protocol(spoken: str | None) -> None:
    """Refuse a server that did not choose HTTP/2 with TLS (ALPN)."""
    if spoken != "h2":
        raise ReplyFormatError(f"expected a server that speaks HTTP/2 over TLS, got one that chose {spoken}")


class _GrpcConnection(Connection):
    """One connection, which carries one call after the other."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, name: str) -> None:
        super().__init__(host, port, tls, name)
        self.http2 = Http2Connection()

    def is_stale(self) -> bool:
        """Whether the server closed it, or is about to, while it was idle; what else came is read on the way."""
        if not self.is_readable() or self._socket is None:
            return False
        self._socket.settimeout(0)
        try:
            self.http2.received(self._socket.recv_into(self.http2.wanted()))
        except BlockingIOError:
            return False
        except OSError as error:
            return type(error).__name__ != "SSLWantReadError"  # something of TLS's own came
        return not self.http2.reusable

    def check_tls(self, wrapped: ssl.SSLSocket) -> None:
        """Refuse a server that would not speak HTTP/2."""
        check_protocol(wrapped.selected_alpn_protocol())
