"""The addresses of a host name, from the system's resolver, beside an event loop."""

from __future__ import annotations

import asyncio

from tritonforge_client.transport.resolver import Resolver


class AsyncResolver:
    """Asks for the addresses of one host name, for one event loop.

    Args:
        host: The name.
        port: The port that is to be connected to.
    """

    def __init__(self, host: str, port: int) -> None:
        self._resolver = Resolver(host, port)
        self._asked: asyncio.Future[list[str]] | None = None

    async def addresses(self, timeout_s: float) -> list[str]:
        """Ask in a thread of the event loop; tasks that ask at the same time share the question.

        Args:
            timeout_s: Seconds to wait. The question goes on without this task.

        Returns:
            Addresses of IPv4 and IPv6, the preferred one first.

        Raises:
            OSError: The name has no address, or nobody answers in time.
            ValueError: It cannot be a name.
        """
        if self._asked is None:
            self._asked = asyncio.get_running_loop().run_in_executor(None, self._resolver.addresses)
            self._asked.add_done_callback(self._answered)
        asked = self._asked
        await asyncio.wait((asked,), timeout=timeout_s)
        if not asked.done():
            raise TimeoutError(f"no answer within {timeout_s:.3g} s")
        return asked.result()

    def _answered(self, asked: asyncio.Future[list[str]]) -> None:
        self._asked = None
        if not asked.cancelled():
            asked.exception()  # is looked at, be it that nobody waits any more
