from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from support.judged import cell_of, open_run, run_of, scattered_cell

from tritonforge_load.judge import unsteady_reasons
from tritonforge_load.judge.steady import FALSE_ALARMS, MOST_APART, drift_of, thirds_apart
from tritonforge_load.measure import Cell, RunResult
from tritonforge_load.measure.seconds import Seconds

SEEDS = 200


def series(seed: int, seconds: int, *, scatter: float = 0.15, alike: float = 0.0) -> npt.NDArray[np.float64]:
    """A flat series with log-normal noise, whose neighbours may be alike."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=seconds + 20)
    for index in range(1, len(values)):
        values[index] = alike * values[index - 1] + (1 - alike**2) ** 0.5 * values[index]
    levels: npt.NDArray[np.float64] = np.exp(scatter * values[20:])
    return levels * 5.0


def alarms(test: Callable[[npt.NDArray[np.float64]], object], seconds: int, alike: float = 0.0) -> int:
    return sum(test(series(seed, seconds, alike=alike)) is not None for seed in range(SEEDS))


@pytest.mark.parametrize("test", [thirds_apart, drift_of])
@pytest.mark.parametrize("seconds", [6, 9, 20, 60])
def test_flat_noise_seldom_alarms(test: Callable[[npt.NDArray[np.float64]], object], seconds: int) -> None:
    # 0.5 % of 200 is 1; more than 5 come with a probability of 0.06 %.
    assert FALSE_ALARMS * SEEDS == 1
    assert alarms(test, seconds) <= 5


@pytest.mark.parametrize("test", [thirds_apart, drift_of])
def test_neighbours_that_are_alike_do_not_alarm_by_themselves(
    test: Callable[[npt.NDArray[np.float64]], object],
) -> None:
    assert alarms(test, 60, alike=0.5) <= 0.05 * SEEDS
    assert alarms(test, 120, alike=0.7) <= 0.05 * SEEDS


def test_a_drift_is_seen_with_its_ends() -> None:
    ends = [drift_of(series(seed, 30, scatter=0.05) * np.linspace(1, 1.5, 30)) for seed in range(SEEDS)]
    seen = [end for end in ends if end is not None]
    assert len(seen) >= 0.95 * SEEDS
    assert np.mean([low for low, _ in seen]) == pytest.approx(5.0, rel=0.05)
    assert np.mean([high for _, high in seen]) == pytest.approx(7.5, rel=0.05)


def test_a_stretch_in_the_middle_is_seen_by_thirds_and_is_no_drift() -> None:
    shape = np.repeat([1.0, 1.4, 1.0], 10)
    assert (
        sum(thirds_apart(series(seed, 30, scatter=0.05) * shape) is not None for seed in range(SEEDS)) >= 0.95 * SEEDS
    )
    assert sum(drift_of(series(seed, 30, scatter=0.05) * shape) is not None for seed in range(SEEDS)) <= 3


def test_one_slow_second_is_no_drift_and_no_other_third() -> None:
    for seed in range(20):
        values = series(seed, 30, scatter=0.02)
        values[25] *= 50
        assert drift_of(values) is None
        assert thirds_apart(values) is None


def test_differences_that_do_not_matter_are_steady_however_sure_they_are() -> None:
    exact = np.linspace(10.0, 10.0 * (1 + 0.8 * MOST_APART), 60)
    assert (drift_of(exact), thirds_apart(exact)) == (None, None)
    assert drift_of(np.linspace(10.0, 12.0, 60)) == pytest.approx((10.0, 12.0))
    assert thirds_apart(np.repeat([1.0, 1.0, 2.0], 2)) == (1.0, 1.0, 2.0)


def test_what_is_constant_or_short_is_steady() -> None:
    for count in (0, 1, 5, 6, 60):
        assert (drift_of(np.ones(count)), thirds_apart(np.ones(count))) == (None, None)
    assert drift_of(np.array([1.0, 2, 3, 4, 5])) is None


def test_hours_are_judged_as_minutes_are() -> None:
    values = series(1, 4 * 3600, scatter=0.2)
    assert drift_of(values) is None
    found = drift_of(values * np.linspace(1, 1.3, len(values)))
    assert found is not None
    assert found[1] / found[0] == pytest.approx(1.3, rel=0.05)


def drifting(seconds: int, *, by: float, arrival: str = "closed") -> RunResult:
    """A run whose latency and, as it is closed, rate change over time."""
    cell = Cell()
    for second in range(seconds):
        slower = 1 + by * second / max(1, seconds - 1)
        cell.merge(shifted(cell_of([5.0 * slower, 5.2 * slower] * round(40 / slower)), second))
    return replace(run_of(duration_s=seconds + 0.4, cls=cell), arrival=arrival)


def shifted(cell: Cell, second: int) -> Cell:
    cell.seconds = Seconds({second: cell.seconds[0]})
    return cell


def test_a_run_that_slows_down_says_so() -> None:
    rate, latency = unsteady_reasons(drifting(20, by=1.0))
    assert rate.startswith("the rate of its thirds was ")
    assert latency.startswith("the median latency went from ")


def test_a_run_with_a_slow_third_says_its_thirds() -> None:
    generator = np.random.default_rng(2)
    cell = Cell()
    for second in range(12):
        levels = 5.0 * (1.6 if 4 <= second < 8 else 1.0) * generator.normal(1, 0.02, 50)
        cell.merge(shifted(cell_of(levels.tolist()), second))
    (reason,) = unsteady_reasons(run_of(duration_s=12.0, cls=cell))
    assert reason.startswith("the median latency of its thirds was 5")


@pytest.mark.parametrize("run", [drifting(5, by=3.0), drifting(20, by=3.0, arrival="curve"), drifting(20, by=0.02)])
def test_short_planned_and_steady_runs_have_no_reason(run: RunResult) -> None:
    assert unsteady_reasons(run) == ()


def test_made_poisson_runs_are_steady() -> None:
    flagged = 0
    for seed in range(30):
        cell = scattered_cell(np.random.default_rng(seed), seconds=20, rate_per_s=100)
        flagged += unsteady_reasons(open_run(run_of(duration_s=20.0, cls=cell))) != ()
    assert flagged <= 3


def test_a_run_without_answers_has_no_latency_to_judge() -> None:
    assert unsteady_reasons(run_of(duration_s=20.0, cls=cell_of([], failed=5))) == ()
