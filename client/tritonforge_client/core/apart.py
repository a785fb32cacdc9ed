"""Watching what overlaps: requests that race each other, streams that are read in turn."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import copy_context
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Apart(AbstractContextManager[T], Generic[T]):
    """Enters and leaves another context manager in a context of its own.

    What overlaps does not end in the order in which it began. So what a hook makes current, such as a span, must be so
    for nobody else: the others would become its children, and it would stay current when all of them have ended.

    Args:
        manager: The other one.
    """

    def __init__(self, manager: AbstractContextManager[T]) -> None:
        self._manager = manager
        self._context = copy_context()

    def __enter__(self) -> T:
        return self._context.run(self._manager.__enter__)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._context.run(self._manager.__exit__, kind, error, traceback)
