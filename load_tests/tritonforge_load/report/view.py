"""What every form of a report says of a result: its rows, and words for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tritonforge_load.judge.repeats import Interval, interval_of
from tritonforge_load.measure import CampaignResult, PhaseResult, RunResult, SearchStep, Verdict, WorkloadResult
from tritonforge_load.observe.models import ModelFacts

VERDICT_WORDS: Final[dict[Verdict, str]] = {
    "pass": "Passed",
    "fail": "Failed",
    "invalid": "Invalid",
    "inconclusive": "Inconclusive",
}
TOGETHER: Final = "all together"
"""Name of the row of all workloads."""

FROM_THE_SCHEDULE: Final = (
    "Latencies count from the moment at which a request was due; service p99 counts from the moment at which it was "
    "sent, and is lower by what the request waited in the load generator."
)
TOO_FEW: Final = "A percentile that less than one request is above is left out."

_REPEATED: Final[dict[str, Callable[[WorkloadResult], float]]] = {
    "rate_per_s": lambda row: row.rate_per_s,
    "p50_ms": lambda row: row.percentile_ms(50),
    "p95_ms": lambda row: row.percentile_ms(95),
    "p99_ms": lambda row: row.percentile_ms(99),
}


@dataclass(frozen=True)
class PhaseRow:
    """One workload in one phase, all its judged runs together.

    Attributes:
        phase: The phase.
        name: The workload, or ``TOGETHER``.
        row: Its figures.
        intervals: Student's intervals over the runs, by figure; empty for a single run.
    """

    phase: PhaseResult
    name: str
    row: WorkloadResult
    intervals: dict[str, Interval] = field(default_factory=dict)


def phase_rows(result: CampaignResult) -> list[PhaseRow]:
    """One row a phase and workload, and one for all of a phase's workloads together where it has several."""
    rows = []
    for phase in result.phases:
        names = [row.workload for row in phase.rows]
        rows += [_phase_row(phase, name, name) for name in names]
        if len(names) > 1:
            rows.append(_phase_row(phase, TOGETHER, None))
    return rows


def _phase_row(phase: PhaseResult, name: str, workload: str | None) -> PhaseRow:
    answered = [row for row in (run.row(workload) for run in phase.judged_runs) if row.answered > 0]
    intervals = {}
    if len(answered) > 1:
        intervals = {figure: interval_of([value(row) for row in answered]) for figure, value in _REPEATED.items()}
    return PhaseRow(phase, name, phase.row(workload), intervals)


def told_ms(row: WorkloadResult, percent: float) -> float | None:
    """A percentile, if at least one request is above it; ``None`` if not."""
    # Rounded, because 10,000 requests are enough for the 99.99th percentile.
    enough = round(row.answered * (100 - percent) / 100, 6) >= 1
    return row.percentile_ms(percent) if enough else None


def known(value: float) -> float | None:
    """``None`` for what is not a number."""
    return None if math.isnan(value) else value


def load_words(run: RunResult) -> str:
    """The load of a run: ``closed, 4 users``."""
    if run.users is not None:
        return f"{run.arrival}, {run.users:,} user{'s' if run.users != 1 else ''}"
    return run.arrival if run.rate_per_s is None else f"{run.arrival}, {run.rate_per_s:,.6g}/s"


def phase_words(phase: PhaseResult) -> str:
    """The load of a phase: ``poisson, 200/s, 3 runs of 30 s``."""
    if not phase.runs:
        return "not played"
    first, count = phase.runs[0], len(phase.runs)
    if phase.search is not None:
        loads = f"{count} load{'s' if count != 1 else ''} of {first.duration_s:g} s"
        return f"{phase.arrival}, search over {phase.search.over}, {loads}"
    runs = f"{count} runs of " if count > 1 else ""
    return f"{load_words(first)}, {runs}{first.duration_s:g} s"


