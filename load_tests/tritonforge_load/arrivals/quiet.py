"""Keeps Python's cyclic garbage collector from stopping the process while requests are due."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Young objects are looked at in well under a millisecond.
_SLACK_S: Final = 2e-3
# After so many times what the collector's rule allows, there is no slack to be waited for.
_OVERDUE: Final = 20

_open = 0
_was_enabled = False


@contextmanager
def quiet_gc() -> Iterator[None]:
    """Take what lives now out of the collector's sight, and keep it from starting by itself.

    A full collection of a process with Locust, numpy and a client in it takes tens of milliseconds, in which nothing
    is sent. At the end everything is as before. It may be entered by several greenlets.
    """
    global _open, _was_enabled  # noqa: PLW0603
    if _open == 0:
        _was_enabled = gc.isenabled()
        gc.freeze()
        gc.disable()
    _open += 1
    try:
        yield
    finally:
        _open -= 1
        if _open == 0:
            gc.unfreeze()
            if _was_enabled:
                gc.enable()


def collect_in(slack_s: float) -> None:
    """Do what the collector's rule asks for, if there is time: it counts objects also while it is off.

    Args:
        slack_s: Seconds until something is due.
    """
    counts, limits = gc.get_count(), gc.get_threshold()
    if slack_s < _SLACK_S and counts[0] <= _OVERDUE * limits[0]:
        return
    for generation in (2, 1, 0):
        if counts[generation] > limits[generation] > 0:
            gc.collect(generation)
            return
