"""Sentences about what a phase must show, as gates and searches have them.

::

    assertion = metric [ "(" workload ")" ] operator limit
    metric    = "p50" .. "p99.99" | "mean" | "max"                     limit is a duration: 25ms
              | "queue_mean" | "compute_mean"
              | "errors" | "shed" | "correct" | "queue_share" | "gpu_utilization"      a share: 0.1%
              | "server_memory_growth" | "generator_memory_growth"
              | "rate" | "throughput" | "max_rate"                     a rate: 100/s
              | "batch_mean" | "max_users"                             a number: 4
    operator  = "<" | "<=" | ">" | ">="
    limit     = as the metric wants it, or  number "*" "baseline"

Latencies are those of answered requests, counted from the time at which they were to be sent. ``rate`` counts answered
requests, ``throughput`` their rows. ``queue_*``, ``compute_mean`` and ``batch_mean`` are the server's own figures,
``*_memory_growth`` says how much more memory the end of the phase takes than its beginning; ``max_*`` are what a search
found. Without a workload all requests of the phase are judged together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tritonforge_load.campaign.quantities import (
    rate_from_text,
    seconds_from_text,
    share_from_text,
    text_from_number,
    texts_apart,
)

_SENTENCE: Final = re.compile(
    r"\s*(?P<metric>[a-z_]+[0-9.]*)\s*(?:\(\s*(?P<workload>[^()]*?)\s*\))?\s*(?P<operator><=|>=|<|>)\s*(?P<limit>.+?)\s*"
)
_OF_BASELINE: Final = re.compile(r"(?:([0-9]+(?:\.[0-9]+)?)\s*\*\s*)?baseline")


@dataclass(frozen=True, slots=True)
class Kind:
    """How the limit of a metric is read and how its value is written.

    Attributes:
        limit_from_text: Reads the limit.
        unit: Written behind a value.
        factor: What a value is multiplied with to be written.
        digits: How many digits of it count.
    """

    limit_from_text: Callable[[object], float]
    unit: str = ""
    factor: float = 1.0
    digits: int = 3

    def text_from_value(self, value: float) -> str:
        """Write a value with its unit."""
        return text_from_number(value * self.factor, self.digits) + self.unit

    def texts_apart(self, value: float, limit: float) -> tuple[str, str]:
        """Write a value and its limit with as many digits as tell the two apart."""
        shown, wanted = texts_apart(value * self.factor, limit * self.factor, self.digits)
        return shown + self.unit, wanted + self.unit


def _number_from_text(text: object) -> float:
    if not isinstance(text, str) or re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) is None:
        raise ValueError(f"expected a number like 4, got {text!r}")
    return float(text)


_LATENCY: Final = Kind(lambda text: seconds_from_text(text) * 1e3, " ms")
_SHARE: Final = Kind(share_from_text, " %", factor=100.0)
_RATE: Final = Kind(rate_from_text, "/s", digits=4)
_NUMBER: Final = Kind(_number_from_text)

METRICS: Final[dict[str, Kind]] = {
    "mean": _LATENCY,
    "max": _LATENCY,
    "queue_mean": _LATENCY,
    "compute_mean": _LATENCY,
    "errors": _SHARE,
    "shed": _SHARE,
    "correct": _SHARE,
    "queue_share": _SHARE,
    "gpu_utilization": _SHARE,
    "server_memory_growth": _SHARE,
    "generator_memory_growth": _SHARE,
    "rate": _RATE,
    "throughput": _RATE,
    "max_rate": _RATE,
    "batch_mean": _NUMBER,
    "max_users": _NUMBER,
}
"""Every metric but the percentiles."""

SENTENCE_SCHEMA: Final[dict[str, Any]] = {
    "pattern": rf"^\s*(p[0-9]{{1,2}}(\.[0-9]+)?|{'|'.join(METRICS)})\s*(\([^()]*\))?\s*(<=|>=|<|>)\s*\S",
    "examples": ["p99(digits) < 25ms", "errors < 0.1%"],
}
"""What the JSON Schema says of a sentence, for editors: more than that it is text, less than the grammar."""

MODEL_METRICS: Final = frozenset({"queue_mean", "compute_mean", "queue_share", "batch_mean"})
"""Metrics of the server's own counters of its models."""

TIMELINE_METRICS: Final = frozenset({"gpu_utilization", "server_memory_growth", "generator_memory_growth"})
"""Metrics of what was observed beside the requests, second by second."""

OBSERVED_METRICS: Final = MODEL_METRICS | TIMELINE_METRICS
"""Metrics that requests do not give."""

SEARCH_METRICS: Final = frozenset({"max_rate", "max_users"})
"""Metrics of a search as a whole."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One parsed sentence.

    Attributes:
        text: The sentence as it was written.
        metric: Name of the metric, ``p99`` for a percentile.
        workload: Name of the workload; ``None`` judges all requests of the phase together.
        operator: ``<``, ``<=``, ``>`` or ``>=``.
        limit: Milliseconds, a share from 0 to 1, a rate per second or a number, as the metric wants; a factor where it
            is relative to a baseline.
        relative_to_baseline: Whether the limit is a factor of the baseline's value.
    """

    text: str
    metric: str
    workload: str | None
    operator: str
    limit: float
    relative_to_baseline: bool = False

    @property
    def percent(self) -> float | None:
        """The percentile that is judged; ``None`` for other metrics."""
        return percent_of(self.metric)

    @property
    def kind(self) -> Kind:
        """How limit and value are written."""
        return METRICS.get(self.metric, _LATENCY)


def percent_of(metric: str) -> float | None:
    """99.9 for ``p99.9``; ``None`` for a metric that is no percentile."""
    match = re.fullmatch(r"p([0-9]{1,2}(?:\.[0-9]+)?)", metric)
    return float(match[1]) if match is not None and float(match[1]) > 0 else None


def assertion_from_text(text: str) -> Assertion:
    """Parse one sentence.

    Args:
        text: For example ``"p99(digits) < 25ms"`` or ``"p95 <= 1.1 * baseline"``.

    Raises:
        ValueError: It is none; the message says which part.
    """
    match = _SENTENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a sentence like 'p99(digits) < 25ms', got {text!r}")
    metric, limit = match["metric"], match["limit"]
    if metric not in METRICS and percent_of(metric) is None:
        raise ValueError(f"expected one of p50, p99, p99.9, {', '.join(METRICS)}, got {metric!r}")
    relative = _OF_BASELINE.fullmatch(limit)
    if relative is not None:
        factor = float(relative[1]) if relative[1] is not None else 1.0
        return Assertion(text.strip(), metric, match["workload"], match["operator"], factor, relative_to_baseline=True)
    try:
        value = METRICS.get(metric, _LATENCY).limit_from_text(limit)
    except ValueError as error:
        raise ValueError(f"{metric}: {error}") from error
    return Assertion(text.strip(), metric, match["workload"], match["operator"], value)
