"""From a measured campaign to what a report says of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tritonforge_generator.report.model import Gate, LatencyCurve, LoadReport, LoadRow, Moment, Phase

if TYPE_CHECKING:
    from tritonforge_load.results import CampaignResult, PhaseResult, WorkloadResult

_POINTS_PER_DECADE = 20  # of the latency curve, each decade nearer to 100 %


def load_report_from_campaign(result: CampaignResult) -> LoadReport:
    """Say what a campaign measured.

    Args:
        result: The campaign's result.
    """
    phases = []
    moments: list[Moment] = []
    start_s = 0.0
    for phase in result.phases:
        users = f"{phase.users} user{'s' if phase.users != 1 else ''}"
        end_s = start_s + phase.duration_s
        phases.append(Phase(name=phase.name, arrival=f"{phase.arrival}, {users}", start_s=start_s, end_s=end_s))
        moments.extend(_moments(phase, start_s))
        start_s = end_s
    return LoadReport(
        campaign=result.campaign,
        target=result.target,
        phases=tuple(phases),
        rows=tuple(_load_row(phase, row, name) for phase in result.phases for row, name in _rows(phase)),
        gates=tuple(
            Gate(phase=gate.phase, condition=gate.assertion, measured=gate.reason, passed=gate.passed)
            for gate in result.gates
        ),
        moments=tuple(moments),
        curves=tuple(
            LatencyCurve(label=f"{phase.name}, {row.workload}", points=_tail(row))
            for phase in result.phases
            for row in phase.rows
            if row.answered > 1
        ),
        problems=result.problems,
    )


def _rows(phase: PhaseResult) -> Iterator[tuple[WorkloadResult, str]]:
    for row in phase.rows:
        yield row, row.workload
    if len(phase.rows) > 1:
        yield phase.total, "all together"


def _load_row(phase: PhaseResult, row: WorkloadResult, name: str) -> LoadRow:
    return LoadRow(
        phase=phase.name,
        workload=name,
        sent=row.sent,
        errors=row.errors,
        rate_per_s=_known(row.rate_per_s) or 0.0,
        rows_per_s=_known(row.rows_per_s) or 0.0,
        p50_ms=_known(row.percentile_ms(50)),
        p95_ms=_known(row.percentile_ms(95)),
        p99_ms=_known(row.percentile_ms(99)),
        max_ms=_known(row.max_ms),
        correct_share=_known(row.correct_share),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _moments(phase: PhaseResult, start_s: float) -> Iterator[Moment]:
    for point in phase.total.series:
        width_s = min(1.0, phase.duration_s - point.at_s)
        yield Moment(
            at_s=start_s + point.at_s + width_s / 2,
            rate_per_s=point.rate_per_s,
            errors_per_s=point.errors / width_s,
            p50_ms=point.latency_ms.get("p50_ms"),
            p95_ms=point.latency_ms.get("p95_ms"),
            p99_ms=point.latency_ms.get("p99_ms"),
        )


def _tail(row: WorkloadResult) -> tuple[tuple[float, float], ...]:
    """Percentiles up to the last that this number of answers can tell from the slowest one."""
    steps = int(_POINTS_PER_DECADE * math.log10(row.answered))
    percents = [100 * (1 - 10 ** (-step / _POINTS_PER_DECADE)) for step in range(steps + 1)]
    latencies_ns = row.cell.latency.percentiles_ns(percents)
    return tuple((percent, value_ns / 1e6) for percent, value_ns in zip(percents, latencies_ns, strict=True))
