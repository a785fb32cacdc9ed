"""When a request that is not answered yet is sent to another endpoint too.

Only requests that may run twice are hedged, and only to another endpoint: behind the same queue a second request makes
both wait longer.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import deque
from typing import Final

from tritonforge_client.core.retry import RetryBudget
from tritonforge_client.policies import HedgePolicy

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
