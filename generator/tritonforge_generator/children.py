"""What processes need that this package starts in Python: its packages, and an end when their parent is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def import_path() -> str:
    """``PYTHONPATH`` that finds what this process finds."""
    return os.pathsep.join(path for path in sys.path if path != "")


def end_with_parent(by: signal.Signals) -> None:
    """Ask the kernel to send a signal to this process when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by, 0, 0, 0)
