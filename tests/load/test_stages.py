from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_generator.errors import SpecError
from tritonforge_load.stages import Rows, Stage, curve, spike, stages_from_rows, steps


def test_steps_last_equally_long() -> None:
    assert steps(10, 20, 40, duration_s=30) == [(10, 30), (20, 30), (40, 30)]
    assert steps(10, 20, duration_s=30, spawn_rate=2) == [(10, 30, 2), (20, 30, 2)]


def test_a_spike_goes_back_to_what_was() -> None:
    assert spike(users=2, peak=50, before_s=30, peak_s=10, after_s=60) == [(2, 30), (50, 10), (2, 60)]


def test_a_curve_follows_its_lines() -> None:
    rows = curve([(0, 0), (10, 100), (20, 0)], every_s=5)
    assert rows == [(25, 5), (75, 5), (75, 5), (25, 5)]


@given(
    st.lists(st.floats(0.5, 200), min_size=1, max_size=6),
    st.lists(st.integers(0, 500), min_size=7, max_size=7),
    st.floats(1, 60),
)
def test_a_curve_keeps_its_length_and_its_area(gaps_s: list[float], users: list[int], every_s: float) -> None:
    times_s = [0.0, *(sum(gaps_s[: index + 1]) for index in range(len(gaps_s)))]
    points = list(zip(times_s, users, strict=False))
    if times_s[-1] < 2:
        return
    rows = curve(points, every_s=every_s)
    assert math.isclose(sum(row[1] for row in rows), times_s[-1])
    assert min(users[: len(points)]) <= min(row[0] for row in rows)
    assert max(row[0] for row in rows) <= max(users[: len(points)])
    assert rows[0][1] <= 2 * every_s
    stages_from_rows(rows)  # a curve is a shape that can be played


def test_without_a_spawn_rate_all_users_are_started_at_once() -> None:
    stages = stages_from_rows([(10, 5), (10, 5), (4, 5), (4, 5, 1), (5, 5, 0.5)])
    assert stages == (
        Stage(10, 5, 10.0),
        Stage(10, 5, 10.0),  # as before, so that Locust does nothing
        Stage(4, 5, 6.0),
        Stage(4, 5, 6.0),
        Stage(5, 5, 0.5),
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"shape: rows: expected at least one, got none"),
        ([(5,)], r"row 1: expected \(users, duration_s\) or \(users, duration_s, spawn rate\), got \(5,\)"),
        ([(5, 2), (-1, 2)], r"row 2: users: expected a whole number, 0 or more, got -1"),
        ([(1.5, 2)], r"row 1: users: expected a whole number, 0 or more, got 1.5"),
        ([(5, 0.5)], r"row 1: duration_s: expected 1 second or more, as Locust looks .* got 0.5"),
        ([(5, math.nan)], r"row 1: duration_s: expected 1 second or more"),
        ([(5, 2, 0)], r"row 1: spawn rate: expected users per second, more than 0, got 0"),
        (
            [(10, 10, 1), (100, 60, 1)],
            r"expected a change that fits into the 60 s of the row, got 90 users at 1 per second, which takes 89 s",
        ),
        ([(3, 3, 0.5)], r"got 3 users at 0.5 per second, which takes 4 s"),
        ([(30, 20), (1, 5, 2)], r"got 29 users at 2 per second, which takes 14 s"),
    ],
)
def test_rows_that_cannot_be_played_are_refused(rows: Rows, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        stages_from_rows(rows)


@pytest.mark.parametrize("points", [[], [(0, 1)], [(1, 1), (2, 2)], [(0, 1), (5, 2), (5, 3)]])
def test_curves_begin_at_0_and_ascend(points: list[tuple[float, float]]) -> None:
    with pytest.raises(SpecError, match="curve: points: expected two or more, from time 0 on, ascending"):
        curve(points)


def test_rows_need_no_locust() -> None:
    script = "import sys, tritonforge_load.stages; sys.exit('locust' in sys.modules or 'gevent' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
