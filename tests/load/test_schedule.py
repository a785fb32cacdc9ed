from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tritonforge_generator.errors import SpecError
from tritonforge_load.arrivals import (
    choose,
    constant_times_s,
    curve_times_s,
    gamma_times_s,
    poisson_times_s,
    read_trace,
    share_of,
    trace_times_s,
)

Times = NDArray[np.float64]

RATES = st.floats(0.1, 500)
DURATIONS = st.floats(0.01, 20)
SHAPES = st.floats(0.05, 20)
SEEDS = st.lists(st.integers(0, 2**63), min_size=1, max_size=4).map(tuple)
STEPS = st.tuples(st.floats(0.01, 5), st.one_of(st.just(0.0), st.floats(0.001, 200)))
CURVES = st.lists(STEPS, min_size=2, max_size=6).map(
    lambda steps: [(sum(length for length, _ in steps[:index]), rate) for index, (_, rate) in enumerate(steps)]
)

KOLMOGOROV = 1.95
"""A sample of the right distribution is further from it in 1 of 1000 cases: 2 exp(-2 x^2) = 0.001."""


def distance(sample: Times, share_below: Callable[[Times], Times]) -> float:
    """Kolmogorov's and Smirnov's: the largest distance of the two distribution functions, times the root of n."""
    shares = share_below(np.sort(sample))
    ranks = np.arange(len(sample) + 1) / len(sample)
    return float(max(np.max(ranks[1:] - shares), np.max(shares - ranks[:-1])) * math.sqrt(len(sample)))


def dispersion(times_s: Times, duration_s: float, window_s: float) -> float:
    """Variance of the numbers of arrivals in windows, over their mean."""
    counts = np.histogram(times_s, np.arange(0, duration_s + window_s / 2, window_s))[0]
    return float(counts.var() / counts.mean())


class TestAllKinds:
    @settings(deadline=None)
    @given(rate=RATES, duration=DURATIONS, shape=SHAPES, curve=CURVES, seed=SEEDS)
    def test_times_are_sorted_and_inside_the_phase_and_follow_from_the_seed(
        self, rate: float, duration: float, shape: float, curve: list[tuple[float, float]], seed: tuple[int, ...]
    ) -> None:
        made: list[tuple[Callable[[], Times], float]] = [
            (lambda: constant_times_s(rate, duration), duration),
            (lambda: poisson_times_s(rate, duration, seed), duration),
            (lambda: gamma_times_s(rate, duration, shape, seed), duration),
            (lambda: curve_times_s(curve, seed), curve[-1][0]),
        ]
        for make, end_s in made:
            times_s = make()
            assert times_s.dtype == np.float64
            assert np.all(np.diff(times_s) >= 0)
            assert np.all((times_s >= 0) & (times_s < end_s))
            assert np.array_equal(times_s, make())

    @settings(deadline=None)
    @given(rate=RATES, duration=DURATIONS, count=st.integers(1, 7))
    def test_the_shares_of_all_workers_are_the_whole(self, rate: float, duration: float, count: int) -> None:
        times_s = poisson_times_s(rate, duration, (1,))
        shares = [share_of(times_s, index, count) for index in range(count)]
        assert np.array_equal(np.sort(np.concatenate(shares)), times_s)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    def test_other_seeds_give_other_times(self) -> None:
        starts = {poisson_times_s(100, 1, seed)[0] for seed in [(1,), (2,), (1, 2), (2, 1), (1, 2, 3), (2**40,)]}
        assert len(starts) == 6

    @pytest.mark.parametrize(
        "make",
        [
            lambda: constant_times_s(20_000, 100),
            lambda: poisson_times_s(20_000, 100, (1,)),
            lambda: gamma_times_s(20_000, 100, 0.3, (1,)),
            lambda: curve_times_s([(0, 0), (100, 40_000)], (1,)),
            lambda: choose([3, 1], 2_000_000, (1,)),
        ],
    )
    def test_two_million_arrivals_are_made_in_less_than_a_second(self, make: Callable[[], Times]) -> None:
        before_s = time.process_time()
        times = make()
        assert time.process_time() - before_s < 1.0
        assert len(times) == pytest.approx(2_000_000, rel=0.005)


class TestConstant:
    @settings(deadline=None)
    @given(rate=RATES, duration=DURATIONS)
    def test_gaps_are_equal_and_the_rate_is_kept(self, rate: float, duration: float) -> None:
        times_s = constant_times_s(rate, duration)
        assert times_s[0] == 0
        assert np.allclose(np.diff(times_s), 1 / rate)
        assert duration * rate - 1e-6 <= len(times_s) <= duration * rate + 1

    @pytest.mark.parametrize(
        ("rate", "duration", "count"), [(200, 20, 4000), (3, 0.1, 1), (0.1, 30, 3), (1 / 3, 9, 3), (7, 0.7, 5)]
    )
    def test_the_next_request_after_the_phase_is_none_of_it(self, rate: float, duration: float, count: int) -> None:
        assert len(constant_times_s(rate, duration)) == count


