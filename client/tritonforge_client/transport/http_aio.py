"""HTTP/1.1 over asyncio's own connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import HttpRequest, HttpResponse
from tritonforge_client.core.http11 import SCRATCH_BYTES, ReceivedReply, ReplyReader, reply_reader, request_head
from tritonforge_client.core.http_compression import compressed_request
from tritonforge_client.core.http_dialect import HttpDialect
from tritonforge_client.core.request import ReplyFormatError
from tritonforge_client.transport.sockets import error_from_failure
from tritonforge_client.transport.sockets_aio import CLOSED_BY_SERVER, AsyncConnection, AsyncPool

if TYPE_CHECKING:
    import ssl


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
        connection = pool.ready(call) or await pool.connected(call)
        outcome = connection.exchange(head, request, call.timeout_s - call.elapsed_s)
        pool.update(connection)
        try:
            return await outcome
        except (OSError, ReplyFormatError) as error:
            raise error_from_failure(error, call, was_connected=True, is_closed=pool.closed) from error
        finally:
            connection.leave()
            pool.update(connection)

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
    """One connection, which carries one exchange after the other.

    An exchange takes one future and one timer; nothing of it is a task of its own, and no step of it has a timeout of
    its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, all_open: set[Any], all_ready: dict[Any, None]) -> None:
        super().__init__(loop, all_open, all_ready)
        self._scratch = bytearray(SCRATCH_BYTES)
        self._wanted = memoryview(self._scratch)
        self._is_reusable = True
        self._reader: ReplyReader | None = None
        self._outcome: asyncio.Future[HttpResponse] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def exchange(self, head: bytes, request: HttpRequest, left_s: float) -> asyncio.Future[HttpResponse]:
        """Send a request; the future gets its reply, or why there is none."""
        is_open, self._is_reusable = self.has_room(), False
        outcome = self._outcome = self._loop.create_future()
        self._timer = self._loop.call_later(left_s, self._settle, TimeoutError("timed out"))
        if is_open:
            self._reader = reply_reader(request.method, self._scratch)
            self.send((head, *request.body))
            self._advance(self._reader, None)
        else:
            self._settle(ConnectionResetError(CLOSED_BY_SERVER))
        return outcome

    def leave(self) -> None:
        """Close the connection if its exchange is not over: nobody waits for it any more."""
        if not self.is_idle():
            self.abort()

    def has_room(self, *, alone: bool = False) -> bool:  # noqa: ARG002 - it carries nobody else's anyway
        """Whether it is new, or its last exchange came to a proper end."""
        return self._is_reusable and not self.is_gone()

    def is_idle(self) -> bool:
        """Whether no exchange is on its way."""
        return self._reader is None

    def is_stale(self) -> bool:
        """Whether the server closed it while it was idle. Nothing else makes an idle connection readable."""
        return self.pending_events() != 0

    def wanted(self) -> memoryview:
        """Where the next bytes go."""
        return self._wanted

    def received(self, size: int) -> None:
        """Read so many bytes."""
        if self._reader is not None:
            self._advance(self._reader, size)
        else:
            self.abort()  # the end, or what nobody asked for

    def fail(self, error: Exception) -> None:
        """End the exchange, and take no other."""
        self._is_reusable = False
        self._settle(error)

    def _advance(self, reader: ReplyReader, size: int | None) -> None:
        """Let the reader go on, after so many bytes came."""
        try:
            self._wanted = next(reader) if size is None else reader.send(size)
        except StopIteration as stop:
            self._settle(stop.value)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is how the exchange ends
            self._settle(error)

    def _settle(self, found: ReceivedReply | Exception) -> None:
        """End the exchange."""
        if self._timer is not None:
            self._timer.cancel()
        outcome, self._outcome, self._timer, self._reader = self._outcome, None, None, None
        self._wanted = memoryview(self._scratch)
        if not isinstance(found, Exception):
            # A server may refuse a request before it has read all of it. asyncio's TLS of Python 3.10 has no answer to
            # the last question once the connection is lost.
            self._is_reusable = found.reusable and self.is_all_sent()
        self.drop_unsent()
        if outcome is None or outcome.done():
            return
        if isinstance(found, Exception):
            outcome.set_exception(found)
        else:
            outcome.set_result(found.response)
