"""What a GPU does while it is measured: clocks, power and memory, as ``nvidia-smi`` says."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Final

from typing_extensions import Self

from tritonforge_generator.report import GpuUse

_NAMES: Final = ("name", "driver_version")
_QUERY: Final = ("clocks.sm", "clocks.max.sm", "power.draw", "temperature.gpu", "memory.used")
_PERIOD_MS: Final = 200
_PATIENCE_S: Final = 20.0
_MEBIBYTE: Final = 1 << 20

Reading = tuple[float | None, ...]


class GpuWatch:
    """Reads a GPU's state five times a second from its start to its end.

    Args:
        device_id: The GPU, as ``nvidia-smi`` numbers it.

    Attributes:
        batch_size: What is being timed now; set by whoever knows. Readings without one count for memory alone.
    """

    def __init__(self, device_id: int) -> None:
        self.batch_size: int | None = None
        self._program = shutil.which("nvidia-smi")
        fields = ",".join((*_NAMES, *_QUERY))
        self._arguments = [f"--id={device_id}", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
        self._process: subprocess.Popen[str] | None = None
        self._readings: defaultdict[int | None, list[Reading]] = defaultdict(list)
        self._before: Reading = (None,) * len(_QUERY)
        self._names = ["", ""]

    def __enter__(self) -> Self:
        if self._program is None:
            return self
        first = _output([self._program, *self._arguments])
        if first != "":
            self._names, self._before = _parted(first)
            command = [self._program, *self._arguments, f"--loop-ms={_PERIOD_MS}"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
            self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._reader.join()
            self._process.communicate()

    def use(self, batch_size: int) -> GpuUse | None:
        """What was read while a batch size was timed; ``None`` where there is no ``nvidia-smi``."""
        readings = self._readings.get(batch_size, [])
        if not readings:
            return None
        clock, limit, power, temperature, _ = (_median(column) for column in zip(*readings, strict=True))
        memory = [reading[-1] for group in self._readings.values() for reading in group if reading[-1] is not None]
        before = self._before[-1]
        taken = max(memory) - before if memory and before is not None else None
        return GpuUse(
            sm_clock_mhz=clock,
            max_sm_clock_mhz=limit,
            power_w=power,
            temperature_c=temperature,
            memory_bytes=None if taken is None else int(max(taken, 0.0) * _MEBIBYTE),
            memory_before_bytes=None if before is None else int(before * _MEBIBYTE),
            name=self._names[0],
            driver=self._names[1],
        )

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self._readings[self.batch_size].append(_parted(line)[1])


def _output(command: list[str]) -> str:
    """What a program prints; empty when it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _parted(line: str) -> tuple[list[str], Reading]:
    """Names and values of a line; what a GPU does not tell is ``None``."""
    cells = [cell.strip() for cell in line.strip().split(",")]
    values = [_number(cell) for cell in cells[len(_NAMES) :]]
    return cells[: len(_NAMES)], tuple((values + [None] * len(_QUERY))[: len(_QUERY)])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
