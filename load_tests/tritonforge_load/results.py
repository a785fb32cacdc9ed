"""What a campaign measured, typed, and its verdict."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tritonforge_load.recording import Cell

SUMMARY_PERCENTS: Final = (50.0, 90.0, 95.0, 99.0, 99.9)
SERIES_PERCENTS: Final = (50.0, 95.0, 99.0)
ALL_WORKLOADS: Final = "*"

_NS_PER_MS: Final = 1e6


def percent_name(percent: float) -> str:
    """``p50_ms`` for 50, ``p99.9_ms`` for 99.9."""
    return f"p{percent:g}_ms"


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """One second of a phase.

    Attributes:
        at_s: Start of the second, from the start of the phase.
        rate_per_s: Answered requests that were sent in it, per second.
        errors: Requests sent in it that failed.
        latency_ms: Percentiles by name, ``p50_ms`` for one; empty when nothing was answered.
    """

    at_s: int
    rate_per_s: float
    errors: int
    latency_ms: dict[str, float]


@dataclass(frozen=True)
class WorkloadResult:
    """One workload in one phase, or all of them together (``ALL_WORKLOADS``).

    Attributes:
        workload: Its name.
        duration_s: Length of the phase.
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
        """Requests that were sent in the phase."""
        return self.cell.sent

    @property
    def errors(self) -> dict[str, int]:
        """Failed requests by class."""
        return dict(self.cell.errors)

    @property
    def error_share(self) -> float:
        """Failed of sent, from 0 to 1; not a number when nothing was sent."""
        return self.failed / self.sent if self.sent > 0 else math.nan

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
        """A nearest-rank percentile of the latency of answered requests in milliseconds."""
        return self.cell.latency.percentile_ns(percent) / _NS_PER_MS

    @property
    def series(self) -> list[SeriesPoint]:
        """The phase second by second; seconds in which nothing was sent are there too."""
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
            "correct_share": self.correct_share,
            "mean_ms": self.mean_ms,
            **percentiles_ms,
            "max_ms": self.max_ms,
        }
        counts = {"sent": self.sent, "answered": self.answered, "failed": self.failed, "checked": self.checked}
        return {
            "workload": self.workload,
            **counts,
            **{name: None if math.isnan(value) else value for name, value in figures.items()},
            "errors": self.errors,
        }


@dataclass(frozen=True)
class PhaseResult:
    """One measured phase.

    Attributes:
        name: Its name.
        arrival: How requests arrived, ``closed`` for a fixed number of users.
        users: Users at work.
        duration_s: Length of the measurement.
        rows: One result a workload.
    """

    name: str
    arrival: str
    users: int
    duration_s: float
    rows: tuple[WorkloadResult, ...]

    @cached_property
    def total(self) -> WorkloadResult:
        """All workloads together."""
        together = Cell()
        for row in self.rows:
            together.merge(row.cell)
        return WorkloadResult(ALL_WORKLOADS, self.duration_s, together)

    def row(self, workload: str) -> WorkloadResult:
        """The result of one workload.

        Raises:
            KeyError: The campaign has no such workload.
        """
        for row in self.rows:
            if row.workload == workload:
                return row
        raise KeyError(workload)


@dataclass(frozen=True, slots=True)
class GateResult:
    """The verdict of one gate on one phase.

    Attributes:
        phase: Name of the phase.
        assertion: The gate's sentence.
        passed: The verdict.
        value: What was measured, in the unit of the metric (ms, share from 0 to 1, per second); ``None`` if nothing.
        reason: Why.
    """

    phase: str
    assertion: str
    passed: bool
    value: float | None
    reason: str


@dataclass(frozen=True)
class CampaignResult:
    """What a campaign measured.

    Attributes:
        campaign: Its name.
        target: URL of the server.
        phases: The measured phases, in order.
        gates: The verdict of every gate on every phase that it names.
        problems: What spoils the measurement itself, for example a worker process that died.
        unmeasured: Requests that were sent outside of the measured phases: warm-up, and while users start and stop.
        versions: Versions of what took part.
    """

    campaign: str
    target: str
    phases: tuple[PhaseResult, ...]
    gates: tuple[GateResult, ...] = ()
    problems: tuple[str, ...] = ()
    unmeasured: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every gate passed and nothing spoiled the measurement."""
        return not self.problems and all(gate.passed for gate in self.gates)

    @property
    def exit_code(self) -> int:
        """0 when passed, else 1."""
        return 0 if self.passed else 1

    def phase(self, name: str) -> PhaseResult:
        """One measured phase.

        Raises:
            KeyError: There is no such measured phase.
        """
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it: figures to read, and recordings from which they can be made again."""
        return {
            "campaign": self.campaign,
            "target": self.target,
            "passed": self.passed,
            "problems": list(self.problems),
            "gates": [asdict(gate) for gate in self.gates],
            "phases": [_dict_from_phase(phase) for phase in self.phases],
            "unmeasured": self.unmeasured,
            "versions": self.versions,
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """``to_dict`` as text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CampaignResult:
        """The result that ``to_dict`` wrote."""
        return cls(
            campaign=data["campaign"],
            target=data["target"],
            phases=tuple(_phase_from_dict(phase) for phase in data["phases"]),
            gates=tuple(GateResult(**gate) for gate in data["gates"]),
            problems=tuple(data["problems"]),
            unmeasured=data["unmeasured"],
            versions=dict(data["versions"]),
        )

    def write_csv(self, path: Path) -> None:
        """Write one line a phase and workload, and one a phase for all together.

        Raises:
            OSError: The file cannot be written.
        """
        lines = [
            {"phase": phase.name, "arrival": phase.arrival, "users": phase.users, "duration_s": phase.duration_s}
            | {**row.summary(), "errors": " ".join(f"{name}={count}" for name, count in row.errors.items())}
            for phase in self.phases
            for row in (*phase.rows, phase.total)
        ]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]) if lines else ["phase"])
            writer.writeheader()
            writer.writerows(lines)


def _named_percentiles_ms(values_ns: list[float], percents: tuple[float, ...]) -> dict[str, float]:
    return {percent_name(percent): value / _NS_PER_MS for percent, value in zip(percents, values_ns, strict=True)}


def _dict_from_phase(phase: PhaseResult) -> dict[str, Any]:
    return {
        "name": phase.name,
        "arrival": phase.arrival,
        "users": phase.users,
        "duration_s": phase.duration_s,
        "total": phase.total.summary() | {"series": [asdict(point) for point in phase.total.series]},
        "workloads": [
            row.summary() | {"series": [asdict(point) for point in row.series], "recording": row.cell.to_dict()}
            for row in phase.rows
        ],
    }


def _phase_from_dict(data: Mapping[str, Any]) -> PhaseResult:
    rows = tuple(
        WorkloadResult(row["workload"], data["duration_s"], Cell.from_dict(row["recording"]))
        for row in data["workloads"]
    )
    return PhaseResult(data["name"], data["arrival"], data["users"], data["duration_s"], rows)
