"""Two campaigns compared: what became better or worse beyond the noise, and what cannot be told.

A difference counts when it is larger than the tolerance and when noise would hardly make it. As many figures are
compared, and one in twenty would be off by chance alone, the whole comparison is held to the chance of an error: the
procedure of Y. Benjamini and Y. Hochberg (Journal of the Royal Statistical Society B 57, 1995). A difference within
the tolerance is none where the noise is within the tolerance too. What remains is unknown: the noise could hide a
difference that matters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from tritonforge_load.judge.distributions import student_quantile, student_two_sided
from tritonforge_load.judge.figures import row_of, row_value
from tritonforge_load.judge.limits import limits_apart
from tritonforge_load.judge.noise import SHARES, Basis, Noise, Runs, noises_between, scaled
from tritonforge_load.measure.results import CampaignResult, PhaseResult, SearchStep

ChangeVerdict: TypeAlias = Literal["better", "worse", "same", "unknown"]

_MORE_IS_BETTER: Final = frozenset({"rate", "throughput", "correct", "max_rate", "max_users"})


@dataclass(frozen=True, slots=True)
class Change:
    """How one figure differs.

    Attributes:
        phase: Name of the phase.
        workload: Name of the workload; ``None`` for all together.
        metric: The metric, as gates name it.
        before: Its value in the first campaign (ms, share from 0 to 1, per second); ``None`` if it has none.
        after: Its value in the second campaign.
        change: ``after / before - 1``; of shares ``after - before``; not a number where a value is missing.
        low: Lower end of the interval in which the change lies with the confidence of the comparison.
        high: Upper end.
        basis: From what the noise was learned: ``repeats``, ``seconds``, ``requests``, or the steps of a ``search``;
            ``None`` when it is not known.
        chance: Probability that noise alone makes a difference as large; not a number when it is not known.
        verdict: What it means.
        reason: Why, in words.
    """

    phase: str
    workload: str | None
    metric: str
    before: float | None
    after: float | None
    change: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    basis: Basis | Literal["search"] | None = None
    chance: float = math.nan
    verdict: ChangeVerdict = "unknown"
    reason: str = ""

    @property
    def is_share(self) -> bool:
        """Whether the change is a difference of shares, not relative."""
        return self.metric in SHARES

    @property
    def noise(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two campaigns compared.

    Attributes:
        before: Name of the first campaign, and when it was run.
        after: The same of the second.
        changes: Every figure that both have, in order.
        not_compared: Phases, or ``phase: workload``, that are not compared, with the reason.
        differences: What else differs between the two, in words.
        tolerance: Relative difference that does not matter.
        confidence: Probability with which intervals hold.
    """

    before: str
    after: str
    changes: tuple[Change, ...]
    not_compared: dict[str, str]
    differences: tuple[str, ...]
    tolerance: float
    confidence: float

    @property
    def verdict(self) -> ChangeVerdict:
        """Worse when any figure is; else better when any is; the same when all are; else unknown."""
        verdicts = {change.verdict for change in self.changes}
        if "worse" in verdicts:
            return "worse"
        if "better" in verdicts:
            return "better"
        return "same" if verdicts == {"same"} and not self.not_compared else "unknown"

    @property
    def exit_code(self) -> int:
        """3 when something is worse, else 0."""
        return 3 if self.verdict == "worse" else 0


def compare(
    a: CampaignResult,
    b: CampaignResult,
    *,
    percents: Sequence[float] = (50.0, 95.0, 99.0),
    tolerance: float = 0.05,
    confidence: float = 0.95,
) -> Comparison:
    """Compare a campaign with an earlier one.

    Args:
        a: The earlier one.
        b: The later one.
        percents: Latency percentiles that are compared, each above 0 and below 100.
        tolerance: Relative difference of a rate or latency that does not matter; shares have none.
        confidence: Probability with which each interval holds, and with which nothing is found in two campaigns that
            differ by noise alone.
    """
    metrics = [*(f"p{percent:g}" for percent in percents), "errors", "shed", "correct"]
    changes: list[Change] = []
    not_compared: dict[str, str] = {}
    theirs = {phase.name: phase for phase in b.phases}
    for phase in a.phases:
        other = theirs.pop(phase.name, None)
        reason = "only in the first" if other is None else _unfit(phase, other)
        if other is None or reason:
            not_compared[phase.name] = reason
        elif phase.search is not None and other.search is not None:
            changes.append(_change_of_search(phase, other, confidence))
        else:
            changes += _changes_of_phase(phase, other, metrics, confidence, not_compared)
    not_compared |= dict.fromkeys(theirs, "only in the second")
    significant = _significant(changes, 1 - confidence)
    judged = (_judged(change, is_real, tolerance) for change, is_real in zip(changes, significant, strict=True))
    return Comparison(
        _title(a), _title(b), tuple(judged), not_compared, tuple(_differences(a, b)), tolerance, confidence
    )


