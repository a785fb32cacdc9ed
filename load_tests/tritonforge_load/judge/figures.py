"""The value of a metric over one or several runs."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge_load.campaign.assertion import MODEL_METRICS, TIMELINE_METRICS, percent_of
from tritonforge_load.campaign.file import Campaign
from tritonforge_load.measure.results import RunResult
from tritonforge_load.measure.rows import ALL_WORKLOADS, WorkloadResult, pooled
from tritonforge_load.observe.models import ModelFacts
from tritonforge_load.observe.timeline import Timeline

_MS_PER_S: Final = 1e3
_BYTES_PER_MB: Final = 1e6
_LEAST_MEMORY_SAMPLES: Final = 20
_GENERATOR_MEMORY: Final = re.compile(r"generator\..+\.memory_bytes")
_GPU_KINDS: Final = re.compile(r"gpu(\.[0-9]+(\.utilization)?)?")

_OF_ROW: Final[dict[str, Callable[[WorkloadResult], float]]] = {
    "mean": lambda row: row.mean_ms,
    "max": lambda row: row.max_ms,
    "errors": lambda row: row.error_share,
    "shed": lambda row: row.shed_share,
    "correct": lambda row: row.correct_share,
    "rate": lambda row: row.rate_per_s,
    "throughput": lambda row: row.rows_per_s,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """The value of a metric.

    Attributes:
        value: In the unit of the metric (ms, share from 0 to 1, per second); ``None`` if there is none.
        basis: From how much it was made.
        absent: Why there is none; empty when there is one.
        observed: Whether it could have been measured. What was not observed is not known; where nothing was answered,
            that is what was measured.
    """

    value: float | None
    basis: str = ""
    absent: str = ""
    observed: bool = True


def row_of(runs: Sequence[RunResult], workload: str | None) -> WorkloadResult:
    """One workload of some runs together; all workloads for ``None``.

    Raises:
        KeyError: A run has no such workload.
    """
    if len(runs) == 1:
        return runs[0].row(workload)
    name = ALL_WORKLOADS if workload is None else workload
    return pooled(name, [[run.row(workload)] for run in runs], sum(run.duration_s for run in runs))


def row_value(metric: str, row: WorkloadResult) -> float:
    """The value of a metric of requests; not a number when there is none.

    Raises:
        KeyError: It is a metric of the server or of a search.
    """
    percent = percent_of(metric)
    return _OF_ROW[metric](row) if percent is None else row.percentile_ms(percent)


def share_counts(metric: str, row: WorkloadResult) -> tuple[int, int]:
    """The hits of a share, and the whole.

    Raises:
        KeyError: It is none of ``errors``, ``shed`` and ``correct``.
    """
    return {
        "errors": (row.failed, row.sent),
        "shed": (row.shed, row.sent + row.shed),
        "correct": (row.cell.correct, row.checked),
    }[metric]


def figure_of(
    metric: str, workload: str | None, runs: Sequence[RunResult], campaign: Campaign, timeline: Timeline
) -> Figure:
    """The value of a metric over some runs of a campaign together.

    Args:
        metric: Any metric but those of a search.
        workload: A workload; ``None`` for all together.
        runs: The runs.
        campaign: Says which model a workload calls.
        timeline: What was observed of the server.
    """
    if metric in TIMELINE_METRICS:
        return _OF_TIMELINE[metric](runs, timeline)
    if metric in MODEL_METRICS:
        models = {entry.model for entry in campaign.workload if workload in {None, entry.name}}
        return _of_server(metric, models, runs, timeline)
    row = row_of(runs, workload)
    value = row_value(metric, row)
    if math.isnan(value):
        return Figure(None, absent="no answer was checked" if metric == "correct" else "no request was answered")
    return Figure(value, _basis(metric, row))


def _basis(metric: str, row: WorkloadResult) -> str:
    if metric == "correct":
        return f"{row.checked:,} checked rows"
    if metric == "shed":
        return f"{row.sent + row.shed:,} requests due"
    count = row.answered if metric in {"mean", "max"} or percent_of(metric) is not None else row.sent
    return f"{count:,} requests"


def _gpu_utilization(runs: Sequence[RunResult], timeline: Timeline) -> Figure:
    """The mean over the runs' time and, of several GPUs, over all."""
    values = [
        value
        for run in runs
        for sample in timeline.between(run.starts_s, run.starts_s + run.duration_s).samples
        for name, value in sample.values.items()
        if name.startswith("gpu.") and name.endswith(".utilization_share")
    ]
    if not values:
        reasons = [reason for kind, reason in timeline.absent.items() if _GPU_KINDS.fullmatch(kind)]
        return Figure(None, absent="; ".join(reasons) or "no GPU was observed", observed=False)
    return Figure(statistics.fmean(values), f"{len(values):,} samples")


