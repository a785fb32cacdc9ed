"""Turns of a measurement that nobody else disturbs, on a machine that others use too."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, TypeVar

psutil: Any = import_module("psutil")

T = TypeVar("T")

MOST_TRIES: Final = 10


def quietest(turn: Callable[[], T], most_cores: float) -> tuple[T, float]:
    """Play a turn again until others leave it alone.

    Args:
        turn: Plays it.
        most_cores: Cores that others may use meanwhile.

    Returns:
        What the first such turn gave, else the quietest of ten; and the cores that others used during it.
    """
    tries: list[tuple[T, float]] = []
    while len(tries) < MOST_TRIES and not any(cores <= most_cores for _, cores in tries):
        began_s, others_before_s = time.monotonic(), used_by_others_s()
        got = turn()
        others_s = used_by_others_s() - others_before_s
        tries.append((got, max(0.0, others_s / (time.monotonic() - began_s))))
    return min(tries, key=lambda one: one[1])


def used_by_others_s() -> float:
    """Seconds that all cores have worked for others than this process and those that it started.

    Others are processes of this machine, and what a virtual machine's host did while it was to run (``steal``).
    """
    everybody, ended = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    own_s = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            own_s += times.user + times.system
    return float(everybody.user + everybody.nice + everybody.system + everybody.steal - own_s)
