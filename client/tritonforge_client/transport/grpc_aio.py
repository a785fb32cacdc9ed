"""gRPC through grpcio's asyncio interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.core.grpc_dialect import GrpcDialect
from tritonforge_client.tls import TLS
from tritonforge_client.transport.grpc_common import SERVICE, call_options, channel_to, error_from_rpc_error
from tritonforge_client.transport.target import endpoint_text


class AsyncGrpcTransport:
    """One gRPC channel to one server, for the event loop that runs when it is made.

    Args:
        host: Host name or address.
        port: Port of the gRPC service.
        tls: How TLS is spoken; ``None`` for plain TCP.
        name: Name of the host, where ``host`` is one of its addresses: it is asked for, and certificates are for it.
    """

    def __init__(self, host: str, port: int, *, tls: TLS | None = None, name: str | None = None) -> None:
        self.endpoint = endpoint_text(host, port)
        self.dialect = GrpcDialect()
        authority = endpoint_text(name, port) if name is not None else None
        self._channel = channel_to(grpc.aio, self.endpoint, tls, authority)
        self._methods: dict[str, Any] = {}
        self._closed = False

    async def send(self, request: GrpcRequest, call: Call) -> bytes:
        """Send one message and return the reply's."""
        method = self._methods.get(request.method)
        if method is None:
            # Without serializers gRPC takes and gives bytes.
            method = self._methods[request.method] = self._channel.unary_unary(SERVICE + request.method)
        with _Errors(self, call):
            reply: bytes = await method(request.message, **call_options(call))
            return reply

    async def stream(self, request: GrpcRequest, call: Call) -> AsyncIterator[bytes]:
        """Send one message and return the replies' as they come."""
        method: Any = self._channel.stream_stream(SERVICE + request.method)
        with _Errors(self, call):
            replies = method(iter((request.message,)), **call_options(call))
            try:
                async for reply in replies:
                    yield reply
            finally:
                replies.cancel()  # does nothing to a stream that has ended

    async def close(self) -> None:
        """Close the channel; calls in flight end with ``Cancelled``."""
        self._closed = True
        await self._channel.close()


class _Errors:
    """Turns what grpcio raises into errors of the client. A generator would take thrice the time in every call."""

    __slots__ = ("_call", "_transport")

    def __init__(self, transport: AsyncGrpcTransport, call: Call) -> None:
        self._transport = transport
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, grpc.RpcError):
            raise error_from_rpc_error(error, self._call) from error
        # The channel's end cancels its calls, which is not the cancellation of the caller's task.
        if isinstance(error, (grpc.aio.UsageError, asyncio.CancelledError)) and self._transport._closed:
            raise self._call.closed_error() from error
