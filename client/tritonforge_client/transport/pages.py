"""Memory of large messages."""

from __future__ import annotations

import functools
from typing import Final

# The largest block that glibc learns from (malloc.c, DEFAULT_MMAP_THRESHOLD_MAX), less its own header.
_LEARNED_BYTES: Final = (32 << 20) - (64 << 10)


@functools.cache
def keep_pages() -> None:
    """Let malloc keep what large messages were in for the next ones, once in a process.

    glibc gives a block of 128 KiB or more back to the system as soon as it is freed, unless a larger one was freed
    before (mallopt(3), M_MMAP_THRESHOLD). Then each tensor is paid for with page faults, which take longer than copying
    it. Freeing one block that nobody touched teaches glibc; another malloc does not care, and thresholds that were set
    by the environment stay. What is kept at the top of the heap is 64 MB at most.
    """
    bytes(_LEARNED_BYTES)
