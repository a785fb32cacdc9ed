"""How calls are timed."""

from __future__ import annotations

import gc
import time

import pytest

from tritonforge_generator.bench import timing


class Clock:
    """Stands in for ``time``, so that how long a call takes does not depend on what else the machine does."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_warm_up_goes_on_until_calls_take_the_same_time(clock: Clock) -> None:
    durations_s = iter([0.4 * 0.8**call for call in range(20)])

    def call() -> None:
        clock.now_s += next(durations_s, 0.004)

    one_ms, steady = timing.warm_up(call)
    assert one_ms == pytest.approx(4)
    assert steady


def test_warm_up_gives_up_on_calls_that_never_settle(clock: Clock) -> None:
    duration_s = 0.001

    def call() -> None:
        nonlocal duration_s
        duration_s *= 1.1
        clock.now_s += duration_s

    assert timing.warm_up(call)[1] is False
    assert 6 <= clock.now_s < 7


def test_slow_calls_are_steady_after_two(clock: Clock) -> None:
    def call() -> None:
        clock.now_s += 8.0

    assert timing.warm_up(call) == (8000, True)
    assert clock.now_s == 24, "the first call is no measurement"


def test_times_are_of_the_calls() -> None:
    times = timing.wall_times_ms(lambda: time.sleep(0.005), 4)
    assert len(times) == 4
    assert all(one >= 5 for one in times)


@pytest.mark.parametrize(
    ("seconds", "one_ms", "runs"), [(1, 10, 100), (1, 5000, 3), (10, 0.0001, 2000), (1, 0.0, 2000)]
)
def test_runs_fit_the_time_within_bounds(seconds: float, one_ms: float, runs: int) -> None:
    assert timing.runs_within(seconds, one_ms) == runs


def test_percentiles() -> None:
    assert timing.latency_figures([float(value) for value in range(101)]) == {
        "p50_ms": 50.0,
        "p90_ms": 90.0,
        "p99_ms": 99.0,
        "runs": 101,
    }


def test_the_garbage_collector_is_back_after_a_failure() -> None:
    def fail() -> None:
        with timing.no_collection():
            assert not gc.isenabled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gc.isenabled()
