"""gRPC through grpcio.

Under gevent call ``grpc.experimental.gevent.init_gevent()`` before the first client, or a waiting call blocks every
greenlet. Each call then waits in a thread of gevent's pool, which has ten; more calls at once need a larger
``gevent.get_hub().threadpool.maxsize``, or their answers wait for older calls. HTTP needs nothing but
``monkey.patch_all()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import GrpcRequest
from tritonforge_client.core.grpc_dialect import GrpcDialect
from tritonforge_client.errors import TritonError
from tritonforge_client.tls import TLS
from tritonforge_client.transport.grpc_common import SERVICE, call_options, channel_to, error_from_rpc_error
from tritonforge_client.transport.target import endpoint_text


class GrpcTransport:
    """One gRPC channel to one server.

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
        self._channel = channel_to(grpc, self.endpoint, tls, authority)
        self._methods: dict[str, Any] = {}
        self._closed = False

    def send(self, request: GrpcRequest, call: Call) -> bytes:
        """Send one message and return the reply's."""
        try:
            reply: bytes = self._method(request)(request.message, **call_options(call))
        except grpc.RpcError as error:
            raise self.error_of(error, call) from error
        except ValueError as error:
            raise call.closed_error() from error  # grpcio says so when another thread closed the channel
        return reply

    def begin(self, request: GrpcRequest, call: Call, ended: Callable[[], None]) -> GrpcPending:
        """Send one message without waiting for the reply; ``ended`` is then called from any thread."""
        try:
            future = self._method(request).future(request.message, **call_options(call))
        except ValueError as error:
            raise call.closed_error() from error  # grpcio says so when another thread closed the channel
        future.add_done_callback(lambda _: ended())
        return GrpcPending(self, future, call)

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
            raise self.error_of(error, call) from error
        finally:
            replies.cancel()  # does nothing to a stream that has ended

    def close(self) -> None:
        """Close the channel; calls in flight end with ``Cancelled``."""
        self._closed = True
        self._channel.close()

    def error_of(self, error: Any, call: Call) -> TritonError:
        """What a failed call means, also where it ended because the channel was closed."""
        return call.closed_error() if self._closed else error_from_rpc_error(error, call)

    def _method(self, request: GrpcRequest) -> Any:
        method = self._methods.get(request.method)
        if method is None:
            # Without serializers gRPC takes and gives bytes.
            method = self._methods[request.method] = self._channel.unary_unary(SERVICE + request.method)
        return method


@dataclass(frozen=True, slots=True)
class GrpcPending:
    """A request that was sent."""

    transport: GrpcTransport
    future: Any
    call: Call

    def outcome(self) -> bytes:
        """Its reply, once it ended; raises ``TritonError``."""
        try:
            reply: bytes = self.future.result()
        except grpc.RpcError as error:
            raise self.transport.error_of(error, self.call) from error
        except grpc.FutureCancelledError as error:
            raise self.call.closed_error() from error
        return reply

    def cancel(self) -> None:
        """End it, at the server too; does nothing to one that ended."""
        self.future.cancel()
