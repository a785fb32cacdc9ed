"""Which endpoint gets an attempt: those of one client, with a breaker for each model on each."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Final

from tritonforge_client.core.balance import Balancer
from tritonforge_client.core.breaker import Breaker, counts_as_failure
from tritonforge_client.core.call import Call
from tritonforge_client.errors import BreakerOpen, Code, TritonError
from tritonforge_client.policies import BreakerPolicy

_SERVER: Final = ""
# An endpoint with one of these takes no requests at all, and is left alone for a moment.
_GONE: Final[frozenset[Code]] = frozenset({"connection", "shutting_down", "unavailable"})
_GONE_S: Final = 1.0
# A single endpoint has nothing to be chosen by.
_NOT_COUNTED: Final = nullcontext()


class Endpoints:
    """The endpoints of one client, by index.

    Args:
        balancer: Spreads attempts over them.
    """

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._breakers: dict[tuple[int, str], Breaker] = {}
        self._gone_until_s: dict[int, float] = {}

    def pick(self, tried: Collection[int], call: Call, policy: BreakerPolicy | None) -> int:
        """Choose the endpoint of the next attempt: one that was not tried yet, if there is one.

        Raises:
            BreakerOpen: The breakers of all endpoints are open.
        """
        index: int | None
        if policy is None and self._balancer.count == 1:
            index = 0
        elif policy is None:
            index = self._balancer.pick(self._avoided(tried))
        else:
            breaker = partial(self._breaker, call=call, policy=policy)
            index = self._balancer.pick(self._avoided(tried), allowed=lambda index: breaker(index).allows())
        if index is None:
            text = "every endpoint failed too often lately, so nothing was sent; wait, or look after the servers"
            raise BreakerOpen(text, **call.error_context())
        return index

    def is_open(self, call: Call, policy: BreakerPolicy | None) -> bool:
        """Whether any endpoint takes an attempt, now or soon."""
        count = self._balancer.count
        return policy is None or any(self._breaker(i, call, policy).opens_in_s == 0 for i in range(count))

    def used(self, index: int, call: Call, policy: BreakerPolicy | None) -> AbstractContextManager[None]:
        """Count an attempt in flight and note how it ends."""
        if policy is None and self._balancer.count == 1:
            return _NOT_COUNTED
        return self._counted(index, call, policy)

    @contextmanager
    def _counted(self, index: int, call: Call, policy: BreakerPolicy | None) -> Iterator[None]:
        began_s = time.monotonic()
        is_served: bool | None = None
        self._balancer.started(index)
        try:
            yield
            is_served = True
        except TritonError as error:
            is_served = False if counts_as_failure(error) else None
            if error.code in _GONE:
                self._gone_until_s[index] = time.monotonic() + _GONE_S
            raise
        finally:
            self._balancer.finished(index)
            if policy is not None:
                self._breaker(index, call, policy).record(is_served, began_s=began_s)

    def _avoided(self, tried: Collection[int]) -> Collection[int]:
        """What was tried, and what was gone a moment ago: taken only when nothing else is there."""
        if not self._gone_until_s:
            return tried
        now_s = time.monotonic()
        return {*tried, *(index for index, until_s in self._gone_until_s.items() if now_s < until_s)}

    def _breaker(self, index: int, call: Call, policy: BreakerPolicy) -> Breaker:
        key = (index, call.model or _SERVER)
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers.setdefault(key, Breaker(policy))
        return breaker
