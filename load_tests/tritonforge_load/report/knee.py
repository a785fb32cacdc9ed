"""The latency-throughput curve, and the load beyond which latency rises steeply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge_load.measure import ALL_WORKLOADS, CampaignResult, RunResult, WorkloadResult
from tritonforge_load.measure.rows import pooled

_FEWEST_POINTS: Final = 4
_LEAST_BEND: Final = 0.15
_LEAST_RISE: Final = 2.0

KNEE_RULE: Final = (
    "The knee is the load whose p99, on a logarithmic axis, lies furthest below the straight line from the lightest to "
    "the heaviest load (the Kneedle rule), if that is at least 15 % of the axis, p99 at least doubles on the way, and "
    "four loads were tried. Loads above the lightest at which requests were shed do not count: max_in_flight bounds "
    "their latency."
)


@dataclass(frozen=True)
class LoadPoint:
    """One load and what it led to.

    Attributes:
        load: Requests per second, or users.
        total: What was measured at it, all workloads together.
    """

    load: float
    total: WorkloadResult


@dataclass(frozen=True)
class LoadCurve:
    """Loads of one kind.

    Attributes:
        name: The phase that searched, or how requests arrived in the phases that it is made of.
        by_users: Whether loads are users.
        points: The loads that were tried, ascending, at least three.
        left_out: Invalid runs, whose figures are the generator's.
        knee: The load beyond which latency rises steeply; ``None`` where none was seen.
    """

    name: str
    by_users: bool
    points: tuple[LoadPoint, ...]
    left_out: int
    knee: LoadPoint | None


def curves_from_result(result: CampaignResult) -> list[LoadCurve]:
    """A curve for each search, and one for each kind of arrival that several phases have at different steady loads.

    Args:
        result: The result.
    """
    groups: dict[str, list[RunResult]] = {}
    for phase in result.phases:
        if phase.search is not None:
            groups[phase.name] = list(phase.runs)
        elif phase.arrival in {"closed", "constant", "poisson"}:
            groups.setdefault(f"the {phase.arrival} phases", []).extend(phase.runs)
    curves = (_curve(name, runs) for name, runs in groups.items())
    return [curve for curve in curves if len(curve.points) > 2]


def _curve(name: str, runs: Sequence[RunResult]) -> LoadCurve:
    by_load: dict[float, list[RunResult]] = {}
    for run in runs:
        load = run.rate_per_s if run.users is None else run.users
        if load is not None and not run.invalid and run.total.answered > 0:
            by_load.setdefault(load, []).append(run)
    points = tuple(
        LoadPoint(load, pooled(ALL_WORKLOADS, [run.rows for run in same], sum(run.duration_s for run in same)))
        for load, same in sorted(by_load.items())
    )
    by_users = any(run.users is not None for run in runs)
    left_out = sum(1 for run in runs if run.invalid)
    shed = next((index for index, point in enumerate(points) if point.total.shed > 0), len(points))
    knee = knee_of([(point.load, point.total.percentile_ms(99)) for point in points[: shed + 1]])
    return LoadCurve(name, by_users, points, left_out, None if knee is None else points[knee])


def knee_of(points: Sequence[tuple[float, float]]) -> int | None:
    """Find the knee by ``KNEE_RULE``.

    The rule is that of Satopaa et al., "Finding a 'Kneedle' in a Haystack" (2011), for a convex curve, unsmoothed.

    Args:
        points: Loads, ascending, and their latencies, all above zero.

    Returns:
        The index of the point; ``None`` when there is no knee.
    """
    if len(points) < _FEWEST_POINTS or points[-1][1] < _LEAST_RISE * points[0][1]:
        return None
    loads = [load for load, _ in points]
    heights = [math.log(latency) for _, latency in points]
    width, rise = loads[-1] - loads[0], heights[-1] - heights[0]
    below = [
        (load - loads[0]) / width - (height - heights[0]) / rise for load, height in zip(loads, heights, strict=True)
    ]
    deepest = max(range(len(points)), key=below.__getitem__)
    return deepest if below[deepest] >= _LEAST_BEND else None
