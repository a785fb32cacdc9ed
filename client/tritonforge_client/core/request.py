"""Requests and replies between the checks and the codecs.

What is made for every call is not frozen, although nothing changes it: a frozen dataclass takes thrice the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from tritonforge_client.cuda_memory import GpuArray

Parameter: TypeAlias = bool | int | float | str
"""Value of a request or reply parameter (``InferParameter``)."""


class SupportsDLPack(Protocol):
    """A tensor of another library, such as PyTorch, CuPy or JAX, on the host or on a GPU."""

    def __dlpack__(self, *, stream: Any = None) -> Any:
        """Give it as a DLPack capsule."""
        ...

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where it lies."""
        ...


Inputs: TypeAlias = Mapping[str, ArrayLike | SupportsDLPack | None]
"""Arrays by tensor name; ``None`` for an optional input is the same as leaving it out."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a shared-memory region that the server has registered.

    Attributes:
        name: Name of the region.
        byte_size: Size of the part.
        offset: Where it begins.
    """

    name: str
    byte_size: int
    offset: int = 0

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Parameters of a tensor that lies there."""
        place: dict[str, Parameter] = {"shared_memory_region": self.name, "shared_memory_byte_size": self.byte_size}
        return {**place, "shared_memory_offset": self.offset} if self.offset > 0 else place


@dataclass(slots=True)
class InputTensor:
    """One input, ready to be sent.

    Attributes:
        name: Tensor name.
        datatype: Wire name of its type.
        shape: Full shape, batch dimension included.
        data: Its elements, row-major and little-endian; a view of the caller's array where that was possible.
        region: Where the server finds the elements; then they are not sent.
        gpu: Its elements where they lie on a GPU; then ``data`` is empty, and only a region can bring them.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: memoryview
    region: Region | None = None
    gpu: GpuArray | None = None

    @property
    def size_bytes(self) -> int:
        """Size of its elements."""
        return len(self.data) if self.gpu is None else self.gpu.nbytes


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output that is asked for.

    Attributes:
        name: Tensor name.
        class_count: Ask for so many classes with the largest values, as texts (classification extension); 0 for the
            tensor itself.
        region: Where the server is to write the elements; then they are not sent.
    """

    name: str
    class_count: int = 0
    region: Region | None = None


@dataclass(slots=True, kw_only=True)
class InferRequest:
    """One inference request.

    Attributes:
        model: Model name.
        version: Model version; empty leaves the choice to the server.
        request_id: Id that the server echoes; empty for none.
        inputs: Inputs in the order of sending.
        outputs: Outputs to return; none means all.
        parameters: Request parameters, for example ``timeout`` in microseconds.
    """

    model: str
    inputs: tuple[InputTensor, ...]
    version: str = ""
    request_id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Size of the tensors that go over the wire."""
        return sum(len(tensor.data) for tensor in self.inputs if tensor.region is None)


@dataclass(frozen=True, slots=True)
class PlacedTensor:
    """An output that came without its elements: the server wrote them to the region that the request named.

    Attributes:
        datatype: Wire name of its type.
        shape: Full shape.
    """

    datatype: str
    shape: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class InferReply:
    """One decoded reply.

    Attributes:
        model: Model name.
        version: Version that answered.
        request_id: Id of the request, empty if it had none.
        outputs: Arrays by tensor name: read-only views of the reply, except BYTES, which are object arrays of bytes.
        placed: By tensor name, what the server wrote to a shared-memory region instead.
        parameters: Parameters of the reply.
    """

    model: str
    version: str
    request_id: str
    outputs: dict[str, NDArray[Any]]
    placed: Mapping[str, PlacedTensor] = field(default_factory=dict)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


class ReplyHead(NamedTuple):
    """What a reply says beside its outputs; replies to equal requests may share one."""

    model: str
    version: str
    request_id: str
    parameters: Mapping[str, Parameter]

    def reply(self, outputs: dict[str, NDArray[Any]], placed: dict[str, PlacedTensor]) -> InferReply:
        """The reply with this head and these outputs; its parameters are its own."""
        return InferReply(
            model=self.model,
            version=self.version,
            request_id=self.request_id,
            outputs=outputs,
            placed=placed,
            parameters=dict(self.parameters),
        )


@dataclass(frozen=True, slots=True)
class StreamPart:
    """One of the replies to a request of a decoupled model.

    Attributes:
        reply: The reply; one without outputs may only mark the end.
        is_final: Whether no other follows.
    """

    reply: InferReply
    is_final: bool


class ReplyFormatError(ValueError):
    """The bytes of a reply do not follow the protocol."""
