"""What can be asked of a server, over gRPC: inference in our own encoding, the rest in tritonclient's messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tritonforge_client.core.call import Call, Compression
from tritonforge_client.core.exchange import Exchange, GrpcRequest, Undecoded
from tritonforge_client.core.grpc_codec import buffers_from_request, reply_from_bytes, stream_reply_from_bytes
from tritonforge_client.core.proto import full_json_from_message, messages
from tritonforge_client.core.request import InferReply, InferRequest, ReplyFormatError, StreamPart
from tritonforge_client.core.status import error_from_status
from tritonforge_client.core.steps import Buffer
from tritonforge_client.errors import ServerError

T = TypeVar("T")


class GrpcDialect:
    """Questions and answers over gRPC; ``Dialect`` describes the methods."""

    protocol = "gRPC"
    cancels = True

    def infer(self, request: InferRequest) -> Exchange[InferReply]:
        """Run one request."""
        return Exchange(GrpcRequest(method="ModelInfer", body=buffers_from_request(request)), _infer_reply)

    def infer_undecoded(self, request: InferRequest, compression: Compression | None) -> Exchange[Undecoded]:  # noqa: ARG002
        """Run one request, which may be sent any number of times; it keeps nothing of the caller's arrays."""
        # The transport compresses messages as they are sent.
        whole = b"".join(buffers_from_request(request))
        return Exchange(GrpcRequest(method="ModelInfer", body=(whole,)), _undecoded)

    def infer_stream(self, request: InferRequest) -> Exchange[StreamPart]:
        """Run one request of a decoupled model; the exchange parses each of its replies."""
        return Exchange(GrpcRequest(method="ModelStreamInfer", body=buffers_from_request(request)), _stream_part)

    def server_ready(self) -> Exchange[bool]:
        """Whether the server is ready."""
        return _exchange("ServerReady", {}, lambda reply: bool(reply.ready))

    def model_ready(self, model: str, version: str) -> Exchange[bool]:
        """Whether a model is ready; an empty version means any."""
        return _exchange("ModelReady", {"name": model, "version": version}, lambda reply: bool(reply.ready))

    def server_metadata(self) -> Exchange[Mapping[str, Any]]:
        """Name, version and extensions of the server."""
        return _exchange("ServerMetadata", {}, _json)

    def model_config(self, model: str, version: str) -> Exchange[Mapping[str, Any]]:
        """A model's config."""
        fields = {"name": model, "version": version}
        return _exchange("ModelConfig", fields, lambda reply: full_json_from_message(reply.config))

    def model_statistics(self, model: str) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The entries of ``model_stats``; an empty name means all models."""
        return _exchange("ModelStatistics", {"name": model}, lambda reply: list(map(_json, reply.model_stats)))

    def repository_index(self, *, ready: bool) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The models that the server knows; with ``ready`` those that can be called."""
        return _exchange("RepositoryIndex", {"ready": ready}, lambda reply: list(map(_json, reply.models)))

    def load_model(self, model: str, config: str, files: Mapping[str, bytes]) -> Exchange[None]:
        """Load a model, or load it again, with another config and files of its own where they are given."""
        parameters: dict[str, Any] = {"config": {"string_param": config}} if config else {}
        parameters |= {f"file:{path}": {"bytes_param": content} for path, content in files.items()}
        return _exchange("RepositoryModelLoad", {"model_name": model, "parameters": parameters}, _nothing)

    def unload_model(self, model: str, *, dependents: bool) -> Exchange[None]:
        """Unload a model; with ``dependents`` also those that an ensemble brought."""
        parameters = {"unload_dependents": {"bool_param": dependents}}
        return _exchange("RepositoryModelUnload", {"model_name": model, "parameters": parameters}, _nothing)

    def trace_settings(self, model: str, changes: Mapping[str, Sequence[str] | None]) -> Exchange[Mapping[str, Any]]:
        """Trace settings after changes; ``None`` clears a setting, an empty name means the server's own."""
        settings = {name: {"value": list(values or ())} for name, values in changes.items()}
        return _exchange("TraceSetting", {"settings": settings, "model_name": model}, _trace_settings)

    def log_settings(self, changes: Mapping[str, bool | int | str]) -> Exchange[Mapping[str, Any]]:
        """Log settings after changes."""
        settings = {name: {_log_field(value): value} for name, value in changes.items()}
        return _exchange("LogSettings", {"settings": settings}, _log_settings)

    def system_shared_memory(self) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The registered regions of system shared memory."""
        return _exchange("SystemSharedMemoryStatus", {}, lambda reply: list(map(_json, reply.regions.values())))

    def register_system_shared_memory(self, name: str, key: str, byte_size: int) -> Exchange[None]:
        """Let the server open a region of system shared memory by its key."""
        fields = {"name": name, "key": key, "offset": 0, "byte_size": byte_size}
        return _exchange("SystemSharedMemoryRegister", fields, _nothing)

    def unregister_system_shared_memory(self, name: str) -> Exchange[None]:
        """Let the server close a region of system shared memory."""
        return _exchange("SystemSharedMemoryUnregister", {"name": name}, _nothing)

    def register_cuda_shared_memory(self, name: str, handle: bytes, device_id: int, byte_size: int) -> Exchange[None]:
        """Let the server open a region of a GPU's memory by its IPC handle."""
        fields = {"name": name, "raw_handle": handle, "device_id": device_id, "byte_size": byte_size}
        return _exchange("CudaSharedMemoryRegister", fields, _nothing)

    def unregister_cuda_shared_memory(self, name: str) -> Exchange[None]:
        """Let the server close a region of a GPU's memory."""
        return _exchange("CudaSharedMemoryUnregister", {"name": name}, _nothing)