class TestPoisson:
    def test_gaps_are_exponential(self) -> None:
        gaps_s = np.diff(poisson_times_s(200, 500, (5,)))
        assert distance(gaps_s, lambda x: -np.expm1(-200 * x)) < KOLMOGOROV
        assert distance(gaps_s, lambda x: -np.expm1(-206 * x)) > KOLMOGOROV  # 3 % off would be seen

    def test_arrivals_are_uniform_over_the_phase(self) -> None:
        assert distance(poisson_times_s(200, 500, (6,)), lambda x: x / 500) < KOLMOGOROV

    def test_counts_are_as_dispersed_as_poisson_counts(self) -> None:
        # Of 5000 windows the estimate has a standard deviation of sqrt(2 / 5000) = 0.02.
        assert dispersion(poisson_times_s(200, 500, (7,)), 500, 0.1) == pytest.approx(1, abs=0.08)

    def test_gaps_know_nothing_of_the_one_before(self) -> None:
        gaps_s = np.diff(poisson_times_s(200, 500, (8,)))
        # About normal with a standard deviation of 1 / sqrt(100,000) = 0.0032.
        assert abs(np.corrcoef(gaps_s[:-1], gaps_s[1:])[0, 1]) < 0.013


class TestGamma:
    def test_gaps_have_the_distribution(self) -> None:
        gaps_s = np.diff(gamma_times_s(200, 500, 0.5, (5,)))
        # For a shape of 0.5 the distribution function is the error function of a root.
        assert distance(gaps_s, lambda x: np.array([math.erf(math.sqrt(0.5 * 200 * gap)) for gap in x])) < KOLMOGOROV
        assert distance(gaps_s, lambda x: -np.expm1(-200 * x)) > 10 * KOLMOGOROV

    @pytest.mark.parametrize("shape", [0.1, 0.3, 1.0, 4.0])
    def test_gaps_vary_as_the_shape_says(self, shape: float) -> None:
        gaps_s = np.diff(gamma_times_s(200, 2000, shape, (6,)))
        assert gaps_s.mean() == pytest.approx(1 / 200, rel=0.02)
        assert gaps_s.std() / gaps_s.mean() == pytest.approx(1 / math.sqrt(shape), rel=0.03)

    @pytest.mark.parametrize("shape", [0.1, 0.3, 4.0])
    def test_counts_are_as_dispersed_as_the_shape_says(self, shape: float) -> None:
        # In windows that are long against the bursts it is the squared variation of the gaps.
        assert dispersion(gamma_times_s(200, 4000, shape, (7,)), 4000, 2) == pytest.approx(1 / shape, rel=0.2)

    def test_a_shape_of_1_is_poisson(self) -> None:
        assert np.array_equal(gamma_times_s(50, 10, 1.0, (3,)), poisson_times_s(50, 10, (3,)))

    def test_the_rate_is_the_same_everywhere_in_the_phase(self) -> None:
        starts = [gamma_times_s(20, 1, 0.2, (run,)) for run in range(4000)]
        counts = sum(np.histogram(times_s, [0, 0.1, 0.2, 0.5, 1])[0] for times_s in starts)
        # 8000 arrivals in a tenth of a second, of which the standard deviation is at most sqrt(8000 / 0.2) = 200. A
        # process that began with an arrival at 0 would have about twice as many in the first one.
        assert counts / np.diff([0, 0.1, 0.2, 0.5, 1]) == pytest.approx(80_000, rel=0.08)


