"""Times calls: warmed up until they are steady, in turns, with percentiles. Needs numpy alone."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

_BLOCK_CALLS: Final = 8
_BLOCK_S: Final = 1.0
_STEADY_RATIO: Final = 1.05
_LEAST_WARM_UP_S: Final = 0.2
_MOST_WARM_UP_S: Final = 6.0
_LEAST_RUNS: Final = 3
_MOST_RUNS: Final = 2000


def warm_up(call: Callable[[], Any]) -> tuple[float, bool]:
    """Call until the median of a block of calls is within 5 % of the block before.

    Returns:
        That median in milliseconds, and whether it was steady within six seconds, or two calls where these take longer.
    """
    call()  # compiles, or looks for kernels
    start = time.perf_counter()
    before, calls = float("inf"), 1
    while True:
        now = float(np.median(wall_times_ms(call, calls)))
        elapsed_s = time.perf_counter() - start
        steady = max(now, before) <= _STEADY_RATIO * min(now, before)
        if (steady and elapsed_s >= _LEAST_WARM_UP_S) or (np.isfinite(before) and elapsed_s >= _MOST_WARM_UP_S):
            return now, steady
        before, calls = now, max(1, min(int(_BLOCK_S * 1e3 / max(now, 1e-6)), _BLOCK_CALLS))


def wall_times_ms(call: Callable[[], Any], runs: int) -> list[float]:
    """Milliseconds of each call by the wall clock.

    Args:
        call: Returns when its work is done.
        runs: How many calls.
    """
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def runs_within(seconds: float, one_ms: float) -> int:
    """How many calls of a duration fit, at least three."""
    return min(max(_LEAST_RUNS, int(seconds * 1e3 / max(one_ms, 1e-6))), _MOST_RUNS)


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running in the middle of a call."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def latency_figures(times_ms: Sequence[float]) -> dict[str, float | int]:
    """Percentiles of call times, in milliseconds."""
    p50, p90, p99 = (float(value) for value in np.percentile(times_ms, (50, 90, 99)))
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "runs": len(times_ms)}
