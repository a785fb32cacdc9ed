"""Which of several endpoints gets the next attempt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import get_args

from tritonforge_client.errors import InvalidInput
from tritonforge_client.policies import Balance


def _always(_index: int) -> bool:
    return True


class Balancer:
    """Spreads attempts over endpoints, which are known by their index. Threads may share it.

    Args:
        count: Number of endpoints at first, at least 1.
        kind: ``pick_first`` takes the first that is allowed, ``round_robin`` each in turn, ``least_in_flight`` the one
            with the fewest attempts in flight, in turn among equals.

    Raises:
        InvalidInput: The kind is none of these.

    Attributes:
        indices: The endpoints that attempts are spread over, the preferred one first.
    """

    def __init__(self, count: int, kind: Balance) -> None:
        if kind not in get_args(Balance):
            expected = f"one of {', '.join(get_args(Balance))}"
            text = f"balance: expected {expected}, got {kind!r}"
            raise InvalidInput(text, field="balance", expected=expected, got=repr(kind))
        self.indices: Sequence[int] = tuple(range(count))
        self._kind = kind
        self._in_flight = [0] * count
        self._next = 0
        self._lock = threading.Lock()

    def pick(self, avoid: Collection[int] = (), *, allowed: Callable[[int], bool] = _always) -> int | None:
        """Choose an endpoint.

        Args:
            avoid: Endpoints that are taken only when no other is allowed, for example those that were tried.
            allowed: Whether an endpoint may be taken. It is asked in the order of preference until it says yes, so that
                it may count that as taken. It must not use this balancer.

        Returns:
            The index, or ``None`` if none is allowed.
        """
        with self._lock:
            for index in sorted(self.indices, key=lambda index: (index in avoid, self._rank(index))):
                if allowed(index):
                    self._next = index + 1
                    return index
        return None

    def use(self, indices: Sequence[int]) -> None:
        """Spread attempts over other endpoints from now on, the preferred one first."""
        with self._lock:
            self._in_flight += [0] * (max(indices) + 1 - len(self._in_flight))
            self.indices = tuple(indices)

    def is_idle(self, index: int) -> bool:
        """Whether no attempt is in flight."""
        return self._in_flight[index] == 0

    def started(self, index: int) -> None:
        """Count an attempt in flight."""
        with self._lock:
            self._in_flight[index] += 1

    def finished(self, index: int) -> None:
        """Count it no longer."""
        with self._lock:
            self._in_flight[index] -= 1

    def _rank(self, index: int) -> tuple[int, int]:
        if self._kind == "pick_first":
            return 0, 0  # all alike, so that they stay in their order
        turn = (index - self._next) % len(self._in_flight)
        return (0 if self._kind == "round_robin" else self._in_flight[index]), turn
