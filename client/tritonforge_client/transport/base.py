"""What the clients ask of a transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from tritonforge_client.core.call import Call
from tritonforge_client.core.exchange import Dialect


class Transport(Protocol):
    """One server over one protocol, for blocking clients.

    Every method keeps to the deadline of its call and raises nothing but ``TritonError``. Methods may be called from
    several threads at once.
    """

    @property
    def endpoint(self) -> str:
        """``host:port`` of the server."""
        ...

    @property
    def dialect(self) -> Dialect:
        """What can be asked; its requests are those that ``send`` takes."""
        ...

    def send(self, request: Any, call: Call) -> Any:
        """Send one request of the dialect and return the whole reply, for the exchange to parse."""
        ...

    def stream(self, request: Any, call: Call) -> Iterator[Any]:
        """Send one request and return its replies as they come; closing the iterator ends the request."""
        ...

    def close(self) -> None:
        """Close every connection; calls in flight end with an error."""
        ...


class AsyncTransport(Protocol):
    """One server over one protocol, for one event loop; otherwise as ``Transport``."""

    @property
    def endpoint(self) -> str:
        """``host:port`` of the server."""
        ...

    @property
    def dialect(self) -> Dialect:
        """What can be asked; its requests are those that ``send`` takes."""
        ...

    async def send(self, request: Any, call: Call) -> Any:
        """Send one request of the dialect and return the whole reply, for the exchange to parse."""
        ...

    def stream(self, request: Any, call: Call) -> AsyncIterator[Any]:
        """Send one request and return its replies as they come; closing the iterator ends the request."""
        ...

    async def close(self) -> None:
        """Close every connection; calls in flight end with an error."""
        ...
