"""A machine that loses as little time as it can: on another one, latencies are also those of CPUs that wake up."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def awake() -> Iterator[bool]:
    """Keep all CPUs from sleeping, where that is allowed; says whether it is.

    A CPU that sleeps takes tens of microseconds to wake up, that of a virtual machine a hundred and more. Linux lets
    them wait awake as long as this file is open with a latency of 0 in it (Documentation/power/pm_qos_interface.rst).
    """
    try:
        file = os.open("/dev/cpu_dma_latency", os.O_WRONLY)
    except OSError:
        yield False
        return
    try:
        os.write(file, struct.pack("=i", 0))
        yield True
    finally:
        os.close(file)


@contextmanager
def shared_cores() -> Iterator[int | None]:
    """Give one CPU up to a server: it is not used by this process any more, nor by those that it starts.

    Yields:
        The CPU; ``None`` where there is only one, which all use.
    """
    ours = os.sched_getaffinity(0)
    *rest, core = sorted(ours)
    if len(rest) == 0:
        yield None
        return
    os.sched_setaffinity(0, rest)
    try:
        yield core
    finally:
        os.sched_setaffinity(0, ours)
