"""When a model on an endpoint that keeps failing is left alone.

::

            share of failures reached                open_s over
    closed ───────────────────────────▶ open ────────────────────────▶ half open
      ▲                                   ▲                              │   │
      │                                   └──────── a probe fails ───────┘   │
      └───────────────────────────── all probes succeed ─────────────────────┘
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tritonforge_client.errors import Code, TritonError
from tritonforge_client.policies import BreakerPolicy

# The window moves on in steps of a tenth.
_BUCKETS: Final = 10
_FAILURES: Final[frozenset[Code]] = frozenset(
    {"queue_full", "queue_timeout", "not_ready", "shutting_down", "connection", "unavailable", "deadline"}
)


def counts_as_failure(error: TritonError) -> bool:
    """Tell whether an error says that the endpoint cannot serve.

    Any other error says nothing about that, not even that it can: the fault may be the request's or the caller's, and a
    model that fails on one request may answer the next.
    """
    return error.code in _FAILURES


class Breaker:
    """The breaker of one model on one endpoint. Threads may share it.

    Args:
        policy: When it opens and closes.
        clock: Seconds that never go back.
    """

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._window = _Window(policy.window_s)
        self._closed = True
        self._changed_s = -math.inf
        # Of the open breaker: when it has probes to give again, how many now, and how many succeeded.
        self._probes_s = 0.0
        self._probes = 0
        self._succeeded = 0

    def allows(self) -> bool:
        """Ask for leave to send one attempt now, whose end is then recorded.

        A half-open breaker gives leave to as many attempts as there are probes. Every ``open_s`` it does so anew, so
        that probes that hang, or whose end nobody records, do not keep it open.
        """
        with self._lock:
            if self._closed:
                return True
            now_s = self._clock()
            if now_s >= self._probes_s:
                self._probes_s = now_s + self._policy.open_s
                self._probes = self._policy.probes
            if self._probes == 0:
                return False
            self._probes -= 1
            return True

    def record(self, ok: bool | None, *, began_s: float) -> None:
        """Note how an attempt ended.

        Args:
            ok: Whether the endpoint served it; ``None`` if its end says nothing about that.
            began_s: When leave was asked for the attempt, on the breaker's clock. If the breaker opened or closed since
                then, the attempt tells of the time before, and changes nothing.
        """
        with self._lock:
            if began_s <= self._changed_s:
                return
            if not self._closed:
                self._judge_probe(ok)
            elif ok is not None:
                self._count(ok)

    @property
    def opens_in_s(self) -> float:
        """Seconds until an attempt may be sent; 0 if one may be sent now."""
        with self._lock:
            if self._closed or self._probes > 0:
                return 0.0
            return max(0.0, self._probes_s - self._clock())

    def _count(self, ok: bool) -> None:
        now_s = self._clock()
        calls, failures = self._window.add(now_s, ok)
        # The quotient is the double next to the true ratio, so that 3 of 30 reach 0.1.
        if calls >= self._policy.min_calls and failures / calls >= self._policy.ratio:
            self._open(now_s)

    def _judge_probe(self, ok: bool | None) -> None:
        if ok is None:
            self._probes = min(self._policy.probes, self._probes + 1)
        elif not ok:
            self._open(self._clock())
        else:
            self._succeeded += 1
            if self._succeeded >= self._policy.probes:
                self._closed = True
                self._changed_s = self._clock()
                self._window = _Window(self._policy.window_s)

    def _open(self, now_s: float) -> None:
        self._closed = False
        self._changed_s = now_s
        self._probes_s = now_s + self._policy.open_s
        self._probes = 0
        self._succeeded = 0


@dataclass(slots=True)
class _Bucket:
    began_s: float
    calls: int = 0
    failures: int = 0


class _Window:
    """Counts of the latest results: each is kept for at least nine tenths of ``window_s``, and never for longer."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._buckets: deque[_Bucket] = deque()
        self._calls = 0
        self._failures = 0

    def add(self, now_s: float, ok: bool) -> tuple[int, int]:
        """Add a result; return how many there are and how many of them are failures."""
        buckets = self._buckets
        while buckets and now_s - buckets[0].began_s >= self._window_s:
            old = buckets.popleft()
            self._calls -= old.calls
            self._failures -= old.failures
        if not buckets or now_s - buckets[-1].began_s >= self._window_s / _BUCKETS:
            buckets.append(_Bucket(now_s))
        failures = 0 if ok else 1
        buckets[-1].calls += 1
        buckets[-1].failures += failures
        self._calls += 1
        self._failures += failures
        return self._calls, self._failures
