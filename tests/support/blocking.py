"""Asynchronous clients behind blocking methods, so that one contract suite runs over all clients."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any

from typing_extensions import Self

from tritonforge_client import AsyncClient, AsyncModel, AsyncModelSequence


class BlockingClient:
    """An ``AsyncClient`` on an event loop of its own, in a thread of its own, with the methods of ``Client``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="blocking-client", daemon=True)
        self._thread.start()
        try:
            self._inner = self._wait(_made(lambda: AsyncClient(*args, **options)))
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._wait(self._ended())
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return _Blocking(self._inner, self._wait).__getattr__(name)

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _ended(self) -> None:
        await self._inner.close()
        # What was in flight says that it was cancelled some turns of the loop later: a stopped loop would never say it.
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=10)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class _Blocking:
    def __init__(self, inner: Any, wait: Callable[[Any], Any]) -> None:
        self._inner = inner
        self._wait = wait

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return value if not callable(value) else lambda *args, **options: self._answer(value(*args, **options))

    def __enter__(self) -> Self:
        self._wait(self._inner.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._wait(self._inner.__aexit__(*error))

    def _answer(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            return self._wait(value)
        if inspect.isasyncgen(value):
            return self._iterated(value)
        return _Blocking(value, self._wait) if isinstance(value, (AsyncModel, AsyncModelSequence)) else value

    def _iterated(self, values: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._wait(_following(values))
                except StopAsyncIteration:
                    return
        finally:
            self._wait(values.aclose())  # type: ignore[attr-defined]


async def _made(make: Callable[[], Any]) -> Any:
    return make()


async def _following(values: AsyncIterator[Any]) -> Any:
    return await values.__anext__()
