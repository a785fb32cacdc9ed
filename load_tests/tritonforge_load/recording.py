"""What the users of one or many processes measured, by phase and workload; merges without loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tritonforge_load.histogram import Histogram


@dataclass(slots=True)
class Second:
    """Requests that were sent within one second of a phase.

    Attributes:
        latency: Durations of those that were answered.
        errors: How many failed.
    """

    latency: Histogram = field(default_factory=Histogram)
    errors: int = 0


@dataclass(slots=True)
class Cell:
    """One workload within one phase.

    Attributes:
        latency: Durations of requests that were answered; failed requests are counted, not timed.
        rows: Rows (batch elements) of requests that were answered.
        errors: Failed requests by class.
        checked: Rows whose answer was compared.
        correct: Those that were right.
        seconds: The same requests by the second they were sent in, counted from the start of the phase.
    """

    latency: Histogram = field(default_factory=Histogram)
    rows: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    checked: int = 0
    correct: int = 0
    seconds: dict[int, Second] = field(default_factory=dict)

    def record(self, second: int, elapsed_ns: int, rows: int, error: str | None) -> None:
        """Add one request.

        Args:
            second: Whole seconds from the start of the phase to the moment it was sent.
            elapsed_ns: How long it took.
            rows: Its rows.
            error: Class of its failure; ``None`` when it was answered.
        """
        within = self.seconds.get(second)
        if within is None:
            within = self.seconds[second] = Second()
        if error is not None:
            self.errors[error] = self.errors.get(error, 0) + 1
            within.errors += 1
            return
        self.latency.record(elapsed_ns)
        within.latency.record(elapsed_ns)
        self.rows += rows

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(self.errors.values())

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return self.latency.count + self.failed

    def merge(self, other: Cell) -> None:
        """Add everything of another cell."""
        self.latency.merge(other.latency)
        self.rows += other.rows
        self.checked += other.checked
        self.correct += other.correct
        for error, count in other.errors.items():
            self.errors[error] = self.errors.get(error, 0) + count
        for second, theirs in other.seconds.items():
            ours = self.seconds.setdefault(second, Second())
            ours.latency.merge(theirs.latency)
            ours.errors += theirs.errors

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON and msgpack can hold it."""
        return {
            "latency": self.latency.to_dict(),
            "rows": self.rows,
            "errors": self.errors,
            "checked": self.checked,
            "correct": self.correct,
            "seconds": [[second, it.latency.to_dict(), it.errors] for second, it in self.seconds.items()],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cell:
        """The cell that ``to_dict`` wrote."""
        return cls(
            latency=Histogram.from_dict(data["latency"]),
            rows=data["rows"],
            errors=dict(data["errors"]),
            checked=data["checked"],
            correct=data["correct"],
            seconds={second: Second(Histogram.from_dict(it), errors) for second, it, errors in data["seconds"]},
        )


class Recording:
    """Cells by phase and workload."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], Cell] = {}

    def cell(self, phase: str, workload: str) -> Cell:
        """The cell of a workload in a phase; made when it is new."""
        found = self._cells.get((phase, workload))
        if found is None:
            found = self._cells[phase, workload] = Cell()
        return found

    def __iter__(self) -> Iterator[tuple[str, str, Cell]]:
        return ((phase, workload, cell) for (phase, workload), cell in self._cells.items())

    def drain(self) -> list[Any]:
        """Everything recorded since the last drain, as JSON and msgpack can hold it."""
        drained = [[phase, workload, cell.to_dict()] for phase, workload, cell in self]
        self._cells = {}
        return drained

    def merge(self, drained: list[Any]) -> None:
        """Add what another recording drained."""
        for phase, workload, cell in drained:
            self.cell(phase, workload).merge(Cell.from_dict(cell))