def achieved_share(run: RunResult) -> float | None:
    """Sent and shed of what was due; ``None`` for users."""
    due = run.generator.scheduled
    return (run.total.sent + run.total.shed) / due if due else None


def failures_of(result: CampaignResult) -> tuple[str, ...]:
    """One sentence for whatever keeps the campaign from passing.

    An invalid phase is said once, not again for each of its gates.
    """
    reasons = {phase.name: "; ".join(phase.invalid) for phase in result.phases if phase.invalid}
    invalid = [f"{name} is invalid: {reason}" for name, reason in reasons.items()]
    gates = [
        f"{gate.assertion} in {gate.phase}: {'' if gate.verdict == 'fail' else gate.verdict + ': '}{gate.reason}"
        for gate in result.gates
        if not gate.passed and not (gate.verdict == "invalid" and gate.phase in reasons)
    ]
    return (*result.problems, *invalid, *gates)


def model_rows(phase: PhaseResult) -> list[ModelFacts]:
    """The server's side of a phase, one entry a model, over its judged runs."""
    by_model: dict[str, list[ModelFacts]] = {}
    for run in phase.judged_runs:
        for facts in run.models:
            by_model.setdefault(facts.model, []).append(facts)
    return [_together(facts) for facts in by_model.values()]


def _together(parts: list[ModelFacts]) -> ModelFacts:
    batches: dict[int, int] = {}
    for part in parts:
        for rows, count in part.batches.items():
            batches[rows] = batches.get(rows, 0) + count
    rejected = [part.rejected for part in parts if part.rejected is not None]
    return ModelFacts(
        model=parts[0].model,
        requests=sum(part.requests for part in parts),
        rows=sum(part.rows for part in parts),
        executions=sum(part.executions for part in parts),
        failed=sum(part.failed for part in parts),
        rejected=sum(rejected) if len(rejected) == len(parts) else None,
        cache_hits=sum(part.cache_hits for part in parts),
        cache_misses=sum(part.cache_misses for part in parts),
        computed=sum(part.computed for part in parts),
        total_s=sum(part.total_s for part in parts),
        queue_s=sum(part.queue_s for part in parts),
        compute_input_s=sum(part.compute_input_s for part in parts),
        compute_infer_s=sum(part.compute_infer_s for part in parts),
        compute_output_s=sum(part.compute_output_s for part in parts),
        cache_s=sum(part.cache_s for part in parts),
        batches=dict(sorted(batches.items())),
        step_of=parts[0].step_of,
        incomplete="; ".join(_each_once(part.incomplete for part in parts)),
    )


def _each_once(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))


@dataclass(frozen=True)
class Tried:
    """One load that a search tried.

    Attributes:
        step: What came of it.
        run: Its run; ``None`` where it is not in the result.
    """

    step: SearchStep
    run: RunResult | None

    @property
    def total(self) -> WorkloadResult | None:
        """What was measured at it, all workloads together."""
        return None if self.run is None else self.run.total

    @property
    def is_invalid(self) -> bool:
        """Whether the load generator, not the server, did not hold the load."""
        return self.run is not None and bool(self.run.invalid)


def tried_of(phase: PhaseResult) -> list[Tried]:
    """The loads that a phase's search tried, in order; empty for other phases."""
    if phase.search is None:
        return []
    runs = {run.run: run for run in phase.runs}
    return [Tried(step, runs.get(step.run)) for step in phase.search.steps]


def found_words(phase: PhaseResult) -> str:
    """What a phase's search found, in words; empty for other phases."""
    if phase.search is None:
        return ""
    found, rate = phase.search.found, phase.search.over == "rate"
    if found is None:
        return f"No load held: {phase.search.reason}"
    load = f"{found:,.6g}/s" if rate else f"{found:,.0f} user{'s' if found != 1 else ''}"
    least = "" if phase.search.is_limit else "at least "
    return f"The highest load that held is {least}{load}: {phase.search.reason}"
