from __future__ import annotations

import math

import numpy as np
import pytest

from tritonforge_load.judge import interval_of


def test_an_interval_is_students() -> None:
    # Mean 100, standard deviation 10, t = 4.303 for two degrees of freedom.
    interval = interval_of([90.0, 100.0, 110.0])
    assert (interval.mean, interval.count) == (100.0, 3)
    assert interval.margin == pytest.approx(4.303 * 10 / math.sqrt(3), rel=1e-3)
    assert interval.low == pytest.approx(100 - interval.margin)


def test_one_run_says_nothing_of_the_next() -> None:
    interval = interval_of([5.0])
    assert (interval.mean, interval.low, interval.high, interval.count) == (5.0, -math.inf, math.inf, 1)


def test_runs_that_agree_leave_no_doubt() -> None:
    assert interval_of([5.0, 5.0]).margin == 0.0


def test_no_run_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        interval_of([])


@pytest.mark.parametrize(("count", "confidence"), [(2, 0.95), (3, 0.9), (5, 0.99)])
def test_intervals_hold_the_mean_as_often_as_said(count: int, confidence: float) -> None:
    draws = np.random.default_rng(4).normal(10.0, 2.0, (2000, count))
    held = sum(
        interval.low <= 10.0 <= interval.high for interval in (interval_of(row, confidence) for row in draws.tolist())
    )
    assert held / 2000 == pytest.approx(confidence, abs=3 * math.sqrt(confidence * (1 - confidence) / 2000))
