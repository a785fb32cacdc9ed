"""Which endpoint gets an attempt: those of one client, with a breaker for each model on each."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final

from tritonforge_client.core.balance import Balancer
from tritonforge_client.core.breaker import Breaker, counts_as_failure
from tritonforge_client.core.call import Call
from tritonforge_client.errors import BreakerOpen, Code, ConnectionFailed, TritonError
from tritonforge_client.policies import BreakerPolicy

_SERVER: Final = ""
# An endpoint with one of these takes no requests at all, and is left alone for a moment.
_GONE: Final[frozenset[Code]] = frozenset({"connection", "shutting_down", "unavailable"})
_GONE_S: Final = 1.0
# A single endpoint has nothing to be chosen by.
_NOT_COUNTED: Final = nullcontext()


class Endpoints:
    """The endpoints of one client, by index. An index is given once, also where endpoints come and go.

    Args:
        transports: One for each endpoint.
        balancer: Spreads attempts over them.
        is_fixed: Whether they stay these.

    Attributes:
        transports: Those of all endpoints that there ever were.
        unresolved: Why attempts at an endpoint fail that is a host name and not an address.
        failed_s: When an endpoint last took no requests or did not answer in time, on the monotonic clock.
    """

    def __init__(self, transports: Sequence[Any], balancer: Balancer, *, is_fixed: bool) -> None:
        self.transports = list(transports)
        self.unresolved: dict[int, Exception] = {}
        self.failed_s = -math.inf
        self._is_single = is_fixed and len(transports) == 1
        self._left_s: dict[int, float] = {}
        self._balancer = balancer
        self._breakers: dict[tuple[int, str], Breaker] = {}
        self._gone_until_s: dict[int, float] = {}

    def pick(self, tried: Collection[int], call: Call, policy: BreakerPolicy | None) -> int:
        """Choose the endpoint of the next attempt: one that was not tried yet, if there is one.

        Raises:
            BreakerOpen: The breakers of all endpoints are open.
        """
        index: int | None
        if self.are_uncounted(policy):
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

    def pick_other(self, tried: Collection[int], call: Call, policy: BreakerPolicy | None) -> int | None:
        """Choose an endpoint that was not tried yet; ``None`` if there is none that takes an attempt."""

        def allowed(index: int) -> bool:
            return index not in tried and (policy is None or self._breaker(index, call, policy).allows())

        return self._balancer.pick(self._avoided(tried), allowed=allowed)

    def is_open(self, call: Call, policy: BreakerPolicy | None) -> bool:
        """Whether any endpoint takes an attempt, now or soon."""
        return policy is None or any(
            self._breaker(index, call, policy).opens_in_s == 0 for index in self._balancer.indices
        )

    def has_other(self, tried: Collection[int]) -> bool:
        """Whether any endpoint was not tried yet."""
        return any(index not in tried for index in self._balancer.indices)

    def add(self, transport: Any) -> int:
        """Give an endpoint its index. It gets no attempts before it is used."""
        self.transports.append(transport)
        return len(self.transports) - 1

    def use(self, indices: Sequence[int]) -> None:
        """Let these get all attempts from now on, the preferred one first. Those that are left out never come back."""
        now_s = time.monotonic()
        self._left_s |= {index: now_s for index in self._balancer.indices if index not in indices}
        self._balancer.use(indices)

    def emptied(self) -> list[Any]:
        """The transports that were left out, each once, when nothing is in flight over it."""
        # An attempt for which one was chosen a moment before that may not have begun.
        empty_since_s = time.monotonic() - _GONE_S
        empty = [i for i, left_s in list(self._left_s.items()) if left_s < empty_since_s and self._balancer.is_idle(i)]
        for index in empty:
            self._left_s.pop(index, None)
            self._gone_until_s.pop(index, None)
        for key in [key for key in list(self._breakers) if key[0] in empty]:
            self._breakers.pop(key, None)
        return [self.transports[index] for index in empty]

    def are_uncounted(self, policy: BreakerPolicy | None) -> bool:
        """Whether nothing depends on how attempts end."""
        return policy is None and self._is_single

    def used(self, index: int, call: Call, policy: BreakerPolicy | None) -> AbstractContextManager[None]:
        """Count an attempt in flight and note how it ends."""
        if self.are_uncounted(policy):
            return _NOT_COUNTED
        return self._counted(index, call, policy)

    @contextmanager
    def _counted(self, index: int, call: Call, policy: BreakerPolicy | None) -> Iterator[None]:
        began_s = time.monotonic()
        is_served: bool | None = None
        self._balancer.started(index)
        try:
            why = self.unresolved.get(index)
            if why is not None:
                raise _unresolved_error(why, call) from why
            yield
            is_served = True
        except TritonError as error:
            is_served = False if counts_as_failure(error) else None
            if error.code in _GONE:
                self._gone_until_s[index] = time.monotonic() + _GONE_S
            # A host that vanished refuses nothing: its calls end at their deadlines.
            if error.code in _GONE or error.code == "deadline":
                self.failed_s = time.monotonic()
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
        return {*tried, *(index for index, until_s in list(self._gone_until_s.items()) if now_s < until_s)}

    def _breaker(self, index: int, call: Call, policy: BreakerPolicy) -> Breaker:
        key = (index, call.model or _SERVER)
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers.setdefault(key, Breaker(policy))
        return breaker


def _unresolved_error(why: Exception, call: Call) -> TritonError:
    if call.elapsed_s >= call.timeout_s:
        return call.deadline_error("before the request was sent")
    text = f"expected addresses of this name, got none: {why}; check the name, and that its DNS server answers"
    return ConnectionFailed(text, **call.error_context())
