"""Whether a sentence holds of what was measured, in three values: yes, no, and cannot be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tritonforge_load.campaign.assertion import Assertion
from tritonforge_load.judge.repeats import interval_of
from tritonforge_load.judge.samples import misses_of, needed_to_tell, percentile_below, share_below, share_over
from tritonforge_load.measure.histogram import Histogram


@dataclass(frozen=True, slots=True)
class Told:
    """Whether a sentence holds.

    Attributes:
        holds: ``None`` when it cannot be told.
        doubt: Why not, and what would tell; empty when it can be.
    """

    holds: bool | None
    doubt: str = ""


def told_of_value(assertion: Assertion, value: float, limit: float) -> bool:
    """Whether the sentence holds of a value as it is."""
    return bool(_holds(assertion, lambda or_equal: _is_below(value, limit, or_equal)))


def told_of_percentile(
    assertion: Assertion, latency: Histogram, percent: float, limit_ms: float, confidence: float
) -> Told:
    """Whether the sentence holds of the percentile of which latencies are a sample."""
    holds = _holds(
        assertion,
        lambda or_equal: percentile_below(latency, percent, limit_ms, or_equal=or_equal, confidence=confidence),
    )
    if holds is not None:
        return Told(holds)
    _, misses = misses_of(latency, limit_ms, or_equal=_counts_equal(assertion))
    seen = f"{misses:,} of {latency.count:,} requests are over it"
    return Told(None, f"{seen}; {_what_would_tell(misses, latency.count, share_over(percent), confidence, 'requests')}")


def told_of_share(
    assertion: Assertion, hits: int, total: int, limit: float, confidence: float, *, unit: str = "requests"
) -> Told:
    """Whether the sentence holds of the share of which ``hits`` in ``total`` is a sample."""
    capped = min(1.0, limit)
    holds = _holds(
        assertion, lambda or_equal: share_below(hits, total, capped, or_equal=or_equal, confidence=confidence)
    )
    if holds is not None:
        return Told(holds)
    return Told(None, f"{hits:,} of {total:,} {unit}; {_what_would_tell(hits, total, capped, confidence, unit)}")


def told_of_repeats(assertion: Assertion, values: Sequence[float], limit: float, confidence: float) -> Told:
    """Whether the sentence holds of the mean of a figure over repeated runs."""
    # To one side of the interval the mean lies with half of what remains.
    interval = interval_of(values, 2 * confidence - 1)

    def below(or_equal: bool) -> bool | None:
        if _is_below(interval.high, limit, or_equal):
            return True
        return None if _is_below(interval.low, limit, or_equal) else False

    holds = _holds(assertion, below)
    if holds is not None:
        return Told(holds)
    ends = " to ".join(assertion.kind.text_from_value(end) for end in (interval.low, interval.high))
    return Told(None, f"the mean of {interval.count} runs lies within {ends}: repeat the phase more often")


def _is_below(value: float, limit: float, or_equal: bool) -> bool:
    """Whether a value is below a limit, or at it."""
    return value <= limit if or_equal else value < limit


def _holds(assertion: Assertion, below: Callable[[bool], bool | None]) -> bool | None:
    """Above is not below: ``>`` is what ``<=`` is not."""
    answer = below(_counts_equal(assertion))
    return answer if answer is None or assertion.operator in {"<", "<="} else not answer


def _counts_equal(assertion: Assertion) -> bool:
    return assertion.operator in {"<=", ">"}


def _what_would_tell(hits: int, total: int, limit: float, confidence: float, unit: str) -> str:
    needed = needed_to_tell(hits, total, limit, confidence)
    # A value in the limit's bucket stays in doubt however many there are.
    return "too near to the limit" if needed is None or needed <= total else f"about {needed:,} {unit} would tell"
