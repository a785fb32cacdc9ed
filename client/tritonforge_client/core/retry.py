"""Whether a failed attempt is made again, and when.

Triton sends no ``Retry-After`` and no pushback of gRPC, so the client paces itself: full jitter, and a budget that all
calls of a client share, so that an outage is not multiplied by their attempts.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Final

from tritonforge_client.core.call import Call
from tritonforge_client.errors import Code, TritonError
from tritonforge_client.policies import RetryPolicy

# Tokens are counted in whole parts, so that ten tenths are one.
_PARTS: Final = 1_000_000
# These concern one endpoint. A full queue tells of load, which another endpoint has as well.
_AT_ONCE_ELSEWHERE: Final[frozenset[Code]] = frozenset({"shutting_down", "not_ready", "connection", "unavailable"})


class RetryBudget:
    """Tokens for requests beyond the first of each call, earned by successes. Threads may share it.

    Args:
        share: Tokens that one success brings, from 0 to 1, to the millionth.
        most: Tokens that can be saved.
        full: Whether it starts with ``most`` tokens, or with none.
    """

    def __init__(self, share: float, *, most: float = 10.0, full: bool = True) -> None:
        self._earned = round(share * _PARTS)
        self._most = round(most * _PARTS)
        self._parts = self._most if full else 0
        self._lock = threading.Lock()

    @property
    def tokens(self) -> float:
        """Tokens that are there."""
        return self._parts / _PARTS

    def succeeded(self) -> None:
        """Note that a call succeeded."""
        if self._parts == self._most:
            return  # nothing to be earned, as nearly always
        with self._lock:
            self._parts = min(self._most, self._parts + self._earned)

    def take(self) -> bool:
        """Take a token; without one the request is not sent."""
        with self._lock:
            if self._parts < _PARTS:
                return False
            self._parts -= _PARTS
            return True


class Retries:
    """The retries of one call.

    Args:
        policy: When to retry; ``None`` for never.
        budget: Shared by all calls of the client.
        call: Its deadline is kept.
        repeatable: Whether the request may run twice. Steps of a sequence, started streams and changes of the server
            may not, whatever the error: it never proves that nothing was sent.
        random: A number from 0 to 1 at each call.
    """

    def __init__(
        self,
        policy: RetryPolicy | None,
        budget: RetryBudget,
        call: Call,
        *,
        repeatable: bool,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._call = call
        self._random = random
        self._left = policy.attempts - 1 if policy is not None and repeatable else 0
        self._longest_s = policy.initial_s if policy is not None else 0.0

    def pause_s(self, error: TritonError, *, other_endpoint: bool, at_least_s: float = 0.0) -> float | None:
        """Decide about the next attempt.

        Args:
            error: How the last attempt ended.
            other_endpoint: Whether the next attempt can go to an endpoint that was not tried yet.
            at_least_s: Seconds that the server, or a proxy before it, asked to wait (``Retry-After``). The random pause
                comes on top, so that not all who were asked come back together.

        Returns:
            Seconds to wait before the next attempt, or ``None`` to give up and raise the error.
        """
        policy = self._policy
        if policy is None or self._left == 0 or error.code not in policy.codes:
            return None
        pause_s = at_least_s
        elsewhere = other_endpoint and error.code in _AT_ONCE_ELSEWHERE
        if not elsewhere:
            pause_s += self._random() * self._longest_s
        # Who would only wait for the deadline gives up now. NaN gives up too.
        if not pause_s < self._call.timeout_s - self._call.elapsed_s:
            return None
        # Last, so that only attempts that are made cost a token. One that goes elsewhere adds no load where it failed.
        if not elsewhere and not self._budget.take():
            return None
        self._left -= 1
        self._longest_s = min(policy.maximum_s, self._longest_s * policy.multiplier)
        return pause_s
