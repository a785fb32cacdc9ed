"""What the users of one or many processes measured, by run and workload; merges without loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tritonforge_load.measure.histogram import Histogram
from tritonforge_load.measure.seconds import Second, Seconds


@dataclass(slots=True)
class Cell:
    """One workload within one run of a phase.

    Attributes:
        latency: Durations of requests that were answered, from the time at which they were to be sent (in closed
            phases, at which the client was called) until their replies had come; failed requests are counted, not
            timed.
        service: The same from the time at which they were sent. Empty for closed phases, where it is ``latency``.
        slip: How late requests were sent. Empty for closed phases, where there is no such thing.
        rows: Rows (batch elements) of requests that were answered.
        errors: Failed requests by class.
        shed: Requests that were due while too many were unanswered; they were not sent.
        checked: Rows whose answer was compared.
        correct: Those that were right.
        seconds: The same requests by the second for which they were meant, counted from the start of the run.
    """

    latency: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    slip: Histogram = field(default_factory=Histogram)
    rows: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    shed: int = 0
    checked: int = 0
    correct: int = 0
    seconds: Seconds = field(default_factory=Seconds)

    def record(self, second: int, latency_ns: int, rows: int, error: str | None) -> None:
        """Add one request of a closed phase.

        Args:
            second: Whole seconds from the start of the run to the moment for which it was meant.
            latency_ns: How long it took, from that moment.
            rows: Its rows.
            error: Class of its failure; ``None`` when it was answered.
        """
        within = self.seconds.at(second)
        if error is not None:
            self.errors[error] = self.errors.get(error, 0) + 1
            within.errors += 1
            return
        self.latency.record(latency_ns)
        within.latency.record(latency_ns)
        self.rows += rows

    def record_open(
        self, second: int, latency_ns: int, rows: int, error: str | None, *, service_ns: int, slip_ns: int
    ) -> None:
        """Add one request of an open phase.

        Args:
            second: As in ``record``.
            latency_ns: As in ``record``.
            rows: As in ``record``.
            error: As in ``record``.
            service_ns: How long it took from the moment it was sent.
            slip_ns: How late it was sent.
        """
        self.record(second, latency_ns, rows, error)
        self.slip.record(slip_ns)
        if error is None:
            self.service.record(service_ns)

    def record_shed(self, second: int) -> None:
        """Add one request of an open phase that was not sent.

        Args:
            second: As in ``record``.
        """
        self.shed += 1
        self.seconds.at(second).shed += 1

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
        self.service.merge(other.service)
        self.slip.merge(other.slip)
        self.rows += other.rows
        self.shed += other.shed
        self.checked += other.checked
        self.correct += other.correct
        for error, count in other.errors.items():
            self.errors[error] = self.errors.get(error, 0) + count
        for second, theirs in other.seconds.items():
            ours = self.seconds.at(second)
            ours.latency.merge(theirs.latency)
            ours.errors += theirs.errors
            ours.shed += theirs.shed

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON and msgpack can hold it."""
        return {
            "latency": self.latency.to_dict(),
            "service": self.service.to_dict(),
            "slip": self.slip.to_dict(),
            "rows": self.rows,
            "errors": self.errors,
            "shed": self.shed,
            "checked": self.checked,
            "correct": self.correct,
            "seconds": [[second, it.latency.to_dict(), it.errors, it.shed] for second, it in self.seconds.items()],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cell:
        """The cell that ``to_dict`` wrote."""
        return cls(
            latency=Histogram.from_dict(data["latency"]),
            service=Histogram.from_dict(data["service"]),
            slip=Histogram.from_dict(data["slip"]),
            rows=data["rows"],
            errors=dict(data["errors"]),
            shed=data["shed"],
            checked=data["checked"],
            correct=data["correct"],
            seconds=Seconds(
                {second: Second(Histogram.from_dict(it), *counts) for second, it, *counts in data["seconds"]}
            ),
        )


class Recording:
    """Cells by run and workload."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], Cell] = {}

    def cell(self, run: str, workload: str) -> Cell:
        """The cell of a workload in a run; made when it is new."""
        found = self._cells.get((run, workload))
        if found is None:
            found = self._cells[run, workload] = Cell()
        return found

    def __iter__(self) -> Iterator[tuple[str, str, Cell]]:
        return ((run, workload, cell) for (run, workload), cell in self._cells.items())

    def drain(self) -> list[Any]:
        """Everything recorded since the last drain, as JSON and msgpack can hold it."""
        drained = [[run, workload, cell.to_dict()] for run, workload, cell in self]
        self._cells = {}
        return drained

    def merge(self, drained: list[Any]) -> None:
        """Add what another recording drained."""
        for run, workload, cell in drained:
            self.cell(run, workload).merge(Cell.from_dict(cell))
