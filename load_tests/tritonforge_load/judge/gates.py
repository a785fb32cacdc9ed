"""Gates: what a campaign's sentences say of what was measured, with a reason for every verdict.

- ``pass`` and ``fail``: the sentence holds, or does not. Of a percentile, of a share, and of the mean of repeated runs
  that is said with the confidence of the gate; other figures are compared as they are.
- ``inconclusive``: too little was measured or observed to tell.
- ``invalid``: the generator, not the server, was the limit in that phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from tritonforge_load.campaign.assertion import SEARCH_METRICS, Assertion, assertion_from_text
from tritonforge_load.campaign.file import Campaign, Gate
from tritonforge_load.campaign.phases import Search
from tritonforge_load.judge.compare import changes_between
from tritonforge_load.judge.figures import Figure, figure_of, row_of, row_value, share_counts
from tritonforge_load.judge.noise import SHARES
from tritonforge_load.judge.samples import needed_for_share, needed_requests
from tritonforge_load.judge.told import Told, told_of_percentile, told_of_repeats, told_of_share, told_of_value
from tritonforge_load.measure.results import CampaignResult, GateResult, PhaseResult, RunResult, SearchOutcome, Verdict
from tritonforge_load.observe.timeline import Timeline

_OF_REPEATS: Final = frozenset({"mean", "rate", "throughput"})

_Judged: TypeAlias = tuple[Verdict, "float | None", str]


def judge_gates(
    campaign: Campaign, phases: Sequence[PhaseResult], timeline: Timeline, baseline: CampaignResult | None
) -> tuple[GateResult, ...]:
    """Judge every gate of a campaign on every phase that it names.

    Args:
        campaign: The campaign.
        phases: The measured phases; gates on one that was not played are inconclusive.
        timeline: What was observed of the server.
        baseline: The earlier run that gates compare with.
    """
    played = {phase.name: phase for phase in phases if phase.runs}
    results = []
    for gate in campaign.gates:
        for declared in campaign.phases_of(gate):
            phase = played.get(declared.name)
            judged: _Judged = ("inconclusive", None, "the phase was not played")
            if phase is not None:
                judged = _Judge(campaign, gate, gate.parsed, phase, timeline, baseline).judged()
            results.append(GateResult(declared.name, gate.parsed.text, *judged))
    return tuple(results)


def requests_for_gate(gate: Gate) -> int | None:
    """The fewest requests with which a gate can pass: when all of them are as the gate wants them.

    Args:
        gate: The gate.

    Returns:
        ``None`` for a gate that any number of requests decides, or whose limit is not known beforehand.
    """
    assertion, percent = gate.parsed, gate.parsed.percent
    is_upper = assertion.operator in {"<", "<="}
    if assertion.relative_to_baseline:
        return None
    if percent is not None:
        return needed_requests(percent if is_upper else 100 - percent, gate.confidence)
    if assertion.metric not in SHARES or not 0 < assertion.limit < 1:
        return None
    return needed_for_share(assertion.limit if is_upper else 1 - assertion.limit, gate.confidence)


def step_failures(search: Search, run: RunResult, campaign: Campaign, timeline: Timeline) -> tuple[str, ...]:
    """Why one load of a search did not hold: the assertions that its run does not keep.

    One run is judged by its figures as they are; playing the load that was found again confirms it.

    Args:
        search: The search.
        run: What was measured at the load.
        campaign: The campaign.
        timeline: What was observed of the server.

    Returns:
        A reason for each assertion that does not hold; empty when all do.
    """
    failures = []
    for text in search.until:
        assertion = assertion_from_text(text)
        name = assertion.metric if assertion.workload is None else f"{assertion.metric}({assertion.workload})"
        figure = figure_of(assertion.metric, assertion.workload, [run], campaign, timeline)
        if figure.value is None:
            failures.append(f"{name}: {figure.absent}")
        elif not told_of_value(assertion, figure.value, assertion.limit):
            failures.append(f"{name}: {_sentence(assertion, figure.value, assertion.limit, holds=False)}")
    return tuple(failures)


@dataclass(frozen=True, slots=True)
class _Limit:
    """What a value is compared with.

    Attributes:
        value: In the unit of the metric; ``None`` if there is none.
        text: Where it comes from, to be said behind it; why there is none.
    """

    value: float | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Judge:
    """One gate on one phase."""

    campaign: Campaign
    gate: Gate
    assertion: Assertion
    phase: PhaseResult
    timeline: Timeline
    baseline: CampaignResult | None

    def judged(self) -> _Judged:
        """Verdict, value and reason."""
        if self.phase.invalid:
            return "invalid", None, "the phase is invalid"  # for reasons that stand with the phase, once for all gates
        search = self.phase.search
        if search is not None and search.found is None:
            # Where the generator was the limit, nothing is known of the server.
            return ("fail" if search.is_limit else "inconclusive"), None, f"no load held: {search.reason}"
        if self.assertion.metric in SEARCH_METRICS:
            return self._of_search(search)
        figure = self._figure(self.phase, self.timeline)
        if figure.value is None:
            return ("inconclusive" if not figure.observed else "fail"), None, figure.absent
        limit = self._limit()
        if limit.value is None:
            return "inconclusive", figure.value, limit.text
        if self.gate.condition == "significant":
            return self._if_significant(figure.value, limit.value, f"{limit.text} ({figure.basis})")
        told = self._told(figure.value, limit.value)
        if told.holds is None:
            shown, wanted = self.assertion.kind.texts_apart(figure.value, limit.value)
            asked = f"{shown} for {self.assertion.operator} {wanted}{limit.text}"
            doubt = f"cannot be told with {self.gate.confidence * 100:g} % confidence: {told.doubt}"
            return "inconclusive", figure.value, f"{asked} {doubt}"
        reason = f"{_sentence(self.assertion, figure.value, limit.value, holds=told.holds)}{limit.text}"
        return ("pass" if told.holds else "fail"), figure.value, f"{reason} ({figure.basis})"

    def _figure(self, phase: PhaseResult, timeline: Timeline) -> Figure:
        return figure_of(self.assertion.metric, self.assertion.workload, phase.judged_runs, self.campaign, timeline)

    def _told(self, value: float, limit: float) -> Told:
        """Whether the sentence holds, with the gate's confidence where the metric is a sample's."""
        assertion, runs, confidence = self.assertion, self.phase.judged_runs, self.gate.confidence
        if assertion.percent is not None:
            latency = row_of(runs, assertion.workload).cell.latency
            return told_of_percentile(assertion, latency, assertion.percent, limit, confidence)
        if assertion.metric in SHARES:
            hits, total = share_counts(assertion.metric, row_of(runs, assertion.workload))
            unit = "checked rows" if assertion.metric == "correct" else "requests"
            return told_of_share(assertion, hits, total, limit, confidence, unit=unit)
        if assertion.metric in _OF_REPEATS and len(runs) > 1:
            values = [row_value(assertion.metric, run.row(assertion.workload)) for run in runs]
            if any(math.isnan(each) for each in values):
                return Told(holds=False)
            return told_of_repeats(assertion, values, limit, confidence)
        return Told(told_of_value(assertion, value, limit))

    def _of_search(self, search: SearchOutcome | None) -> _Judged:
        """A search tells the limit from both sides, unless it ended before the server did."""
        if search is None or search.found is None:
            return "inconclusive", None, "the search has no outcome"
        assertion, found, limit = self.assertion, search.found, self._limit()
        if limit.value is None:
            return "inconclusive", found, limit.text
        holds = told_of_value(assertion, found, limit.value)
        # The server may hold more than was found: only what more would not change is known.
        if not search.is_limit and holds != (assertion.operator in {">", ">="}):
            reason = f"at least {assertion.kind.text_from_value(found)}; more is not known: {search.reason}"
            return "inconclusive", found, reason
        reason = f"{_sentence(assertion, found, limit.value, holds=holds)}{limit.text} ({search.reason})"
        return ("pass" if holds else "fail"), found, reason

    def _limit(self) -> _Limit:
        """The limit; with the baseline's value in it where it is relative to that."""
        assertion = self.assertion
        if not assertion.relative_to_baseline:
            return _Limit(assertion.limit)
        then = self._then()
        if isinstance(then, str):
            return _Limit(None, then)
        phase, timeline = then
        if assertion.metric in SEARCH_METRICS:
            search = phase.search
            found = search.found if search is not None and assertion.metric == f"max_{search.over}" else None
            figure = Figure(found, absent="its search found none")
        else:
            figure = self._figure(phase, timeline)
        if figure.value is None:
            return _Limit(None, f"the baseline has no {assertion.metric}: {figure.absent}")
        shown = assertion.kind.text_from_value(figure.value)
        return _Limit(assertion.limit * figure.value, f", {assertion.limit:g} times the baseline's {shown}")

    def _then(self) -> tuple[PhaseResult, Timeline] | str:
        """The phase in the baseline with what was observed, or why there is none to compare with."""
        if self.baseline is None:
            return "there is no baseline"
        phase = next((phase for phase in self.baseline.phases if phase.name == self.phase.name), None)
        if phase is None:
            return "the baseline has no such phase"
        if phase.invalid:
            return f"the baseline's phase is invalid: {'; '.join(phase.invalid)}"
        if self.assertion.workload not in {None, *(row.workload for row in phase.rows)}:
            return f"the baseline has no workload {self.assertion.workload} in this phase"
        return phase, self.baseline.timeline

    def _if_significant(self, value: float, limit: float, where: str) -> _Judged:
        """A difference from the baseline that noise would make too passes."""
        assertion, confidence = self.assertion, self.gate.confidence
        holds = told_of_value(assertion, value, limit)
        reason = f"{_sentence(assertion, value, limit, holds=holds)}{where}"
        if holds:
            return "pass", value, reason
        unknown = f"{reason}, but how much of that is noise is not known"
        then = self._then()
        if isinstance(then, str):
            return "inconclusive", value, f"{unknown}: {then}"
        metrics, sides = [assertion.metric], (then[0].judged_runs, self.phase.judged_runs)
        changes = changes_between(metrics, *sides, assertion.workload, phase=self.phase.name, confidence=confidence)
        if not changes or changes[0].basis is None:
            return "inconclusive", value, f"{unknown}: {changes[0].reason}" if changes else unknown
        noise = f"the noise is ±{changes[0].noise * 100:.3g} %, learned from {changes[0].basis}"
        if changes[0].chance > 1 - confidence:
            return "pass", value, f"{reason}, but that is within the noise ({noise})"
        return "fail", value, f"{reason}, and that is more than noise ({noise})"


def _sentence(assertion: Assertion, value: float, limit: float, *, holds: bool) -> str:
    shown, wanted = assertion.kind.texts_apart(value, limit)
    return f"{shown} {'is' if holds else 'is not'} {assertion.operator} {wanted}"
