"""What several runs of a phase say about a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tritonforge_load.judge.distributions import student_quantile


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the mean of a figure lies.

    Attributes:
        mean: Mean over the runs.
        low: Lower end, minus infinity for one run.
        high: Upper end, infinity for one run.
        count: How many runs there are.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def margin(self) -> float:
        """How far the ends are from the mean."""
        return self.high - self.mean


def interval_of(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's interval of the mean of a figure over repeated runs.

    Args:
        values: One value a run, at least one.
        confidence: Probability with which the mean lies within, provided that the values are normally distributed.

    Raises:
        ValueError: There is no value.
    """
    if not values:
        raise ValueError("expected the figures of at least one run, got none")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    margin = student_quantile(confidence, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - margin, mean + margin, len(values))
