"""Gates: one sentence each about what a phase must show, judged with a reason.

::

    assertion = metric [ "(" workload ")" ] operator limit
    metric    = "p50" .. "p99.99" | "mean" | "max"        limit is a duration: 25ms
              | "errors" | "correct"                      limit is a share: 0.1%
              | "rate" | "throughput"                     limit is a rate: 100/s
    operator  = "<" | "<=" | ">" | ">="

``rate`` counts answered requests, ``throughput`` their rows. Latencies are those of answered requests. Without a
workload the gate judges all requests of the phase together.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tritonforge_load.quantities import rate_from_text, seconds_from_text, share_from_text
from tritonforge_load.results import GateResult, PhaseResult, WorkloadResult

_OPERATORS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SENTENCE: Final = re.compile(
    r"\s*(?P<metric>[a-z]+[0-9.]*)\s*(?:\(\s*(?P<workload>[^()]*?)\s*\))?\s*(?P<operator><=|>=|<|>)\s*(?P<limit>.+?)\s*"
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the limit of a metric is read and how its value is written."""

    limit_from_text: Callable[[object], float]
    text_from_value: Callable[[float], str]


_LATENCY: Final = _Kind(lambda text: seconds_from_text(text) * 1e3, lambda value: f"{value:.3g} ms")
_SHARE: Final = _Kind(share_from_text, lambda value: f"{value * 100:.3g} %")
_RATE: Final = _Kind(rate_from_text, lambda value: f"{value:.4g}/s")

_METRICS: Final[dict[str, tuple[_Kind, Callable[[WorkloadResult], float]]]] = {
    "mean": (_LATENCY, lambda row: row.mean_ms),
    "max": (_LATENCY, lambda row: row.max_ms),
    "errors": (_SHARE, lambda row: row.error_share),
    "correct": (_SHARE, lambda row: row.correct_share),
    "rate": (_RATE, lambda row: row.rate_per_s),
    "throughput": (_RATE, lambda row: row.rows_per_s),
}


@dataclass(frozen=True, slots=True)
class Assertion:
    """One parsed sentence.

    Attributes:
        text: The sentence as it was written.
        metric: Name of the metric, ``p99`` for a percentile.
        workload: Name of the workload; ``None`` judges all requests of the phase together.
        operator: ``<``, ``<=``, ``>`` or ``>=``.
        limit: Milliseconds, a share from 0 to 1, or a rate per second, as the metric wants.
    """

    text: str
    metric: str
    workload: str | None
    operator: str
    limit: float

    def judge(self, phase: PhaseResult) -> GateResult:
        """Judge one phase.

        Returns:
            The verdict. A metric that has no value, because nothing was answered or checked, fails the gate.
        """
        row = phase.total if self.workload is None else phase.row(self.workload)
        kind, value_of = _kind_and_value(self.metric)
        value = value_of(row)
        if math.isnan(value):
            nothing = "answer was checked" if self.metric == "correct" else "request was answered"
            return GateResult(phase.name, self.text, passed=False, value=None, reason=f"no {nothing}")
        passed = _OPERATORS[self.operator](value, self.limit)
        shown = kind.text_from_value(value)
        basis = f"{row.checked:,} checked rows" if self.metric == "correct" else f"{row.sent:,} requests"
        verdict = "is" if passed else "is not"
        reason = f"{shown} {verdict} {self.operator} {kind.text_from_value(self.limit)} ({basis})"
        return GateResult(phase.name, self.text, passed=passed, value=value, reason=reason)


def assertion_from_text(text: str) -> Assertion:
    """Parse one sentence.

    Args:
        text: For example ``"p99(digits) < 25ms"``.

    Raises:
        ValueError: It is none; the message says which part.
    """
    match = _SENTENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a sentence like 'p99(digits) < 25ms', got {text!r}")
    kind, _ = _kind_and_value(match["metric"])
    try:
        limit = kind.limit_from_text(match["limit"])
    except ValueError as error:
        raise ValueError(f"{match['metric']}: {error}") from error
    return Assertion(text.strip(), match["metric"], match["workload"], match["operator"], limit)


def _kind_and_value(metric: str) -> tuple[_Kind, Callable[[WorkloadResult], float]]:
    known = _METRICS.get(metric)
    if known is not None:
        return known
    percent = re.fullmatch(r"p([0-9]{1,2}(?:\.[0-9]+)?)", metric)
    if percent is None or not 0 < float(percent[1]) < 100:
        raise ValueError(f"expected one of p50, p99, p99.9, {', '.join(_METRICS)}, got {metric!r}")
    return _LATENCY, lambda row: row.percentile_ms(float(percent[1]))