def changes_between(
    metrics: Sequence[str], before: Runs, after: Runs, workload: str | None, *, phase: str, confidence: float = 0.95
) -> list[Change]:
    """How figures of one workload differ between runs, not judged yet.

    Args:
        metrics: Metrics of requests; one that neither side has is left out, and ``shed`` where nothing was.
        before: Runs of one side, at least one.
        after: Runs of the other side, at least one.
        workload: A workload; ``None`` for all together.
        phase: Name of the phase.
        confidence: Probability with which the intervals hold.
    """
    rows = [row_of(runs, workload) for runs in (before, after)]
    values = {metric: [row_value(metric, row) for row in rows] for metric in metrics}
    present = [
        metric for metric in metrics
        if not all(math.isnan(value) or (metric == "shed" and value == 0) for value in values[metric])
    ]  # fmt: skip
    noises = noises_between(present, before, after, workload)
    changes = []
    for metric in present:
        before_value, after_value = (None if math.isnan(value) else value for value in values[metric])
        change = Change(phase, workload, metric, before_value, after_value)
        changes.append(_sized(change, noises[metric], confidence))
    return changes


def _sized(change: Change, noise: Noise | str, confidence: float) -> Change:
    """The change with its size and, where the noise is known, its interval and chance."""
    if change.before is None or change.after is None:
        return replace(change, reason=f"there is no {change.metric} on one side")
    metric = change.metric
    difference = scaled(metric, change.after) - scaled(metric, change.before)
    change = replace(change, change=_unscaled(metric, difference))
    if isinstance(noise, str):
        return replace(change, reason=noise)
    if math.isnan(difference):
        return replace(change, reason=f"the {metric} of one side is 0")
    margin = student_quantile(confidence, noise.freedom) * noise.error
    low, high = (_unscaled(metric, difference + by) for by in (-margin, margin))
    if noise.error > 0:
        chance = student_two_sided(difference / noise.error, noise.freedom)
    else:
        chance = 1.0 if difference == 0 else 0.0
    return replace(change, low=low, high=high, basis=noise.basis, chance=chance)


def _unscaled(metric: str, difference: float) -> float:
    return difference if metric in SHARES else math.expm1(min(difference, 700.0))


def _changes_of_phase(
    before: PhaseResult, after: PhaseResult, metrics: list[str], confidence: float, not_compared: dict[str, str]
) -> Iterator[Change]:
    ours, theirs = ([row.workload for row in phase.rows] for phase in (before, after))
    for name in dict.fromkeys([*ours, *theirs]):
        if name not in ours or name not in theirs:
            not_compared[f"{before.name}: {name}"] = f"only in the {'first' if name in ours else 'second'}"
    shared = [name for name in ours if name in theirs]
    # All together is one workload where there is only one, and not the same where the workloads are not.
    together = [None] if ours == theirs and len(shared) > 1 else []
    # The rate of open arrivals is their schedule's; what was not answered of it are errors.
    wanted = metrics if before.runs[0].users is None else ["rate", *metrics]
    for workload in (*shared, *together):
        yield from changes_between(
            wanted, before.judged_runs, after.judged_runs, workload, phase=before.name, confidence=confidence
        )


def _unfit(before: PhaseResult, after: PhaseResult) -> str:
    """Why two phases cannot be compared; empty when they can."""
    for which, phase in (("first", before), ("second", after)):
        if phase.invalid:
            return f"invalid in the {which}: {'; '.join(phase.invalid)}"
        if not phase.runs:
            return f"not played in the {which}"
    loads = [_load(phase) for phase in (before, after)]
    return "" if loads[0] == loads[1] else f"another load: {loads[0]}, then {loads[1]}"


