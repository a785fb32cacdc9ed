"""What both gRPC transports share: the channel's options and the meaning of a failed call."""

from __future__ import annotations

from typing import Any, Final

import grpc

from tritonforge_client.core.call import Call
from tritonforge_client.core.status import error_from_status
from tritonforge_client.errors import TritonError
from tritonforge_client.tls import TLS

SERVICE: Final = "/inference.GRPCInferenceService/"

CHANNEL_OPTIONS: Final = (
    # Tensors have no common upper size; the server has its own limit.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Without it all clients of a process share one connection to the same server.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that came back is found again within a second, not within gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Retries are the client's own: gRPC's leave out requests above 256 KiB.
    ("grpc.enable_retries", 0),
    # As over HTTP, the environment decides nothing.
    ("grpc.enable_http_proxy", 0),
)


_COMPRESSIONS: Final = {None: None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


def channel_to(aio_or_grpc: Any, endpoint: str, tls: TLS | None, authority: str | None = None) -> Any:
    """Make a channel of ``grpc`` or ``grpc.aio``. Nothing is sent yet.

    Args:
        aio_or_grpc: The module.
        endpoint: Where it goes to.
        tls: How TLS is spoken; ``None`` for plain TCP.
        authority: Who is asked for there, and whose certificate is expected; ``None`` for the endpoint.
    """
    options = CHANNEL_OPTIONS if authority is None else (*CHANNEL_OPTIONS, ("grpc.default_authority", authority))
    if tls is None:
        return aio_or_grpc.insecure_channel(endpoint, options=options)
    credentials = grpc.ssl_channel_credentials(*tls.pem_contents())
    return aio_or_grpc.secure_channel(endpoint, credentials, options=options)


def call_options(call: Call) -> dict[str, Any]:
    """What grpcio is told about a call.

    Raises:
        DeadlineExceeded: Its time is over.
    """
    return {
        "timeout": call.remaining_s(),
        "metadata": tuple(call.headers.items()) or None,
        "compression": _COMPRESSIONS[call.compression],
    }


def error_from_rpc_error(error: Any, call: Call) -> TritonError:
    """What a failed call means.

    Args:
        error: A ``grpc.RpcError`` that is also a call, as grpcio raises them.
        call: The call that failed.
    """
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and call.elapsed_s >= call.timeout_s:
        return call.deadline_error()
    return error_from_status(error.code().name, error.details() or "", call)
