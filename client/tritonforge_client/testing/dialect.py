"""A dialect without bytes: requests and answers are the client's own objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

from tritonforge_client.core.call import Call, Compression
from tritonforge_client.core.exchange import Exchange, Undecoded
from tritonforge_client.core.request import InferReply, InferRequest, StreamPart

Operation: TypeAlias = Literal[
    "infer",
    "infer_stream",
    "server_ready",
    "model_ready",
    "server_metadata",
    "model_config",
    "model_statistics",
    "repository_index",
    "load_model",
    "unload_model",
    "trace_settings",
    "log_settings",
    "system_shared_memory",
    "register_system_shared_memory",
    "unregister_system_shared_memory",
    "register_cuda_shared_memory",
    "unregister_cuda_shared_memory",
]
"""What can be asked of a server, by the names of ``Dialect``."""

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of a server beside inference.

    Attributes:
        operation: What was asked.
        arguments: Its arguments, by the names of ``Dialect``.
    """

    operation: Operation
    arguments: Mapping[str, Any] = field(default_factory=dict)


class FakeDialect:
    """Questions and answers as they are; ``Dialect`` describes the methods."""

    protocol = "a fake"
    cancels = True

    def infer(self, request: InferRequest) -> Exchange[InferReply]:
        """Run one request."""
        return Exchange(request, _same)

    def infer_undecoded(self, request: InferRequest, compression: Compression | None) -> Exchange[Undecoded]:  # noqa: ARG002
        """Run one request, which may be sent any number of times; it keeps nothing of the caller's arrays."""
        inputs = tuple(dataclasses.replace(one, data=memoryview(bytes(one.data))) for one in request.inputs)
        return Exchange(dataclasses.replace(request, inputs=inputs), _undecoded)

    def infer_stream(self, request: InferRequest) -> Exchange[StreamPart]:
        """Run one request of a decoupled model; the exchange parses each of its replies."""
        return Exchange(request, _same)

    def server_ready(self) -> Exchange[bool]:
        """Whether the server is ready."""
        return _exchange("server_ready")

    def model_ready(self, model: str, version: str) -> Exchange[bool]:
        """Whether a model is ready; an empty version means any."""
        return _exchange("model_ready", model=model, version=version)

    def server_metadata(self) -> Exchange[Mapping[str, Any]]:
        """Name, version and extensions of the server."""
        return _exchange("server_metadata")

    def model_config(self, model: str, version: str) -> Exchange[Mapping[str, Any]]:
        """A model's config."""
        return _exchange("model_config", model=model, version=version)

    def model_statistics(self, model: str) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The entries of ``model_stats``; an empty name means all models."""
        return _exchange("model_statistics", model=model)

    def repository_index(self, *, ready: bool) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The models that the server knows; with ``ready`` those that can be called."""
        return _exchange("repository_index", ready=ready)

    def load_model(self, model: str, config: str, files: Mapping[str, bytes]) -> Exchange[None]:
        """Load a model, or load it again, with another config and files of its own where they are given."""
        return _exchange("load_model", model=model, config=config, files=files)

    def unload_model(self, model: str, *, dependents: bool) -> Exchange[None]:
        """Unload a model; with ``dependents`` also those that an ensemble brought."""
        return _exchange("unload_model", model=model, dependents=dependents)

    def trace_settings(self, model: str, changes: Mapping[str, Sequence[str] | None]) -> Exchange[Mapping[str, Any]]:
        """Trace settings after changes; ``None`` clears a setting, an empty name means the server's own."""
        return _exchange("trace_settings", model=model, changes=changes)

    def log_settings(self, changes: Mapping[str, bool | int | str]) -> Exchange[Mapping[str, Any]]:
        """Log settings after changes."""
        return _exchange("log_settings", changes=changes)

    def system_shared_memory(self) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The registered regions of system shared memory."""
        return _exchange("system_shared_memory")

    def register_system_shared_memory(self, name: str, key: str, byte_size: int) -> Exchange[None]:
        """Let the server open a region of system shared memory by its key."""
        return _exchange("register_system_shared_memory", name=name, key=key, byte_size=byte_size)

    def unregister_system_shared_memory(self, name: str) -> Exchange[None]:
        """Let the server close a region of system shared memory."""
        return _exchange("unregister_system_shared_memory", name=name)

    def register_cuda_shared_memory(self, name: str, handle: bytes, device_id: int, byte_size: int) -> Exchange[None]:
        """Let the server open a region of a GPU's memory by its IPC handle."""
        return _exchange(
            "register_cuda_shared_memory", name=name, handle=handle, device_id=device_id, byte_size=byte_size
        )

    def unregister_cuda_shared_memory(self, name: str) -> Exchange[None]:
        """Let the server close a region of a GPU's memory."""
        return _exchange("unregister_cuda_shared_memory", name=name)


def _exchange(operation: Operation, **arguments: Any) -> Exchange[Any]:
    return Exchange(Question(operation, arguments), _same)


def _undecoded(reply: InferReply, _: Call) -> Undecoded:
    return Undecoded(sum(array.nbytes for array in reply.outputs.values()), reply, _same)


def _same(reply: Any, _: Call) -> Any:
    return reply
