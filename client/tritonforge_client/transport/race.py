"""Requests that race each other over transports whose requests can be cancelled."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any, Protocol

from tritonforge_client.core.effects import Race, Send
from tritonforge_client.errors import TritonError


class Pending(Protocol):
    """A request that was sent."""

    def outcome(self) -> Any:
        """Its reply, once it ended; raises ``TritonError``."""
        ...

    def cancel(self) -> None:
        """End it, at the server too; does nothing to one that ended."""
        ...


def raced(race: Race) -> list[Any]:
    """Run a race in this thread.

    Args:
        race: What is sent; its transports have ``begin(request, call, ended)``, which returns a ``Pending`` and calls
            ``ended`` from any thread once it ended.

    Returns:
        How each request ended, as ``Race`` says.
    """
    ended: SimpleQueue[int] = SimpleQueue()
    outcomes: list[Any] = []
    running: dict[int, Pending] = {}

    def begin(send: Send) -> None:
        place = len(outcomes)
        outcomes.append(None)
        try:
            running[place] = send.transport.begin(send.request, send.call, lambda: ended.put(place))
        except TritonError as error:
            outcomes[place] = error

    begin(race.first)
    delay_s: float | None = race.delay_s
    try:
        while running:
            try:
                place = ended.get(timeout=delay_s)
            except Empty:
                send = race.another()
                delay_s = race.delay_s if send is not None else None
                if send is not None:
                    begin(send)
                continue
            try:
                outcomes[place] = running.pop(place).outcome()
                break
            except TritonError as error:
                outcomes[place] = error
    finally:
        for one in running.values():
            one.cancel()
    return outcomes
