"""An answer with what is known of it beside its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tritonforge_client.core.request import Parameter

_T_co = TypeVar("_T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Generic[_T_co]):
    """An answer and where it came from.

    Attributes:
        value: The outputs.
        model_version: Version that answered.
        request_id: Id of the request; empty if it had none.
        endpoint: ``host:port`` that answered.
        attempts: How often the request was sent.
        elapsed_s: Seconds from the call to the decoded reply.
        parameters: Parameters of the reply, as the model set them.
    """

    value: _T_co
    model_version: str
    request_id: str
    endpoint: str
    elapsed_s: float
    attempts: int = 1
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
