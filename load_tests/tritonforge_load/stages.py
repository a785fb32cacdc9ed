"""How many users work when, as rows of numbers; ``tritonforge_load.shapes`` plays them. This module imports no Locust.

A row is ``(users, duration_s)`` or ``(users, duration_s, users started or stopped per second)``; without the third all
users of a row are started at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tritonforge_generator.errors import SpecError

Row: TypeAlias = "tuple[int, float] | tuple[int, float, float]"
Rows: TypeAlias = Sequence[Row]

_LEAST_DURATION_S: Final = 1.0


def steps(*users: int, duration_s: float, spawn_rate: float | None = None) -> Rows:
    """Rows of one duration.

    Args:
        users: Users of each step.
        duration_s: Length of each step.
        spawn_rate: Users started or stopped per second; ``None`` for all at once.
    """
    return [_row(count, duration_s, spawn_rate) for count in users]


def spike(
    *, users: int, peak: int, before_s: float, peak_s: float, after_s: float, spawn_rate: float | None = None
) -> Rows:
    """A steady load with one spike.

    Args:
        users: Users before and after.
        peak: Users in the spike.
        before_s: Time before the spike.
        peak_s: Length of the spike.
        after_s: Time after it, in which the server recovers.
        spawn_rate: Users started or stopped per second; ``None`` for all at once.
    """
    return [_row(users, before_s, spawn_rate), _row(peak, peak_s, spawn_rate), _row(users, after_s, spawn_rate)]


def curve(points: Sequence[tuple[float, float]], *, every_s: float = 1.0) -> Rows:
    """Straight lines between points, in rows that follow them.

    Args:
        points: Times from the start in seconds, each with its users; the first at 0, the last ends the curve.
        every_s: Length of a row, at least, as all are equally long. Each has the users of the curve in its middle.

    Raises:
        SpecError: The times do not begin at 0 or do not ascend.
    """
    times_s = [time_s for time_s, _ in points]
    if len(points) < 2 or times_s[0] != 0 or any(after <= before for before, after in itertools.pairwise(times_s)):
        raise SpecError("curve: points", expected="two or more, from time 0 on, ascending", got=str(list(points)))
    _check_duration("curve: every_s", every_s)
    count = max(1, math.floor(times_s[-1] / every_s))
    duration_s = times_s[-1] / count
    return [(round(_height(points, (index + 0.5) * duration_s)), duration_s) for index in range(count)]


def _height(points: Sequence[tuple[float, float]], time_s: float) -> float:
    for (from_s, low), (to_s, high) in itertools.pairwise(points):
        if time_s <= to_s:
            return low + (high - low) * (time_s - from_s) / (to_s - from_s)
    return points[-1][1]


def _row(users: int, duration_s: float, spawn_rate: float | None) -> Row:
    return (users, duration_s) if spawn_rate is None else (users, duration_s, spawn_rate)


@dataclass(frozen=True, slots=True)
class Stage:
    """One row, checked.

    Attributes:
        users: Users at work.
        duration_s: Its length, with the time that it takes to start or stop users.
        spawn_rate: Users started or stopped per second.
    """

    users: int
    duration_s: float
    spawn_rate: float


def stages_from_rows(rows: Rows) -> tuple[Stage, ...]:
    """Check rows.

    Args:
        rows: The rows.

    Raises:
        SpecError: A number is out of range, or a row is over before its users have been started: they would never be
            at work.
    """
    if not rows:
        raise SpecError("shape: rows", expected="at least one", got="none")
    stages: list[Stage] = []
    users_before, rate_before = 0, 1.0
    for number, row in enumerate(rows, start=1):
        place = f"shape: row {number}"
        users, duration_s, spawn_rate = _read_row(row, place)
        change = abs(users - users_before)
        if change == 0:
            spawn_rate = rate_before  # nothing changes, and Locust shall see that
        elif spawn_rate is None:
            spawn_rate = float(change)
        ramp_s = _ramp_s(change, spawn_rate)
        if ramp_s > duration_s:
            raise SpecError(
                f"{place}: {users} users",
                expected=f"a change that fits into the {duration_s:g} s of the row",
                got=f"{change} users at {spawn_rate:g} per second, which takes {ramp_s:g} s",
                action="Raise the spawn rate, or leave it out for all at once",
            )
        stages.append(Stage(users, duration_s, spawn_rate))
        users_before, rate_before = users, spawn_rate
    return tuple(stages)


def _read_row(row: Sequence[Any], place: str) -> tuple[int, float, float | None]:
    if len(row) not in {2, 3}:
        raise SpecError(place, expected="(users, duration_s) or (users, duration_s, spawn rate)", got=str(row))
    users, duration_s = row[0], row[1]
    spawn_rate = row[2] if len(row) == 3 else None
    if not isinstance(users, int) or isinstance(users, bool) or users < 0:
        raise SpecError(f"{place}: users", expected="a whole number, 0 or more", got=repr(users))
    _check_duration(f"{place}: duration_s", duration_s)
    if spawn_rate is not None and not 0 < spawn_rate < math.inf:
        raise SpecError(f"{place}: spawn rate", expected="users per second, more than 0", got=repr(spawn_rate))
    return users, duration_s, spawn_rate


def _check_duration(what: str, duration_s: float) -> None:
    if not _LEAST_DURATION_S <= duration_s < math.inf:
        raise SpecError(
            what, expected="1 second or more, as Locust looks at a shape once a second", got=f"{duration_s:g}"
        )


def _ramp_s(change: int, spawn_rate: float) -> float:
    """Time that Locust takes: it starts whole users, the first ones at once."""
    at_once = max(1, math.floor(spawn_rate))
    return max(0, math.ceil(change / at_once) - 1) * at_once / spawn_rate
