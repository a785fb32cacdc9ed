"""gRPC through grpcio.

Under gevent call ``grpc.experimental.gevent.init_gevent()`` before the first client, or a waiting call blocks every
greenlet. HTTP needs nothing but ``monkey.patch_all()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.core.grpc_dialect import GrpcDialect
from tritonforge_client.tls import TLS
from tritonforge_client.transport.grpc_common import SERVICE, call_options, channel_to, error_from_rpc_error
from tritonforge_client.transport.target import endpoint_text


class GrpcTransport:
    """One gRPC channel to one server.

    Args:
        host: Host name or address.
        port: Port of the gRPC service.
        tls: How TLS is spoken; ``None`` for plain TCP.
    """

    def __init__(self, host: str, port: int, *, tls: TLS | None = None) -> None:
        self.endpoint = endpoint_text(host, port)
        self.dialect = GrpcDialect()
        self._channel = channel_to(grpc, self.endpoint, tls)
        self._methods: dict[str, Any] = {}
        self._closed = False

    def send(self, request: GrpcRequest, call: Call) -> bytes:
        """Send one message and return the reply's."""
        method = self._methods.get(request.method)
        if method is None:
            # Without serializers gRPC takes and gives bytes.
            method = self._methods[request.method] = self._channel.unary_unary(SERVICE + request.method)
        try:
            reply: bytes = method(request.message, **call_options(call))
        except grpc.RpcError as error:
            raise call.closed_error() if self._closed else error_from_rpc_error(error, call) from error
        except ValueError as error:
            raise call.closed_error() from error  # grpcio says so when another thread closed the channel
        return reply

    def stream(self, request: GrpcRequest, call: Call) -> Iterator[bytes]:
        """Send one message and return the replies' as they come."""
        method = self._channel.stream_stream(SERVICE + request.method)
        try:
            replies = method(iter((request.message,)), **call_options(call))
        except ValueError as error:
            raise call.closed_error() from error  # grpcio says so when another thread closed the channel
        try:
            yield from replies
        except grpc.RpcError as error:
            raise call.closed_error() if self._closed else error_from_rpc_error(error, call) from error
        finally:
            replies.cancel()  # does nothing to a stream that has ended

    def close(self) -> None:
        """Close the channel; calls in flight end with ``Cancelled``."""
        self._closed = True
        self._channel.close()
