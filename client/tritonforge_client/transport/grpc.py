"""gRPC through grpcio: inference in our own encoding, everything rare in tritonclient's messages.

Under gevent call ``grpc.experimental.gevent.init_gevent()`` before the first client, or a waiting call blocks every
greenlet. HTTP needs nothing but ``monkey.patch_all()``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import grpc

from tritonforge_client.core.call import Call
from tritonforge_client.core.grpc_codec import bytes_from_request, reply_from_bytes
from tritonforge_client.core.proto import service_pb2
from tritonforge_client.core.request import InferReply, InferRequest, ReplyFormatError
from tritonforge_client.core.status import error_from_status
from tritonforge_client.errors import Cancelled, ServerError, TritonError
from tritonforge_client.transport.target import endpoint_text

_SERVICE: Final = "/inference.GRPCInferenceService/"

_CHANNEL_OPTIONS: Final = (
    # Tensors have no common upper size; the server has its own limit.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Without it all clients of a process share one connection to the same server.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that came back is found again within a second, not within gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # As over HTTP, the environment decides nothing.
    ("grpc.enable_http_proxy", 0),
)


class GrpcTransport:
    """One gRPC channel to one server.

    Args:
        host: Host name or address.
        port: Port of the gRPC service.
    """

    def __init__(self, host: str, port: int) -> None:
        self._endpoint = endpoint_text(host, port)
        self._channel = grpc.insecure_channel(self._endpoint, options=_CHANNEL_OPTIONS)
        # Without serializers gRPC takes and gives bytes.
        self._model_infer = self._channel.unary_unary(_SERVICE + "ModelInfer")

    @property
    def endpoint(self) -> str:
        """``host:port`` of the server."""
        return self._endpoint

    def infer(self, request: InferRequest, call: Call) -> InferReply:
        """Run one request."""
        reply = self._send(self._model_infer, bytes_from_request(request), call)
        try:
            return reply_from_bytes(reply)
        except ReplyFormatError as error:
            text = f"expected a ModelInferResponse, got a reply that cannot be read: {error}"
            raise ServerError(text, **call.error_context()) from error

    def server_ready(self, call: Call) -> bool:
        """Return whether the server is ready."""
        return bool(self._admin("ServerReady", {}, call).ready)

    def model_ready(self, model: str, version: str, call: Call) -> bool:
        """Return whether a model is ready; an empty version means any."""
        return bool(self._admin("ModelReady", {"name": model, "version": version}, call).ready)

    def model_config(self, model: str, version: str, call: Call) -> Mapping[str, Any]:
        """Return a model's config as JSON with proto field names."""
        return _json_from_message(self._admin("ModelConfig", {"name": model, "version": version}, call).config)

    def model_statistics(self, model: str, call: Call) -> Sequence[Mapping[str, Any]]:
        """Return the entries of ``model_stats``; an empty name means all models."""
        reply = self._admin("ModelStatistics", {"name": model}, call)
        return [_json_from_message(entry) for entry in reply.model_stats]

    def load_model(self, model: str, call: Call) -> None:
        """Load a model, or load it again."""
        self._admin("RepositoryModelLoad", {"model_name": model}, call)

    def unload_model(self, model: str, call: Call) -> None:
        """Unload a model."""
        self._admin("RepositoryModelUnload", {"model_name": model}, call)

    def close(self) -> None:
        """Close the channel; calls in flight end with ``Cancelled``."""
        self._channel.close()

    def _admin(self, method: str, fields: Mapping[str, str], call: Call) -> Any:
        # Not at the top: importing tritonclient takes longer than a first inference.
        request = getattr(service_pb2(), f"{method}Request")(**fields)
        send = self._channel.unary_unary(
            _SERVICE + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(service_pb2(), f"{method}Response").FromString,
        )
        return self._send(send, request, call)

    def _send(self, send: Callable[..., Any], request: object, call: Call) -> Any:
        metadata = tuple(call.headers.items()) or None
        try:
            return send(request, timeout=call.remaining_s(), metadata=metadata)
        except grpc.RpcError as error:
            _raise_from_rpc_error(error, call)
        except ValueError as error:
            # What grpcio raises when the channel was closed by another thread.
            raise Cancelled("the client was closed during the call", **call.error_context()) from error


def _raise_from_rpc_error(error: Any, call: Call) -> NoReturn:
    failure: TritonError
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and call.elapsed_s >= call.timeout_s:
        failure = call.deadline_error()
    else:
        failure = error_from_status(error.code().name, error.details() or "", call)
    raise failure from error


def _json_from_message(message: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)
