from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_load.measure.histogram import RELATIVE_ERROR, Histogram

DURATIONS_NS = st.lists(st.integers(0, 300) | st.integers(0, 10**7) | st.integers(0, 10**12), min_size=1, max_size=300)
PERCENTS = st.sampled_from([0.0, 1.0, 50.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0]) | st.floats(0, 100)


@given(values=DURATIONS_NS, percent=PERCENTS)
def test_percentiles_are_within_the_error_bound_of_numpys(values: list[int], percent: float) -> None:
    found = Histogram(values).percentile_ns(percent)
    # Nearest rank; numpy's own computes the rank in floating point, so the neighbours by one part in 1e9 are as right.
    low, high = (
        float(np.percentile(values, min(100.0, max(0.0, percent + slip)), method="inverted_cdf"))
        for slip in (-1e-7, 1e-7)
    )
    assert low * (1 - RELATIVE_ERROR) <= found <= high * (1 + RELATIVE_ERROR)


def test_percentiles_of_latencies_are_within_0_4_percent() -> None:
    values = sorted((np.random.default_rng(3).lognormal(0.0, 1.5, 100_000) * 1e6).astype(np.int64).tolist())
    histogram = Histogram(values)
    for percent in ("1", "10", "50", "90", "95", "99", "99.9", "99.99"):
        # Exact rank: in floating point, 99.9 % of 100,000 is a little more than 99,900.
        exact = values[math.ceil(Fraction(percent) * len(values) / 100) - 1]
        assert histogram.percentile_ns(float(percent)) == pytest.approx(exact, rel=0.004)


@given(values=DURATIONS_NS)
def test_count_sum_and_extremes_are_exact(values: list[int]) -> None:
    histogram = Histogram(values)
    assert (histogram.count, histogram.sum_ns) == (len(values), sum(values))
    assert (histogram.min_ns, histogram.max_ns) == (min(values), max(values))
    assert histogram.percentiles_ns([0, 100]) == [min(values), max(values)]
    assert histogram.mean_ns() == pytest.approx(np.mean(values))


@given(values=DURATIONS_NS)
def test_percentiles_never_fall(values: list[int]) -> None:
    found = Histogram(values).percentiles_ns(np.linspace(0, 100, 37))
    assert found == sorted(found)


@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=50), percent=PERCENTS)
def test_small_values_are_exact(values: list[int], percent: float) -> None:
    assert Histogram(values).percentile_ns(percent) in values


@given(parts=st.lists(DURATIONS_NS | st.just([]), max_size=5))
def test_merging_is_recording_together(parts: list[list[int]]) -> None:
    merged = Histogram()
    for part in parts:
        merged.merge(Histogram(part))
    assert merged == Histogram([value for part in parts for value in part])


@given(values=DURATIONS_NS | st.just([]))
def test_survives_json(values: list[int]) -> None:
    histogram = Histogram(values)
    assert Histogram.from_dict(json.loads(json.dumps(histogram.to_dict()))) == histogram


def test_is_small_however_much_it_holds() -> None:
    generator = np.random.default_rng(1)
    histogram = Histogram((generator.uniform(0.1, 10_000, 50_000) * 1e6).astype(np.int64).tolist())
    assert len(histogram.to_dict()["buckets"]) < 128 * 18


def test_empty_has_no_percentiles() -> None:
    assert math.isnan(Histogram().percentile_ns(50))
    assert math.isnan(Histogram().mean_ns())


def test_refuses_what_is_no_duration_or_percentile() -> None:
    with pytest.raises(ValueError, match="at least 0 ns, got -1"):
        Histogram([-1])
    with pytest.raises(ValueError, match="from 0 to 100, got 101"):
        Histogram([1]).percentile_ns(101)
