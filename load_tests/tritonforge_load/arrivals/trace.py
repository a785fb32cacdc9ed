"""Recorded arrivals, read from a file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from tritonforge_generator.errors import SpecError


@dataclass(frozen=True)
class Trace:
    """Recorded arrivals.

    Attributes:
        times_s: float64, ascending, as recorded.
        workloads: Name of the workload of each, as long as ``times_s``; ``None`` when the file names none.
    """

    times_s: NDArray[np.float64]
    workloads: tuple[str, ...] | None


def read_trace(path: Path) -> Trace:
    """Read a CSV file of arrivals.

    Args:
        path: The file: seconds in the first column, in any order; the name of the workload in the second, if there is
            one. A first line that does not begin with a number is a header.

    Returns:
        The arrivals, sorted by time.

    Raises:
        SpecError: The file cannot be read, or a line is no arrival; the text names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            arrivals = sorted(_arrivals(path, file), key=lambda arrival: arrival[0])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{path}: cannot be read: {error}", action="Give a CSV file in UTF-8") from error
    if not arrivals:
        raise SpecError(f"{path}: arrivals", expected="at least one", got="none")
    names = [name for _, name in arrivals if name is not None]
    return Trace(np.array([time_s for time_s, _ in arrivals]), tuple(names) if names else None)


def _arrivals(path: Path, file: TextIO) -> Iterator[tuple[float, str | None]]:
    lines = csv.reader(file)
    columns = 0
    for cells in lines:
        if not cells:
            continue
        place, time_s = f"{path}:{lines.line_num}", _seconds(cells[0])
        if columns == 0:
            columns = len(cells)
            if columns > 2:
                raise SpecError(f"{place}: columns", expected="one or two, seconds and workload", got=str(columns))
            if time_s is None:
                continue
        if len(cells) != columns:
            raise SpecError(f"{place}: columns", expected=f"{columns} as in the first line", got=str(len(cells)))
        if time_s is None or not math.isfinite(time_s):
            raise SpecError(f"{place}: time", expected="seconds like 12.5", got=repr(cells[0]))
        name = cells[1].strip() if columns == 2 else None
        if name == "":
            raise SpecError(f"{place}: workload", expected="its name", got="nothing")
        yield time_s, name


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
