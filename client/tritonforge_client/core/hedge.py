"""When a request that is not answered yet is sent to another endpoint too.

Only requests that may run twice are hedged, and only to another endpoint: behind the same queue a second request makes
both wait longer.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, TypeVar

from tritonforge_client.core.call import Call
from tritonforge_client.core.effects import Race, Send, Steps
from tritonforge_client.core.exchange import Exchange
from tritonforge_client.core.retry import RetryBudget
from tritonforge_client.errors import Cancelled, TritonError
from tritonforge_client.policies import HedgePolicy

T = TypeVar("T")

# Of 512 calls 25 are above the 95th percentile: enough to tell it well, and soon replaced when the load changes.
_RECENT: Final = 512
_ENOUGH: Final = 50


class Hedge:
    """The hedging of one model's calls. Threads may share it.

    Args:
        policy: After which time, and how often.
    """

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        # Empty at first: a reserve would be spent while the server is still warming up.
        self._budget = RetryBudget(policy.budget, full=False)
        self._lock = threading.Lock()
        self._recent_s: deque[float] = deque()
        self._sorted_s: list[float] = []

    def delay_s(self) -> float | None:
        """Tell after how long a call that begins now may be hedged.

        Returns:
            Seconds without an answer, or ``None`` if it is not hedged: the budget is spent, or the latencies of fewer
            than 50 calls are known.
        """
        if self._budget.tokens < 1:
            return None
        if not isinstance(self._policy.delay_s, str):
            return self._policy.delay_s
        with self._lock:
            known = len(self._sorted_s)
            # The smallest latency that 95 % of the calls did not exceed.
            return self._sorted_s[(95 * known + 99) // 100 - 1] if known >= _ENOUGH else None

    def take(self) -> bool:
        """Take leave to send one more request now; calls that waited at the same time share what the budget has."""
        return self._budget.take()

    def answered(self, latency_s: float) -> None:
        """Note that a call was answered.

        Args:
            latency_s: Seconds from its first request to the answer that counted.
        """
        self._budget.succeeded()
        with self._lock:
            if len(self._recent_s) == _RECENT:
                del self._sorted_s[bisect_left(self._sorted_s, self._recent_s.popleft())]
            self._recent_s.append(latency_s)
            insort(self._sorted_s, latency_s)


class Lanes(Generic[T]):
    """The requests of one call that race each other, each watched and counted by itself.

    Args:
        opened: Counts and watches the next attempt while it lasts; gives its transport, its exchange and the attempt.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[tuple[Any, Exchange[T], Call]]]) -> None:
        self._opened = opened
        self._contexts: list[AbstractContextManager[Any]] = []
        self._sent: list[tuple[Exchange[T], Call]] = []

    def __len__(self) -> int:
        return len(self._sent)

    def send(self) -> Send:
        """Begin the next attempt."""
        context = self._opened()
        transport, exchange, attempt = context.__enter__()
        self._contexts.append(context)
        self._sent.append((exchange, attempt))
        return Send(transport, exchange.request, attempt)

    def race(self, delay_s: float, another: Callable[[], Send | None]) -> Steps[tuple[T, Call]]:
        """Send until one of the requests is answered.

        Args:
            delay_s: Seconds without an answer before another is sent.
            another: Begins one more; ``None`` if there is to be none.

        Returns:
            The answer, and the attempt that brought it.

        Raises:
            TritonError: None was answered; the error of the first.
        """
        try:
            outcomes = yield Race(self.send(), delay_s, another)
        except BaseException as error:
            self._close([error] * len(self._sent))
            raise
        ends = [self._end_of(place, outcome) for place, outcome in enumerate(outcomes)]
        try:
            if None not in ends:
                raise next(end for end in ends if end is not None)
            winner = ends.index(None)
            exchange, attempt = self._sent[winner]
            try:
                return exchange.parse(outcomes[winner], attempt), attempt
            except TritonError as error:
                ends[winner] = error
                raise
        finally:
            self._close(ends)

    def _end_of(self, place: int, outcome: Any) -> TritonError | None:
        if outcome is None:
            return Cancelled("another endpoint answered first", **self._sent[place][1].error_context())
        return outcome if isinstance(outcome, TritonError) else None

    def _close(self, ends: Sequence[BaseException | None]) -> None:
        for context, end in zip(self._contexts, ends, strict=True):
            context.__exit__(type(end) if end is not None else None, end, None)
