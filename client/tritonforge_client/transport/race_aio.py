"""Requests that race each other in an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from tritonforge_client.core.effects import Race, Send
from tritonforge_client.errors import TritonError


async def raced_async(race: Race) -> list[Any]:
    """Run a race in the running event loop.

    Args:
        race: What is sent.

    Returns:
        How each request ended, as ``Race`` says.
    """
    tasks: list[asyncio.Task[Any]] = []

    def begin(send: Send) -> None:
        tasks.append(asyncio.ensure_future(send.transport.send(send.request, send.call)))

    begin(race.first)
    delay_s: float | None = race.delay_s
    try:
        while not any(map(_is_answered, tasks)) and (running := [task for task in tasks if not task.done()]):
            done, _ = await asyncio.wait(running, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                send = race.another()
                delay_s = race.delay_s if send is not None else None
                if send is not None:
                    begin(send)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [_outcome(task) for task in tasks]


def _is_answered(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _outcome(task: asyncio.Task[Any]) -> Any:
    """A task's reply, or its ``TritonError``; ``None`` if it was cancelled. Any other error is raised."""
    if task.cancelled():
        return None
    error = task.exception()
    if isinstance(error, TritonError):
        return error
    return task.result()
