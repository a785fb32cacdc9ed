"""HTTP/1.1 over plain sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import HttpRequest, HttpResponse
from tritonforge_client.core.http11 import SCRATCH_BYTES, reply_reader, request_head
from tritonforge_client.core.http_compression import compressed_request
from tritonforge_client.core.http_dialect import HttpDialect
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.transport.sockets import Connection, Pool, error_from_failure

if TYPE_CHECKING:
    import ssl


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
        self._pool = Pool(_HttpConnection, host, port, tls, name)
        self.endpoint = self._pool.endpoint

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
        head = request_head(request, self._pool.authority, call.headers)
        call.remaining_s()
        connection = self._pool.take(call)
        is_connected = False
        try:
            connection.connect(call)
            is_connected = True
            return connection.exchange(head, request, call)
        # A ValueError is a damaged reply, or a host name that no resolver would take.
        except (OSError, ValueError) as error:
            raise error_from_failure(error, call, was_connected=is_connected, is_closed=self._pool.closed) from error
        finally:
            self._pool.give_back(connection)

    def stream(self, request: HttpRequest, call: Call) -> Iterator[HttpResponse]:
        """Send one request and return its reply: over HTTP there is only one."""
        yield self.send(request, call)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._pool.closed

    def close(self) -> None:
        """Close every connection; calls in flight end with ``Cancelled``."""
        self._pool.close()


class _HttpConnection(Connection):
    """One connection, which carries one exchange after the other."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, name: str) -> None:
        super().__init__(host, port, tls, name)
        self._scratch = bytearray(SCRATCH_BYTES)

    def is_stale(self) -> bool:
        """Whether the server closed it while it was idle. Nothing else makes an idle connection readable."""
        return self.is_readable()

    def exchange(self, head: bytes, request: HttpRequest, call: Call) -> HttpResponse:
        """Send a request and receive its reply."""
        self.reusable = False
        try:
            self.send_all((head, *request.body), len(head) + request.size_bytes, call)
        except ConnectionError:
            # A server that refuses a request may answer and hang up before it has read all of it.
            with suppress(OSError, ReplyFormatError):
                return self.run(reply_reader(request.method, self._scratch), call).response
            raise
        received = self.run(reply_reader(request.method, self._scratch), call)
        self.reusable = received.reusable
        return received.response
