"""Requests and replies between the checks and the codecs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import ArrayLike, NDArray

Parameter: TypeAlias = bool | int | float | str
"""Value of a request or reply parameter (``InferParameter``)."""

Inputs: TypeAlias = Mapping[str, ArrayLike | None]
"""Arrays by tensor name; ``None`` for an optional input is the same as leaving it out."""


@dataclass(frozen=True, slots=True)
class InputTensor:
    """One input, ready to be sent.

    Attributes:
        name: Tensor name.
        datatype: Wire name of its type.
        shape: Full shape, batch dimension included.
        data: Its elements, row-major and little-endian; a view of the caller's array where that was possible.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """One inference request.

    Attributes:
        model: Model name.
        version: Model version; empty leaves the choice to the server.
        request_id: Id that the server echoes; empty for none.
        inputs: Inputs in the order of sending.
        outputs: Names of the outputs to return; none means all.
        parameters: Request parameters, for example ``timeout`` in microseconds.
    """

    model: str
    inputs: tuple[InputTensor, ...]
    version: str = ""
    request_id: str = ""
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferReply:
    """One decoded reply.

    Attributes:
        model: Model name.
        version: Version that answered.
        request_id: Id of the request, empty if it had none.
        outputs: Arrays by tensor name: read-only views of the reply, except BYTES, which are object arrays of bytes.
        parameters: Parameters of the reply.
    """

    model: str
    version: str
    request_id: str
    outputs: dict[str, NDArray[Any]]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


class ReplyFormatError(ValueError):
    """The bytes of a reply do not follow the protocol."""
