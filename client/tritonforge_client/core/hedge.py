"""When a request that is not answered yet is sent to another endpoint too.

Only requests that may run twice are hedged, and only to another endpoint: behind the same queue a second request makes
both wait longer.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final, Generic, TypeVar

from tritonforge_client.core.apart import Apart
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


class _Lane(Generic[T]):
    """One of the requests of a call that race each other, begun when it is made."""

    def __init__(self, opened: AbstractContextManager[tuple[Any, Exchange[T], Call]]) -> None:
        self._opened = Apart(opened)
        self.transport, self.exchange, self.attempt = self._opened.__enter__()

    def send(self) -> Send:
        """What is sent."""
        return Send(self.transport, self.exchange.request, self.attempt)

    def close(self, end: BaseException | None) -> None:
        """Tell those who watch it how it ended."""
        self._opened.__exit__(type(end) if end is not None else None, end, None)

    def cancelled(self, why: str) -> Cancelled:
        """The end of a request that nobody waits for any more."""
        return Cancelled(why, **self.attempt.error_context())


class Lanes(Generic[T]):
    """The requests of one call that race each other, each watched and counted by itself.

    Args:
        opened: Counts and watches the next attempt while it lasts; gives its transport, its exchange and the attempt.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[tuple[Any, Exchange[T], Call]]]) -> None:
        self._opened = opened
        self._lanes: list[_Lane[T]] = []
        self._unopened: Exception | None = None

    def __len__(self) -> int:
        return len(self._lanes)

    def send(self) -> Send:
        """Begin the next attempt."""
        try:
            lane = _Lane(self._opened())
        except Exception as error:
            self._unopened = error
            raise
        self._lanes.append(lane)
        return lane.send()

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
            self._close([self._stopped_by(error, lane) for lane in self._lanes])
            raise
        ends = [self._end_of(lane, outcome) for lane, outcome in zip(self._lanes, outcomes, strict=True)]
        try:
            if None not in ends:
                raise next(end for end in ends if end is not None)
            winner = ends.index(None)
            lane = self._lanes[winner]
            try:
                return lane.exchange.parse(outcomes[winner], lane.attempt), lane.attempt
            except BaseException as error:
                ends[winner] = error
                raise
        finally:
            self._close(ends)

    def _stopped_by(self, error: BaseException, lane: _Lane[T]) -> BaseException:
        """How a lane ended that was stopped by an error which ended the whole race."""
        if error is self._unopened:
            return lane.cancelled("another attempt of the call could not be made")
        return error

    def _end_of(self, lane: _Lane[T], outcome: Any) -> BaseException | None:
        if outcome is None:
            return lane.cancelled("another endpoint answered first")
        return outcome if isinstance(outcome, TritonError) else None

    def _close(self, ends: Sequence[BaseException | None]) -> None:
        # A hook that fails keeps no other lane open.
        with ExitStack() as stack:
            for lane, end in zip(self._lanes, ends, strict=True):
                stack.callback(lane.close, end)