def _load(phase: PhaseResult) -> str:
    if phase.search is not None:
        return f"search over {phase.search.over}"
    run = phase.runs[0]
    return f"{run.users} users" if run.rate_per_s is None else f"{run.arrival} {run.rate_per_s:.4g}/s"


def _change_of_search(before: PhaseResult, after: PhaseResult, confidence: float) -> Change:
    """How the limits that were found differ, by all steps in which the server could be the limit."""
    searches = [phase.search for phase in (before, after) if phase.search is not None]
    found = [search.found for search in searches]
    metric = f"max_{searches[0].over}"
    change = Change(before.name, None, metric, found[0], found[1])
    if found[0] is not None and found[1] is not None:
        change = replace(change, change=found[1] / found[0] - 1)
    ours, theirs = _steps_of(before), _steps_of(after)
    if not ours or not theirs:
        return replace(change, reason="the generator was the limit at all loads of one side")
    low, high, chance = limits_apart(ours, theirs, confidence)
    return replace(change, low=low, high=high, basis="search", chance=chance)


def _steps_of(phase: PhaseResult) -> list[SearchStep]:
    valid = {run.run for run in phase.runs if not run.invalid}
    return [step for step in (phase.search.steps if phase.search is not None else ()) if step.run in valid]


def _significant(changes: Sequence[Change], level: float) -> list[bool]:
    """Benjamini and Hochberg: of all that is called significant, the expected share of errors is at most the level.

    What searches found is judged by itself: their few steps make no chance small enough to count among many.
    """
    ordered = sorted(change.chance for change in changes if change.basis not in {None, "search"})
    kept = [chance for rank, chance in enumerate(ordered, 1) if chance <= level * rank / len(ordered)]
    limit = max(kept, default=-1.0)
    return [change.chance <= (level if change.basis == "search" else limit) for change in changes]


def _judged(change: Change, is_real: bool, tolerance: float) -> Change:
    tolerated = 0.0 if change.is_share else tolerance
    # Without a value on one side there is no change to tell; the interval may still be on one side of 0.
    size = min(abs(change.low), abs(change.high)) if math.isnan(change.change) else abs(change.change)
    if is_real and size > tolerated:
        is_more = change.low > 0 if math.isnan(change.change) else change.change > 0
        is_better = is_more == (change.metric in _MORE_IS_BETTER)
        return replace(change, verdict="better" if is_better else "worse", reason="more than noise and tolerance")
    if change.is_share and change.basis is not None:
        return replace(change, verdict="same", reason="no more than noise")
    if abs(change.change) <= tolerance and change.noise <= tolerance:
        return replace(change, verdict="same", reason="within the tolerance, as is the noise")
    return change if change.reason else replace(change, reason=_why_unknown(change, tolerance))


def _why_unknown(change: Change, tolerance: float) -> str:
    if change.basis == "search" and math.isinf(change.noise):
        return "no limit was found: raise to"
    action = "confirm more often" if change.basis == "search" else "play longer, or repeat more often"
    return f"the noise is ±{change.noise * 100:.3g} %, the tolerance {tolerance * 100:.3g} %: {action}"


def _title(result: CampaignResult) -> str:
    return f"{result.campaign} {result.started_at}".strip()


def _differences(a: CampaignResult, b: CampaignResult) -> Iterator[str]:
    pairs = {"campaign": (a.campaign, b.campaign), "target": (a.target, b.target), "seed": (a.seed, b.seed)}
    for name in sorted({*a.versions, *b.versions}):
        pairs[f"version of {name}"] = (a.versions.get(name, "none"), b.versions.get(name, "none"))
    workers = [sorted({run.generator.workers for phase in it.phases for run in phase.runs}) for it in (a, b)]
    pairs["workers"] = (workers[0], workers[1])
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            yield f"{name}: {ours}, then {theirs}"
    for which, result in (("first", a), ("second", b)):
        for problem in result.problems:
            yield f"problem of the {which}: {problem}"
        for run in (run for phase in result.phases for run in phase.runs):
            for reason in run.unsteady:
                yield f"{run.run} of the {which} was not steady: {reason}"