def _infer_reply(message: Buffer, call: Call) -> InferReply:
    try:
        return reply_from_bytes(message)
    except ReplyFormatError as error:
        text = f"expected a ModelInferResponse, got a reply that cannot be read: {error}"
        raise ServerError(text, **call.error_context()) from error


def _undecoded(message: Buffer, _: Call) -> Undecoded:
    return Undecoded(len(message), message, _infer_reply)


def _stream_part(message: Buffer, call: Call) -> StreamPart:
    try:
        error_message, reply = stream_reply_from_bytes(message)
    except ReplyFormatError as error:
        text = f"expected a ModelStreamInferResponse, got a reply that cannot be read: {error}"
        raise ServerError(text, **call.error_context()) from error
    if error_message:
        # The header triton_grpc_error would bring a status, but it can crash the server (seen with 2.51).
        raise error_from_status("", error_message, call)
    return StreamPart(reply, is_final=reply.parameters.get("triton_final_response") is True)


def _exchange(method: str, fields: Mapping[str, Any], read: Callable[[Any], T]) -> Exchange[T]:
    request = getattr(messages(), f"{method}Request")(**fields)
    response = getattr(messages(), f"{method}Response")

    def parse(message: Buffer, call: Call) -> T:
        from google.protobuf.message import DecodeError

        try:
            return read(response.FromString(bytes(message)))
        except DecodeError as error:
            text = f"expected a {method}Response, got a reply that cannot be read: {error}"
            raise ServerError(text, **call.error_context()) from error

    return Exchange(GrpcRequest(method=method, body=(request.SerializeToString(),)), parse)


def _json(message: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


def _trace_settings(reply: Any) -> Mapping[str, Any]:
    """Settings as HTTP gives them: a list where there can be several values, else the one."""
    return {name: list(setting.value) for name, setting in reply.settings.items()}


def _log_settings(reply: Any) -> Mapping[str, Any]:
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in reply.settings.items()}


def _log_field(value: bool | int | str) -> str:
    if isinstance(value, bool):
        return "bool_param"
    return "uint32_param" if isinstance(value, int) else "string_param"


def _nothing(_: Any) -> None:
    return None
