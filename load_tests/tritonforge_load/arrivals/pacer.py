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

from tritonforge_client import WireTimes
from tritonforge_client.extras import require_extra
from tritonforge_load.arrivals.alarm import Alarm
from tritonforge_load.arrivals.quiet import collect_in, quiet_gc

gevent: Any = require_extra("gevent", "load")

LATE_NS: Final = 1_000_000
"""A request that is sent later than this after its time counts as late."""

# Waking up takes a sleeping CPU 50 to 100 us, and that of a virtual machine up to a millisecond once in a few hundred
# times. Being awake too early costs CPU time that other work would seem to need, so at most a fifth is spent on that.
_AWAKE_NS: Final = 1_000_000
_AWAKE_SHARE: Final = 0.2
# The last stretch, in which nothing else is done, once the request is ready.
_READY_NS: Final = 100_000
_READY_SHARE: Final = 0.1
_END_S: Final = 1.0

_NS_PER_S: Final = 1_000_000_000
_LEARNED_FROM: Final = 8
_USUAL_PLACE: Final = 2


@dataclass(frozen=True, slots=True)
class PacerCounts:
    """What came of a schedule.

    Attributes:
        scheduled: Requests whose time has come.
        sent: Those that were sent.
        shed: Those that were not, as the most that may be in flight were; they are never sent later.
        late: Those that were sent more than ``LATE_NS`` after their time, and are answered or broken off.
        abandoned: Those that were sent, and still not answered when the grace was over; they were broken off.
    """

    scheduled: int
    sent: int
    shed: int
    late: int
    abandoned: int


class Preparation:
    """How long a request takes from the moment at which it is begun until it can be sent, as the last ones did.

    Attributes:
        usual_ns: A quarter of them took no longer. With the mean, requests that take little would wait for their time
            as long as others take longer.
    """

    def __init__(self) -> None:
        self.usual_ns = 0
        self._last_ns: list[int] = []

    def add(self, took_ns: int) -> None:
        """Learn of a request."""
        self._last_ns.append(took_ns)
        if len(self._last_ns) == _LEARNED_FROM:
            self.usual_ns = sorted(self._last_ns)[_USUAL_PLACE]
            self._last_ns.clear()


class Pacer:
    """Sends the requests of a schedule, each at its time.

    Each is started a little before its time, by what a request usually takes until it can be sent, and what a CPU takes
    to wake up; it then waits for the very moment where it is sent. Nothing is sent before its time.

    When the generator itself was held up, what has become due is sent at once, one after the other: nothing is left
    out for being late. What a request costs to start is small, for greenlets that have ended one are used again.

    Args:
        times_s: float64, ascending: when requests are due, in seconds after ``start_s``.
        start_s: When the schedule starts, by ``time.perf_counter()`` of this process.
        send: Sends a request and waits for its answer. It is called in a greenlet with the index of the request and
            its times, and must not send it before ``not_before_ns``: the client sees to that while they are current,
            anybody else calls ``depart``. It must not raise; if it does, the schedule ends.
        max_in_flight: How many requests may wait for an answer.
        grace_s: How long answers are waited for when the last request has been sent.
        shed: Called for each request that is shed, with its index and the moment that it was due, by
            ``time.perf_counter()``; it must not wait.
    """

    def __init__(
        self,
        times_s: NDArray[np.float64],
        start_s: float,
        send: Callable[[int, WireTimes], None],
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
        self._preparation = Preparation()
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
        with quiet_gc(), closing(Alarm()) as self._alarm:
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
        scheduled = max(scheduled, self._sent + self._shed_count)  # the last one may wait for its time to be sent
        return PacerCounts(scheduled, self._sent, self._shed_count, self._late, self._abandoned)

    def _send_all(self, alarm: Alarm) -> None:
        lasts_s = float(self._times_s[-1]) if len(self._times_s) > 0 else 0.0
        gap_ns = lasts_s * _NS_PER_S / max(1, len(self._times_s))
        awake_s = min(_AWAKE_NS, _AWAKE_SHARE * gap_ns) / _NS_PER_S
        ready_ns = round(min(_READY_NS, _READY_SHARE * gap_ns))
        for index in range(len(self._times_s)):
            due_s = self._start_s + self._times_s.item(index)
            begin_s = due_s - (self._preparation.usual_ns + ready_ns) / _NS_PER_S
            collect_in(begin_s - awake_s - time.perf_counter())
            if self._is_over or not alarm.wait_until(begin_s, awake_s):
                return
            # To wake up is part of it; to be held up by others is not.
            began_ns = max(round(begin_s * _NS_PER_S), time.perf_counter_ns() - 2 * ready_ns)
            if self._in_flight < self._max_in_flight:
                self._start(index, due_s, began_ns)
            else:
                self._shed_count += 1
                if self._shed is not None:
                    self._shed(index, due_s)

    def _start(self, index: int, due_s: float, began_ns: int) -> None:
        self._in_flight += 1
        if self._idle:
            # At once, and not in the next turn of the event loop; this greenlet goes on when that one waits.
            resumed = self._hub.loop.run_callback(gevent.getcurrent().switch)
            try:
                self._idle.pop().switch(index, due_s, began_ns)
            finally:
                resumed.stop()  # where this greenlet was killed instead
        else:
            greenlet = gevent.spawn(self._serve, index, due_s, began_ns)
            greenlet.link_exception(self._on_failure)
            self._greenlets.append(greenlet)

    def _serve(self, index: int, due_s: float, began_ns: int) -> None:
        while True:
            self._sent += 1
            times = WireTimes(round(due_s * _NS_PER_S))
            try:
                self._send(index, times)
            finally:
                self._learn(times, began_ns)
            self._in_flight -= 1
            if self._is_over:
                return
            self._idle.append(gevent.getcurrent())
            index, due_s, began_ns = self._hub.switch()

    def _learn(self, times: WireTimes, began_ns: int) -> None:
        if times.ready_ns is not None:
            self._preparation.add(times.ready_ns - began_ns)
        if times.sent_ns is not None:
            self._late += times.sent_ns - times.not_before_ns > LATE_NS

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
