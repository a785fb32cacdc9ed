"""Starts requests at the times of a schedule, whether or not earlier ones have been answered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.extras import require_extra
from tritonforge_load.arrivals.alarm import Alarm
from tritonforge_load.arrivals.quiet import collect_in, quiet_gc

gevent: Any = require_extra("gevent", "load")

LATE_S: Final = 1e-3
"""A request that is sent later than this after its time counts as late."""

# Waking up takes a sleeping CPU 50 to 100 us. Being awake too early costs CPU time that other work would seem to need,
# so at most a tenth of it is spent on that.
_AWAKE_S: Final = 100e-6
_AWAKE_SHARE: Final = 0.1
_END_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class PacerCounts:
    """What came of a schedule.

    Attributes:
        scheduled: Requests whose time has come.
        sent: Those that were sent.
        shed: Those that were not, as the most that may be in flight were; they are never sent later.
        late: Those that were sent more than ``LATE_S`` after their time.
        abandoned: Those that were sent, and still not answered when the grace was over; they were broken off.
    """

    scheduled: int
    sent: int
    shed: int
    late: int
    abandoned: int


class Pacer:
    """Sends the requests of a schedule, each at its time.

    When the generator itself was held up, what has become due is sent at once, one after the other: nothing is left
    out for being late. What a request costs to start is small, for greenlets that have ended one are used again.

    Args:
        times_s: float64, ascending: when requests are due, in seconds after ``start_s``.
        start_s: When the schedule starts, by ``time.perf_counter()`` of this process.
        send: Sends a request and waits for its answer. It is called in a greenlet with the index of the request and
            the moment that it was due, by ``time.perf_counter()``. It must not raise; if it does, the schedule ends.
        max_in_flight: How many requests may wait for an answer.
        grace_s: How long answers are waited for when the last request has been sent.
        shed: Called for each request that is shed, with the arguments of ``send``; it must not wait.
    """

    def __init__(
        self,
        times_s: NDArray[np.float64],
        start_s: float,
        send: Callable[[int, float], None],
        *,
        max_in_flight: int,
        grace_s: float,
        shed: Callable[[int, float], None] | None = None,
    ) -> None:
        self._times_s = times_s
        self._start_s = start_s
        self._send = send
        self._max_in_flight = max_in_flight
        self._grace_s = grace_s
        self._shed = shed
        self._alarm: Alarm | None = None
        self._hub = gevent.get_hub()
        self._greenlets: list[Any] = []
        self._idle: list[Any] = []
        self._is_over = False
        self._ended_s = math.inf
        self._failure: BaseException | None = None
        self._sent = self._shed_count = self._late = self._in_flight = self._abandoned = 0

    def run(self) -> None:
        """Send everything, and wait for the answers.

        It may be killed: then, as in any other case, its greenlets end and the garbage collector is as before.

        Raises:
            Exception: What ``send`` raised.
        """
        with quiet_gc(), closing(Alarm(self._awake_s())) as self._alarm:
            try:
                self._send_all(self._alarm)
                self._wait_for_answers()
            finally:
                self._end()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Send nothing more. ``run`` still waits for answers, as long as ``grace_s``."""
        self._is_over = True
        if self._alarm is not None:
            self._alarm.cancel()

    @property
    def counts(self) -> PacerCounts:
        """What has come of it until now."""
        now_s = min(time.perf_counter(), self._ended_s)
        scheduled = int(np.searchsorted(self._times_s, now_s - self._start_s, side="right"))
        return PacerCounts(scheduled, self._sent, self._shed_count, self._late, self._abandoned)

    def _awake_s(self) -> float:
        lasts_s = float(self._times_s[-1]) if len(self._times_s) > 0 else 0.0
        return min(_AWAKE_S, _AWAKE_SHARE * lasts_s / max(1, len(self._times_s)))

    def _send_all(self, alarm: Alarm) -> None:
        for index in range(len(self._times_s)):
            due_s = self._start_s + self._times_s.item(index)
            collect_in(due_s - time.perf_counter())
            if self._is_over or not alarm.wait_until(due_s):
                return
            if self._in_flight < self._max_in_flight:
                self._start(index, due_s)
            else:
                self._shed_count += 1
                if self._shed is not None:
                    self._shed(index, due_s)

    def _start(self, index: int, due_s: float) -> None:
        self._in_flight += 1
        if self._idle:
            # At once, and not in the next turn of the event loop; this greenlet goes on when that one waits.
            resumed = self._hub.loop.run_callback(gevent.getcurrent().switch)
            try:
                self._idle.pop().switch(index, due_s)
            finally:
                resumed.stop()  # where this greenlet was killed instead
        else:
            greenlet = gevent.spawn(self._serve, index, due_s)
            greenlet.link_exception(self._on_failure)
            self._greenlets.append(greenlet)

    def _serve(self, index: int, due_s: float) -> None:
        while True:
            self._sent += 1
            self._late += time.perf_counter() - due_s > LATE_S
            self._send(index, due_s)
            self._in_flight -= 1
            if self._is_over:
                return
            self._idle.append(gevent.getcurrent())
            index, due_s = self._hub.switch()

    def _on_failure(self, greenlet: Any) -> None:
        self._failure = greenlet.exception
        self.stop()

    def _wait_for_answers(self) -> None:
        self._ended_s = time.perf_counter()
        self._is_over = True
        gevent.killall(self._idle)
        if self._failure is None:
            gevent.joinall(self._greenlets, timeout=self._grace_s)

    def _end(self) -> None:
        self._ended_s = min(time.perf_counter(), self._ended_s)
        self._is_over, self._alarm, self._abandoned = True, None, self._in_flight
        with gevent.Timeout(_END_S, False):
            gevent.killall(self._greenlets)