def _server_memory_growth(runs: Sequence[RunResult], timeline: Timeline) -> Figure:
    absent = timeline.absent.get("server.process_memory", "the server's processes were not observed")
    return _growth(["server.process_memory_bytes"], runs, timeline, absent)


def _generator_memory_growth(runs: Sequence[RunResult], timeline: Timeline) -> Figure:
    """That of the load generator that grew most."""
    names = [name for name in timeline.names() if _GENERATOR_MEMORY.fullmatch(name) is not None]
    return _growth(names, runs, timeline, "no load generator told its memory")


def _growth(names: Sequence[str], runs: Sequence[RunResult], timeline: Timeline, absent: str) -> Figure:
    """The largest growth from the first tenth of the samples to the last: medians, as single samples jump."""
    within = timeline.between(runs[0].starts_s, runs[-1].starts_s + runs[-1].duration_s)
    found = [_growth_of(within.series(name)[1], absent) for name in names]
    grown = [figure for figure in found if figure.value is not None]
    return max(grown or found, key=lambda figure: figure.value or 0.0, default=_unobserved(absent))


def _growth_of(values: Sequence[float], absent: str) -> Figure:
    if len(values) < _LEAST_MEMORY_SAMPLES:
        return _unobserved(f"{len(values)} samples of memory, {_LEAST_MEMORY_SAMPLES} needed" if values else absent)
    count = len(values) // 10
    first, last = (statistics.median(part) for part in (values[:count], values[-count:]))
    sizes = f"{first / _BYTES_PER_MB:,.1f} MB at first, {last / _BYTES_PER_MB:,.1f} MB at last"
    return Figure(last / first - 1, f"{sizes}, {len(values):,} samples")


def _unobserved(reason: str) -> Figure:
    return Figure(None, absent=reason, observed=False)


def _of_server(metric: str, models: set[str], runs: Sequence[RunResult], timeline: Timeline) -> Figure:
    facts = [entry for run in runs for entry in run.models if entry.model in models]
    if len(facts) < len(runs) * len(models) or not facts:
        kinds = ("statistics", *(f"model.{name}" for name in sorted(models)))
        reasons = [timeline.absent[kind] for kind in kinds if kind in timeline.absent]
        return Figure(None, absent="; ".join(reasons) or "the server was not observed", observed=False)
    incomplete = next((entry for entry in facts if entry.incomplete), None)
    if incomplete is not None:
        return Figure(None, absent=f"{incomplete.model}: {incomplete.incomplete}", observed=False)
    value = _SERVER_VALUES[metric](facts)
    if math.isnan(value):
        return Figure(None, absent=f"the server says that it answered no request of {', '.join(sorted(models))}")
    return Figure(value, f"{sum(entry.requests for entry in facts):,} requests in the server's counters")


_OF_TIMELINE: Final[dict[str, Callable[[Sequence[RunResult], Timeline], Figure]]] = {
    "gpu_utilization": _gpu_utilization,
    "server_memory_growth": _server_memory_growth,
    "generator_memory_growth": _generator_memory_growth,
}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _queue_share(facts: Sequence[ModelFacts]) -> float:
    # The server adds to its counters while it reads them out.
    return min(1.0, _ratio(sum(it.queue_s for it in facts), sum(it.total_s for it in facts)))


def _queue_mean_ms(facts: Sequence[ModelFacts]) -> float:
    return _ratio(sum(it.queue_s for it in facts), sum(it.requests for it in facts)) * _MS_PER_S


def _compute_mean_ms(facts: Sequence[ModelFacts]) -> float:
    """Preparing inputs, running the model and preparing outputs."""
    compute_s = sum(it.compute_input_s + it.compute_infer_s + it.compute_output_s for it in facts)
    return _ratio(compute_s, sum(it.computed for it in facts)) * _MS_PER_S


def _batch_mean(facts: Sequence[ModelFacts]) -> float:
    rows = sum(size * count for it in facts for size, count in it.batches.items())
    return _ratio(rows, sum(count for it in facts for count in it.batches.values()))


_SERVER_VALUES: Final[dict[str, Callable[[Sequence[ModelFacts]], float]]] = {
    "queue_share": _queue_share,
    "queue_mean": _queue_mean_ms,
    "compute_mean": _compute_mean_ms,
    "batch_mean": _batch_mean,
}
