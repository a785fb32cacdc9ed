"""HTTP/1.1 over asyncio's own connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import HttpRequest, HttpResponse
from tritonforge_client.core.http11 import SCRATCH_BYTES, reply_reader, request_head
from tritonforge_client.core.http_compression import compressed_request
from tritonforge_client.core.http_dialect import HttpDialect
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.transport.sockets import error_from_failure
from tritonforge_client.transport.sockets_aio import AsyncConnection, AsyncPool

if TYPE_CHECKING:
    import ssl

    from tritonforge_client.core.http2 import Steps


class AsyncHttpTransport:
    """Connections to one server, for one event loop. Redirects are not followed and nothing is sent twice.

    A task that is cancelled closes its connection, so that the server may notice.

    Args:
        host: Host name or address.
        port: Port of the HTTP service.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, where ``host`` is one of its addresses: it is asked for, and certificates are for it.
    """

    dialect = HttpDialect()

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None, name: str | None = None) -> None:
        self._pool = AsyncPool(_HttpConnection, host, port, tls, name)
        self.endpoint = self._pool.endpoint

    async def send(self, request: HttpRequest, call: Call) -> HttpResponse:
        """Send one request and return the whole reply, whatever its status.

        Args:
            request: The request.
            call: Gives the headers of the caller and the deadline.

        Raises:
            InvalidInput: The path or a header cannot be sent.
            DeadlineExceeded: The time of the call is over.
            ConnectionFailed: No connection could be made, it broke, or what came was no reply.
            Cancelled: The transport was closed.
        """
        pool = self._pool
        request = compressed_request(request, call.compression)
        head = request_head(request, pool.authority, call.headers)
        call.remaining_s()
        connection = pool.idle(call) or await pool.connected(call)
        try:
            return await connection.run(connection.exchange(head, request), call.timeout_s - call.elapsed_s)
        except (OSError, ReplyFormatError) as error:
            raise error_from_failure(error, call, was_connected=True, is_closed=pool.closed) from error
        finally:
            pool.give_back(connection)

    async def stream(self, request: HttpRequest, call: Call) -> AsyncIterator[HttpResponse]:
        """Send one request and return its reply: over HTTP there is only one."""
        yield await self.send(request, call)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._pool.closed

    async def close(self) -> None:
        """Close every connection; calls in flight end with ``Cancelled``."""
        await self._pool.close()


class _HttpConnection(AsyncConnection):
    """One connection, which carries one exchange after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, all_open: set[Any], all_idle: dict[Any, None]) -> None:
        super().__init__(loop, all_open, all_idle)
        self._scratch = bytearray(SCRATCH_BYTES)
        self._persists = False

    def exchange(self, head: bytes, request: HttpRequest) -> Steps[HttpResponse]:
        """Send a request and receive its reply."""
        self._persists = False
        yield (head, *request.body)
        received = yield from reply_reader(request.method, self._scratch)
        self._persists = received.reusable
        return received.response

    def is_stale(self) -> bool:
        """Whether the server closed it while it was idle. Nothing else makes an idle connection readable."""
        return self.is_gone() or self.pending_events() != 0

    def has_ended_well(self) -> bool:
        """Whether another exchange may follow."""
        return self._persists

    def idle_room(self) -> memoryview:
        """Where bytes go that come between exchanges."""
        return memoryview(self._scratch)

    def received_idle(self, size: int) -> None:  # noqa: ARG002 - whatever it is
        """Close the connection: nobody asked for it."""
        self.abort()
