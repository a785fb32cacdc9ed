"""Streams: a decoupled model's answers to one request, none or many (``model_transaction_policy.decoupled``)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tritonforge_client.core.call import Call
from tritonforge_client.core.check import check_reply
from tritonforge_client.core.exchange import Exchange
from tritonforge_client.core.request import InferRequest, StreamPart
from tritonforge_client.core.tensor import writable_copy
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
        transport: Carries it.
        exchange: The request; parses each reply.
        call: The call.
        outputs: Names of the requested outputs; none means all.
        options: Options of the call.
    """

    spec: ModelSpec
    transport: Any
    exchange: Exchange[StreamPart]
    call: Call
    outputs: tuple[str, ...]
    options: Options

    def read(self, message: Any) -> tuple[dict[str, NDArray[Any]] | None, bool]:
        """Read one reply.

        Returns:
            The outputs, ``None`` for a reply that only marks the end; and whether it was the last.

        Raises:
            TritonError: The server failed, or the outputs do not fit the spec.
        """
        part = self.exchange.parse(message, self.call)
        if part.is_final and not part.reply.outputs:
            return None, True
        check_reply(self.spec, part.reply, self.outputs, self.call)
        outputs = part.reply.outputs
        if self.options.writable:
            outputs = {name: writable_copy(array) for name, array in outputs.items()}
        return outputs, part.is_final