class TestCurve:
    POINTS = ((0.0, 100.0), (60.0, 1200.0), (80.0, 0.0), (90.0, 0.0), (120.0, 200.0))

    def expected_below(self, at_s: Times) -> Times:
        """The integral of the rate, by the trapezoid rule on a grid that has all corners."""
        grid_s = np.linspace(0, 120, 120_001)
        corners_s, rates_there = np.array(self.POINTS).T
        rates = np.interp(grid_s, corners_s, rates_there)
        return np.interp(at_s, grid_s, np.concatenate([[0], np.cumsum((rates[1:] + rates[:-1]) / 2000)]))

    def test_arrivals_follow_the_integral_of_the_rate(self) -> None:
        times_s = curve_times_s(self.POINTS, (5,))
        whole = self.expected_below(np.array([120.0]))[0]
        assert whole == pytest.approx(54_000)
        assert len(times_s) == pytest.approx(whole, abs=4 * math.sqrt(whole))
        assert distance(times_s, lambda x: self.expected_below(x) / float(whole)) < KOLMOGOROV

    def test_gaps_are_exponential_when_the_clock_runs_with_the_rate(self) -> None:
        gaps = np.diff(self.expected_below(curve_times_s(self.POINTS, (6,))))
        assert distance(gaps, lambda x: -np.expm1(-x)) < KOLMOGOROV

    def test_nothing_arrives_while_the_rate_is_0(self) -> None:
        times_s = curve_times_s(self.POINTS, (7,))
        assert np.any(times_s < 80)
        assert not np.any((times_s > 80) & (times_s < 90))
        assert np.any(times_s > 90)

    def test_a_level_curve_is_poisson(self) -> None:
        times_s = curve_times_s([(0, 50), (3, 50), (10, 50)], (8,))
        assert np.allclose(times_s, poisson_times_s(50, 10, (8,)), rtol=0, atol=1e-9)

    def test_a_rate_of_0_throughout_gives_nothing(self) -> None:
        assert len(curve_times_s([(0, 0), (10, 0)], (1,))) == 0


class TestChoose:
    def test_workloads_are_chosen_by_weight(self) -> None:
        chosen = choose([4, 1, 0, 3], 80_000, (2,))
        assert chosen.dtype == np.intp
        counts = np.bincount(chosen, minlength=4)
        assert counts[2] == 0
        expected = np.array([40_000, 10_000, 30_000])
        # Chi-squared with two degrees of freedom: above 13.8 in 1 of 1000 cases.
        assert np.sum((counts[[0, 1, 3]] - expected) ** 2 / expected) < 13.8

    def test_choices_follow_from_the_seed(self) -> None:
        assert np.array_equal(choose([1, 1], 100, (1, 2)), choose([1, 1], 100, (1, 2)))
        assert not np.array_equal(choose([1, 1], 100, (1, 2)), choose([1, 1], 100, (1, 3)))


class TestTrace:
    def write(self, folder: Path, text: str) -> Path:
        path = folder / "trace.csv"
        path.write_text(text, encoding="utf-8")
        return path

    @pytest.mark.parametrize("start", ["", "seconds\n", "\ufefftime_s\n", "\n\n"])
    def test_a_column_of_times_with_or_without_header(self, start: str, tmp_path: Path) -> None:
        trace = read_trace(self.write(tmp_path, f"{start}1700000000.25\n1700000001\n\n1.7000000015e9\n"))
        assert trace.workloads is None
        assert trace_times_s(trace.times_s, 1.0).tolist() == [0, 0.75, 1.25]
        assert trace_times_s(trace.times_s, 2.0).tolist() == [0, 0.375, 0.625]

    def test_workloads_stay_with_their_times_when_these_are_not_in_order(self, tmp_path: Path) -> None:
        trace = read_trace(self.write(tmp_path, 'at,what\n3,"a, b"\n1, first\n2,second\n1,also first\n'))
        assert trace.times_s.tolist() == [1, 1, 2, 3]
        assert trace.workloads == ("first", "also first", "second", "a, b")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("time,workload\n1,a\nx,b\n", "trace.csv:3: time: expected seconds like 12.5, got 'x'"),
            ("1\n\n2s\n", "trace.csv:3: time: expected seconds like 12.5, got '2s'"),
            ("1\nnan\n", "trace.csv:2: time: expected seconds like 12.5, got 'nan'"),
            ("inf\n", "trace.csv:1: time: expected seconds like 12.5, got 'inf'"),
            ("1,a\n2\n", "trace.csv:2: columns: expected 2 as in the first line, got 1"),
            ("1\n2,a\n", "trace.csv:2: columns: expected 1 as in the first line, got 2"),
            ("1,a,9\n", "trace.csv:1: columns: expected one or two, seconds and workload, got 3"),
            ("1,a\n2, \n", "trace.csv:2: workload: expected its name, got nothing"),
            ("time\n", "trace.csv: arrivals: expected at least one, got none"),
            ("", "trace.csv: arrivals: expected at least one, got none"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, text: str, message: str, tmp_path: Path) -> None:
        with pytest.raises(SpecError) as caught:
            read_trace(self.write(tmp_path, text))
        assert str(caught.value) == f"{tmp_path}/{message}"

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match=r"missing\.csv: cannot be read: .*No such file"):
            read_trace(tmp_path / "missing.csv")
        (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(SpecError, match=r"binary\.csv: cannot be read: .*utf-8"):
            read_trace(tmp_path / "binary.csv")
