"""One question to a server in one protocol's own form: what is sent, and how the reply is read.

A dialect (``http_dialect``, ``grpc_dialect``) makes exchanges, a transport carries their requests. Neither knows the
other, so that each operation is written once a protocol, for blocking and asynchronous clients alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tritonforge_client.core.call import Call, Compression
from tritonforge_client.core.request import InferReply, InferRequest, StreamPart

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class HttpRequest:
    """A request over HTTP/1.1.

    Attributes:
        method: ``GET`` or ``POST``.
        path: Path and query, escaped.
        headers: Headers that describe the body, beside ``Content-Length``, which the transport writes.
        body: Buffers that are sent one after the other, without joining.
        size_bytes: Size of the body.
        head: The ``host:port`` it was sent to last and all that came before the body, in case it is sent there again.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: tuple[bytes | memoryview, ...] = ()
    size_bytes: int = field(init=False)
    head: tuple[str, bytes] | None = field(init=False, default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.size_bytes = sum([one.nbytes if isinstance(one, memoryview) else len(one) for one in self.body])


@dataclass(slots=True, kw_only=True)
class HttpResponse:
    """A whole reply over HTTP/1.1.

    Attributes:
        status: Status code.
        headers: Headers, names in lower case.
        body: The body, without transfer or content coding; nobody writes to it any more.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | memoryview


@dataclass(slots=True, kw_only=True)
class GrpcRequest:
    """A unary request over gRPC.

    Attributes:
        method: Method of ``inference.GRPCInferenceService``.
        body: The request message on the wire: buffers that are sent one after the other, without joining.
        size_bytes: Size of the message.
    """

    method: str
    body: tuple[bytes | memoryview, ...]
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_bytes = sum([len(one) for one in self.body])


@dataclass(slots=True)
class Exchange(Generic[T]):
    """One request and how its reply is read.

    Attributes:
        request: What the transport of the same protocol sends.
        parse: From that transport's reply to the answer; raises ``TritonError``.
    """

    request: Any
    parse: Callable[[Any, Call], T]


@dataclass(slots=True)
class Undecoded:
    """A reply to an inference request that is no error, as it came.

    Attributes:
        size_bytes: Its size.
        message: The transport's reply.
        parse: Reads it; raises ``TritonError``.
    """

    size_bytes: int
    message: Any
    parse: Callable[[Any, Call], InferReply]


class Dialect(Protocol):
    """What can be asked of a server, in one protocol's form. JSON answers have proto field names.

    Attributes:
        protocol: What it is called in errors.
        cancels: Whether a request that nobody waits for any more ends at the server too.
    """

    protocol: str
    cancels: bool

    def infer(self, request: InferRequest) -> Exchange[InferReply]:
        """Run one request."""
        ...

    def infer_undecoded(self, request: InferRequest, compression: Compression | None) -> Exchange[Undecoded]:
        """Run one request, which may be sent any number of times; it keeps nothing of the caller's arrays."""
        ...

    def infer_stream(self, request: InferRequest) -> Exchange[StreamPart]:
        """Run one request of a decoupled model; the exchange parses each of its replies."""
        ...

    def server_ready(self) -> Exchange[bool]:
        """Whether the server is ready."""
        ...

    def model_ready(self, model: str, version: str) -> Exchange[bool]:
        """Whether a model is ready; an empty version means any."""
        ...

    def server_metadata(self) -> Exchange[Mapping[str, Any]]:
        """Name, version and extensions of the server."""
        ...

    def model_config(self, model: str, version: str) -> Exchange[Mapping[str, Any]]:
        """A model's config."""
        ...

    def model_statistics(self, model: str) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The entries of ``model_stats``; an empty name means all models."""
        ...

    def repository_index(self, *, ready: bool) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The models that the server knows; with ``ready`` those that can be called."""
        ...

    def load_model(self, model: str, config: str, files: Mapping[str, bytes]) -> Exchange[None]:
        """Load a model, or load it again, with another config and files of its own where they are given."""
        ...

    def unload_model(self, model: str, *, dependents: bool) -> Exchange[None]:
        """Unload a model; with ``dependents`` also those that an ensemble brought."""
        ...

    def trace_settings(self, model: str, changes: Mapping[str, Sequence[str] | None]) -> Exchange[Mapping[str, Any]]:
        """Trace settings after changes; ``None`` clears a setting, an empty name means the server's own."""
        ...

    def log_settings(self, changes: Mapping[str, bool | int | str]) -> Exchange[Mapping[str, Any]]:
        """Log settings after changes."""
        ...

    def system_shared_memory(self) -> Exchange[Sequence[Mapping[str, Any]]]:
        """The registered regions of system shared memory."""
        ...

    def register_system_shared_memory(self, name: str, key: str, byte_size: int) -> Exchange[None]:
        """Let the server open a region of system shared memory by its key."""
        ...

    def unregister_system_shared_memory(self, name: str) -> Exchange[None]:
        """Let the server close a region of system shared memory."""
        ...

    def register_cuda_shared_memory(self, name: str, handle: bytes, device_id: int, byte_size: int) -> Exchange[None]:
        """Let the server open a region of a GPU's memory by its IPC handle."""
        ...

    def unregister_cuda_shared_memory(self, name: str) -> Exchange[None]:
        """Let the server close a region of a GPU's memory."""
        ...
