"""Whether enough will be measured to decide each gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tritonforge_load.campaign import Assertion, Campaign, Gate, Phase, SearchPhase, assertion_from_text
from tritonforge_load.campaign.assertion import OBSERVED_METRICS, SEARCH_METRICS
from tritonforge_load.judge.gates import requests_for_gate
from tritonforge_load.judge.samples import share_below, share_over

Decidable: TypeAlias = Literal["yes", "no", "depends"]


@dataclass(frozen=True, slots=True)
class GatePlan:
    """One gate on one phase, or one assertion by which a search judges each of its loads.

    Attributes:
        phase: Name of the phase.
        assertion: The sentence.
        decidable: Whether it can be decided; ``depends`` where that turns out under load.
        needed: Fewest requests (for ``correct`` checked rows) with which it can pass; ``None`` where any number does.
        expected: How many will be sent; ``None`` where that turns out under load.
        reason: Why.
    """

    phase: str
    assertion: str
    decidable: Decidable
    needed: int | None
    expected: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What a phase will send.

    Attributes:
        duration_s: Length of its judged runs together.
        requests: By workload; ``None`` where that turns out under load.
        at_least: Whether there may be more: the load of a search is not known before.
    """

    duration_s: float
    requests: Mapping[str, int] | None
    at_least: bool = False


def gates_of(campaign: Campaign, expected: Mapping[str, Expected], steps: Mapping[str, Expected]) -> Iterator[GatePlan]:
    """Plan every gate on every phase that it judges, and what searches judge each of their loads by.

    Args:
        campaign: The campaign.
        expected: What its phases will send, by their name.
        steps: What its searches will send at their first load, by their name.
    """
    for gate in campaign.gates:
        for phase in campaign.phases_of(gate):
            yield _plan_gate(campaign, phase, gate, expected[phase.name])
    for phase in campaign.phases:
        if isinstance(phase, SearchPhase):
            for text in phase.search.until:
                yield _plan_step(campaign, phase, assertion_from_text(text), steps[phase.name])


def _plan_gate(campaign: Campaign, phase: Phase, gate: Gate, expected: Expected) -> GatePlan:
    assertion = gate.parsed

    def told(decidable: Decidable, reason: str, needed: int | None = None, count: int | None = None) -> GatePlan:
        return GatePlan(phase.name, assertion.text, decidable, needed, count, reason)

    if assertion.metric in SEARCH_METRICS:
        return told("yes", _search_reason(phase, assertion))
    if assertion.metric in OBSERVED_METRICS:
        return told(*_observed(campaign, assertion.metric))
    if assertion.relative_to_baseline:
        return told("depends", "on the baseline's value")
    count, needed = _count(campaign, assertion, expected), requests_for_gate(gate)
    if needed is None:
        return told("yes", _plain_reason(campaign, assertion, expected), None, count)
    unit = "checked rows" if assertion.metric == "correct" else "requests"
    if count is None:
        rate = f"{needed / expected.duration_s:,.3g}/s"
        return told("depends", f"needs {needed:,} {unit} in {expected.duration_s:g} s, {rate}", needed)
    shown = f"{'at least ' if expected.at_least else ''}{count:,} {unit} expected, {needed:,} needed"
    if count < needed:
        return told("depends" if expected.at_least else "no", shown, needed, count)
    return told("yes", f"{shown}{_room(assertion, gate.confidence, count)}", needed, count)


def _observed(campaign: Campaign, metric: str) -> tuple[Decidable, str]:
    """Whether a metric that requests do not give is watched."""
    if metric == "generator_memory_growth":
        return "yes", "load generators always tell their memory"
    watched = campaign.observe.metrics if metric == "gpu_utilization" else campaign.observe.server
    if not watched:
        return "no", "observe turns it off"
    return "depends", "if the server is on this host" if metric == "server_memory_growth" else "if the server tells it"


def _plan_step(campaign: Campaign, phase: SearchPhase, assertion: Assertion, first: Expected) -> GatePlan:
    """Each load of a search is judged by its figures as they are, so any number decides; few make it a lottery."""
    count, reason = _count(campaign, assertion, first), "judged as measured at each load"
    if count is not None:
        reason = f"{reason}, {count:,} requests or more"
        fewest = 0 if assertion.percent is None else round(1 / share_over(assertion.percent))
        if count < fewest:
            reason = f"{reason}: of fewer than {fewest:,} that is the largest"
    return GatePlan(phase.name, assertion.text, "yes", None, count, reason)


def _room(assertion: Assertion, confidence: float, count: int) -> str:
    """How many requests may be over the limit of a percentile, in words."""
    if assertion.percent is None or assertion.operator not in {"<", "<="}:
        return ""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        passes = share_below(middle, count, share_over(assertion.percent), confidence=confidence)
        low, high = (middle, high) if passes else (low, middle)
    return f"; up to {low:,} may be over the limit"


def _count(campaign: Campaign, assertion: Assertion, expected: Expected) -> int | None:
    """Requests, or checked rows, that an assertion will judge."""
    if expected.requests is None:
        return None
    count = 0.0
    for entry in campaign.workload:
        if assertion.workload not in {None, entry.name}:
            continue
        per_request = 1.0
        if assertion.metric == "correct":
            per_request = 0.0 if entry.check is None else _rows(entry.batches) * entry.check.sample
        count += expected.requests[entry.name] * per_request
    return int(count)


def _rows(batches: tuple[int, ...]) -> float:
    """Rows a request, on average."""
    return sum(batches) / len(batches)


def _plain_reason(campaign: Campaign, assertion: Assertion, expected: Expected) -> str:
    is_rate = assertion.metric in {"rate", "throughput"} and assertion.operator in {">", ">="}
    if not is_rate or expected.requests is None or expected.at_least:
        return "any number of requests decides it"
    sent_per_s = (
        sum(
            expected.requests[entry.name] * (_rows(entry.batches) if assertion.metric == "throughput" else 1.0)
            for entry in campaign.workload
            if assertion.workload in {None, entry.name}
        )
        / expected.duration_s
    )
    shown, _ = assertion.kind.texts_apart(sent_per_s, assertion.limit)
    return f"{shown} are sent" if sent_per_s >= assertion.limit else f"fails: only {shown} are sent"


def _search_reason(phase: Phase, assertion: Assertion) -> str:
    if not isinstance(phase, SearchPhase) or assertion.operator not in {">", ">="} or assertion.relative_to_baseline:
        return "by what the search finds"
    if assertion.limit > phase.search.to:
        return f"cannot pass: the search ends at {assertion.kind.text_from_value(phase.search.to)}"
    return "by what the search finds"
