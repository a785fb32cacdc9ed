"""Streams: a decoupled model's answers to one request, none or many (``model_transaction_policy.decoupled``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tritonforge_client.core.call import Call
from tritonforge_client.core.caller import Ask
from tritonforge_client.core.check import check_reply
from tritonforge_client.core.effects import Steps
from tritonforge_client.core.request import InferRequest, StreamPart
from tritonforge_client.core.tensor import writable_copies
from tritonforge_client.options import Options
from tritonforge_client.spec import ModelSpec


def with_final_marker(request: InferRequest) -> InferRequest:
    """The same request, whose last reply is marked even where that reply is empty."""
    return dataclasses.replace(request, parameters={**request.parameters, "triton_enable_empty_final_response": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One request and how its replies are read.

    Attributes:
        spec: What the model gives.
        ask: Makes the request.
        prepared: What is to be done before it is opened.
        opened: Gives a transport and the attempt, for as long as the stream lasts.
        outputs: Names of the requested outputs; none means all.
        options: Options of the call.
    """

    spec: ModelSpec
    ask: Ask[StreamPart]
    prepared: Callable[[], Steps[None]]
    opened: Callable[[], AbstractContextManager[tuple[Any, Call]]]
    outputs: tuple[str, ...]
    options: Options

    def read(self, part: StreamPart, call: Call) -> dict[str, NDArray[Any]] | None:
        """Read one reply.

        Returns:
            The outputs; ``None`` for a reply that only marks the end.

        Raises:
            SpecDrift: The outputs do not fit the spec.
        """
        if part.is_final and not part.reply.outputs:
            return None
        check_reply(self.spec, part.reply, self.outputs, call)
        outputs = part.reply.outputs
        return writable_copies(outputs) if self.options.writable else outputs
