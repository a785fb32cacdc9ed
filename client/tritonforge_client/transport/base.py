"""What the client asks of a transport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tritonforge_client.core.call import Call
from tritonforge_client.core.request import InferReply, InferRequest


class Transport(Protocol):
    """One server over one protocol.

    Every method keeps to the deadline of its call and raises nothing but ``TritonError``. Methods may be called from
    several threads at once.
    """

    @property
    def endpoint(self) -> str:
        """``host:port`` of the server."""
        ...

    def infer(self, request: InferRequest, call: Call) -> InferReply:
        """Run one request."""
        ...

    def server_ready(self, call: Call) -> bool:
        """Return whether the server is ready."""
        ...

    def model_ready(self, model: str, version: str, call: Call) -> bool:
        """Return whether a model is ready; an empty version means any."""
        ...

    def model_config(self, model: str, version: str, call: Call) -> Mapping[str, Any]:
        """Return a model's config as JSON with proto field names."""
        ...

    def model_statistics(self, model: str, call: Call) -> Sequence[Mapping[str, Any]]:
        """Return the entries of ``model_stats``; an empty name means all models."""
        ...

    def load_model(self, model: str, call: Call) -> None:
        """Load a model, or load it again."""
        ...

    def unload_model(self, model: str, call: Call) -> None:
        """Unload a model."""
        ...

    def close(self) -> None:
        """Close every connection; calls in flight end with an error."""
        ...
