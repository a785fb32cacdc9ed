"""The figures of requests: one workload, or all together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tritonforge_load.measure.recording import Cell

SUMMARY_PERCENTS: Final = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
SERIES_PERCENTS: Final = (50.0, 95.0, 99.0)
ALL_WORKLOADS: Final = "*"

_NS_PER_MS: Final = 1e6


def percent_name(percent: float) -> str:
    """``p50_ms`` for 50, ``p99.9_ms`` for 99.9."""
    return f"p{percent:g}_ms"


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """One second of a run.

    Attributes:
        at_s: Start of the second, from the start of the run.
        rate_per_s: Answered requests that were meant for it, per second.
        errors: Requests meant for it that failed.
        latency_ms: Percentiles by name, ``p50_ms`` for one; empty when nothing was answered.
    """

    at_s: int
    rate_per_s: float
    errors: int
    latency_ms: dict[str, float]


@dataclass(frozen=True)
class WorkloadResult:
    """One workload in one or several runs, or all of them together (``ALL_WORKLOADS``).

    Attributes:
        workload: Its name.
        duration_s: Length of the runs together.
        cell: What was recorded.
    """

    workload: str
    duration_s: float
    cell: Cell

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return self.cell.latency.count

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return self.cell.failed

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return self.cell.sent

    @property
    def shed(self) -> int:
        """Requests that were due while too many were unanswered, and never sent."""
        return self.cell.shed

    @property
    def errors(self) -> dict[str, int]:
        """Failed requests by class."""
        return dict(self.cell.errors)

    @property
    def error_share(self) -> float:
        """Failed of sent, from 0 to 1; not a number when nothing was sent."""
        return self.failed / self.sent if self.sent > 0 else math.nan

    @property
    def shed_share(self) -> float:
        """Shed of those that were due, from 0 to 1; not a number when nothing was due."""
        due = self.sent + self.shed
        return self.shed / due if due > 0 else math.nan

    @property
    def checked(self) -> int:
        """Rows whose answer was compared."""
        return self.cell.checked

    @property
    def correct_share(self) -> float:
        """Right of checked rows, from 0 to 1; not a number when none was checked."""
        return self.cell.correct / self.cell.checked if self.cell.checked > 0 else math.nan

    @property
    def rate_per_s(self) -> float:
        """Answered requests per second."""
        return self.answered / self.duration_s if self.sent > 0 else math.nan

    @property
    def rows_per_s(self) -> float:
        """Rows of answered requests per second."""
        return self.cell.rows / self.duration_s if self.sent > 0 else math.nan

    @property
    def mean_ms(self) -> float:
        """Mean latency of answered requests in milliseconds."""
        return self.cell.latency.mean_ns() / _NS_PER_MS

    @property
    def max_ms(self) -> float:
        """Largest latency of an answered request in milliseconds, exact; not a number when there is none."""
        return self.percentile_ms(100.0)

    def percentile_ms(self, percent: float) -> float:
        """A nearest-rank percentile of the latency of answered requests in milliseconds, from their scheduled times."""
        return self.cell.latency.percentile_ns(percent) / _NS_PER_MS

    def service_ms(self, percent: float) -> float:
        """The same from the times at which they were sent: what a load generator that waits would report."""
        service = self.cell.service if self.cell.service.count > 0 else self.cell.latency
        return service.percentile_ns(percent) / _NS_PER_MS

    def slip_ms(self, percent: float) -> float:
        """A percentile of how late requests were sent; not a number for closed phases."""
        return self.cell.slip.percentile_ns(percent) / _NS_PER_MS

    @property
    def series(self) -> list[SeriesPoint]:
        """The run second by second; seconds in which nothing was sent are there too."""
        points = []
        for at_s in range(math.ceil(self.duration_s)):
            width_s = min(1.0, self.duration_s - at_s)
            within = self.cell.seconds.get(at_s)
            if within is None:
                points.append(SeriesPoint(at_s, 0.0, 0, {}))
                continue
            latency_ms = {}
            if within.latency.count > 0:
                latency_ms = _named_percentiles_ms(within.latency.percentiles_ns(SERIES_PERCENTS), SERIES_PERCENTS)
            points.append(SeriesPoint(at_s, within.latency.count / width_s, within.errors, latency_ms))
        return points

    def summary(self) -> dict[str, Any]:
        """The figures of one row of a table; ``None`` where there is none."""
        percentiles_ms = _named_percentiles_ms(self.cell.latency.percentiles_ns(SUMMARY_PERCENTS), SUMMARY_PERCENTS)
        figures = {
            "rate_per_s": self.rate_per_s,
            "rows_per_s": self.rows_per_s,
            "error_share": self.error_share,
            "shed_share": self.shed_share,
            "correct_share": self.correct_share,
            "mean_ms": self.mean_ms,
            **percentiles_ms,
            "max_ms": self.max_ms,
            "service_p99_ms": self.service_ms(99.0),
            "slip_p99_ms": self.slip_ms(99.0),
        }
        counts = {
            "sent": self.sent, "answered": self.answered, "failed": self.failed, "shed": self.shed,
            "checked": self.checked,
        }  # fmt: skip
        return {
            "workload": self.workload,
            **counts,
            **{name: None if math.isnan(value) else value for name, value in figures.items()},
            "errors": self.errors,
        }


def row_named(rows: Iterable[WorkloadResult], workload: str) -> WorkloadResult:
    """The row of a workload.

    Raises:
        KeyError: There is none.
    """
    for row in rows:
        if row.workload == workload:
            return row
    raise KeyError(workload)


def pooled(name: str, groups: Iterable[Iterable[WorkloadResult]], duration_s: float) -> WorkloadResult:
    """All of some rows together.

    Args:
        name: Name of what comes out.
        groups: The rows, for example those of several runs.
        duration_s: Length of the runs together.
    """
    together = Cell()
    for rows in groups:
        for row in rows:
            together.merge(row.cell)
    return WorkloadResult(name, duration_s, together)


def _named_percentiles_ms(values_ns: list[float], percents: tuple[float, ...]) -> dict[str, float]:
    return {percent_name(percent): value / _NS_PER_MS for percent, value in zip(percents, values_ns, strict=True)}
