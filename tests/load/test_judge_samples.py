from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.judged import MS

from tritonforge_load.judge import needed_for_share, needed_requests, percentile_below, share_below
from tritonforge_load.judge.samples import misses_of, needed_to_tell
from tritonforge_load.measure import Histogram


@pytest.mark.parametrize(
    ("percent", "needed"),
    [
        (90.0, [44, 64, 81, 127, 197]),
        (95.0, [90, 130, 165, 259, 398]),
        (99.0, [459, 662, 838, 1307, 2010]),
        (99.9, [4603, 6636, 8403, 13105, 20140]),
    ],
)
def test_needed_requests_are_those_of_mlperf_loadgens_early_stopping(percent: float, needed: list[int]) -> None:
    assert [needed_requests(percent, 0.99, misses) for misses in (0, 1, 2, 5, 10)] == needed


@given(
    limit=st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.5]),
    confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
    count=st.integers(0, 30),
)
def test_needed_is_the_smallest_sample_that_is_below(limit: float, confidence: float, count: int) -> None:
    needed = needed_for_share(limit, confidence, count)
    assert share_below(count, needed, limit, confidence=confidence) is True
    assert share_below(count, needed - 1, limit, confidence=confidence) is not True


def test_a_few_more_misses_turn_holding_into_doubt_and_then_into_failing() -> None:
    told = [share_below(misses, 1000, 0.01, confidence=0.99) for misses in range(40)]
    assert told == sorted(told, key=lambda holds: {True: 0, None: 1, False: 2}[holds])
    assert (told.count(True), told.count(None)) == (3, 16)


@pytest.mark.parametrize("share", [0.005, 0.01, 0.02])
def test_verdicts_are_wrong_no_more_often_than_said(share: float) -> None:
    limit, confidence, tries = 0.01, 0.95, 4000
    draws = np.random.default_rng(1).binomial(2000, share, tries)
    told = [share_below(int(hits), 2000, limit, confidence=confidence) for hits in draws]
    wrongly_holds, wrongly_fails = share >= limit, share <= limit
    allowed = (1 - confidence) * tries + 3 * math.sqrt(tries * confidence * (1 - confidence))
    assert not wrongly_holds or told.count(True) <= allowed
    assert not wrongly_fails or told.count(False) <= allowed
    if share != limit:
        assert told.count(share < limit) > 0.6 * tries


@pytest.mark.parametrize(
    ("count", "total", "limit", "or_equal", "holds"),
    [
        (0, 10, 0.0, True, True),
        (1, 10_000, 0.0, True, False),
        (0, 10, 0.0, False, False),
        (10, 10, 1.0, True, True),
        (10, 10, 1.0, False, False),
        (9, 10, 1.0, False, True),
        (0, 0, 0.5, True, None),
        (0, 10, 0.001, False, None),
    ],
)
def test_never_and_always_are_judged_by_the_sample(
    count: int, total: int, limit: float, or_equal: bool, holds: bool | None
) -> None:
    assert share_below(count, total, limit, or_equal=or_equal, confidence=0.99) is holds


def test_a_limit_within_a_bucket_is_a_doubt_on_both_sides() -> None:
    # The bucket of 25 ms goes from 24.9 to 25.03 ms.
    latency = Histogram([10 * MS] * 990 + [25 * MS] * 10)
    assert misses_of(latency, 25.01) == (0, 0), "the largest value is exact"
    latency.record(40 * MS)
    assert misses_of(latency, 25.01) == (1, 11)
    assert misses_of(latency, 25.5) == (1, 1)
    assert misses_of(latency, 24.5) == (11, 11)
    # One bucket has all of 1000 to 1003 ns.
    assert Histogram([1000, 1001, 1003]).count_above(1002) == (1, 2), "the smallest and the largest are exact"


def test_a_value_at_the_limit_misses_below_and_keeps_at_most() -> None:
    latency = Histogram([100] * 50)
    assert misses_of(latency, 100e-6) == (50, 50)
    assert misses_of(latency, 100e-6, or_equal=True) == (0, 0)


@given(
    values=st.lists(st.integers(0, 300) | st.integers(0, 10**9), max_size=80),
    limit_ns=st.integers(0, 400) | st.integers(0, 10**9),
)
def test_counts_above_a_limit_enclose_the_true_one(values: list[int], limit_ns: int) -> None:
    surely, possibly = Histogram(values).count_above(limit_ns)
    above = sum(value > limit_ns for value in values)
    assert surely <= above <= possibly
    near = [value for value in values if abs(value - limit_ns) <= value / 128]
    assert possibly - surely <= len(near)
    if values:
        assert surely >= int(max(values) > limit_ns), "the largest is exact"
        assert possibly <= len(values) - int(min(values) <= limit_ns), "so is the smallest"


def test_percentiles_are_told_with_few_requests_of_which_none_is_near() -> None:
    assert percentile_below(Histogram([MS] * 459), 99, 25, confidence=0.99) is True
    assert percentile_below(Histogram([MS] * 458), 99, 25, confidence=0.99) is None
    assert percentile_below(Histogram([30 * MS] * 2), 99, 25, confidence=0.99) is False
    assert percentile_below(Histogram([30 * MS]), 99, 25, confidence=0.999) is None
    assert percentile_below(Histogram(), 99, 25) is None


def test_a_limit_in_the_bucket_of_most_requests_tells_nothing() -> None:
    latency = Histogram([10 * MS] * 5 + [25 * MS] * 1000 + [40 * MS])
    assert percentile_below(latency, 50, 25.01) is None
    assert percentile_below(latency, 50, 25.5) is True
    assert percentile_below(latency, 50, 24.5) is False


@given(values=st.lists(st.integers(1, 50), min_size=1, max_size=400), percent=st.sampled_from([50.0, 90.0, 99.0]))
def test_what_is_told_of_a_percentile_agrees_with_its_value(values: list[int], percent: float) -> None:
    latency = Histogram([value * MS for value in values])
    told = percentile_below(latency, percent, 25.4)
    if told is not None:
        assert (latency.percentile_ns(percent) < 25.4 * MS) is told


@pytest.mark.parametrize(("count", "total"), [(0, 50), (0, 458), (2, 1000), (30, 1000), (18, 1000)])
def test_what_would_tell_is_about_the_smallest_sample_of_the_same_share(count: int, total: int) -> None:
    needed = needed_to_tell(count, total, 0.01, 0.99)
    assert needed is not None
    share = count / total
    assert share_below(round(share * needed * 1.2), round(needed * 1.2), 0.01, confidence=0.99) is (share < 0.01)
    assert needed <= total or share_below(count, total, 0.01, confidence=0.99) is None
    assert count > 0 or needed == 459


def test_nothing_would_tell_a_share_that_is_at_its_limit() -> None:
    assert needed_to_tell(10, 1000, 0.01, 0.99) is None
