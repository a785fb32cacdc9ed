"""What the process of a load generator takes for itself."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_PROC: Final = Path("/proc")
_RESIDENT_FIELD: Final = 1  # proc(5): size, resident, shared, ... in pages


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """One process over the time since its last reading.

    Attributes:
        cpu_share: CPU time by time, in cores: 1 is one whole core, and more where threads outside of Python run too.
            Not a number when no time has passed.
        memory_bytes: Resident memory now.
    """

    cpu_share: float
    memory_bytes: int

    def values(self, worker: str) -> dict[str, float]:
        """The values by their names in a ``Timeline``.

        Args:
            worker: Name of the load generator.
        """
        values = {"cpu_share": self.cpu_share, "memory_bytes": float(self.memory_bytes)}
        return {f"generator.{worker}.{name}": value for name, value in values.items() if math.isfinite(value)}


class ProcessMeter:
    """CPU time and memory of this process. A process that was forked needs a meter of its own.

    Args:
        at_s: The time now, in seconds; the first reading counts from it.
    """

    def __init__(self, at_s: float) -> None:
        self._at_s = at_s
        self._cpu_s = time.process_time()

    def sample(self, at_s: float) -> ProcessReading:
        """What was taken since the last reading.

        Args:
            at_s: The time now, of the same clock.
        """
        cpu_s = time.process_time()
        elapsed_s, used_s = at_s - self._at_s, cpu_s - self._cpu_s
        self._at_s, self._cpu_s = at_s, cpu_s
        return ProcessReading(used_s / elapsed_s if elapsed_s > 0 else math.nan, resident_bytes("self"))


def resident_bytes(process: int | Literal["self"]) -> int:
    """Resident memory of a process.

    Args:
        process: Its id.

    Raises:
        OSError: There is no such process.
    """
    pages = int((_PROC / str(process) / "statm").read_bytes().split()[_RESIDENT_FIELD])
    return pages * os.sysconf("SC_PAGE_SIZE")
