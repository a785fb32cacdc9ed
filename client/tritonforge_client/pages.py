"""Memory of large messages."""

from __future__ import annotations

import functools
from typing import Final

# The largest block that glibc learns from (malloc.c, DEFAULT_MMAP_THRESHOLD_MAX), less its own header.
_LEARNED_BYTES: Final = (32 << 20) - (64 << 10)


@functools.cache
def keep_pages() -> None:
    """Let malloc keep the memory of large messages for the next ones: call it once, at the start of a process.

    glibc gives a block of 128 KiB or more back to the system as soon as it is freed, unless a larger one was freed
    before (mallopt(3), M_MMAP_THRESHOLD). Then each tensor is paid for with page faults, which can take longer than
    copying it. Freeing one block that nobody touched teaches glibc; another malloc does not care, and thresholds that
    were set by the environment stay.

    The price is memory that is not given back: up to 64 MB for each of malloc's arenas, of which there are eight a
    core. So it is for processes that do little else than call models with large tensors.
    """
    bytes(_LEARNED_BYTES)
