from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tritonforge_client import errors
from tritonforge_client.core.breaker import Breaker, counts_as_failure
from tritonforge_client.errors import BreakerOpen, DeadlineExceeded, TooManyInFlight, TritonError, Unavailable
from tritonforge_client.policies import BreakerPolicy

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TritonError)]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Rig:
    """A breaker and its clock."""

    def __init__(self, **policy: float) -> None:
        self.clock = Clock()
        self.breaker = Breaker(BreakerPolicy(**policy), self.clock)  # type: ignore[arg-type]  # whole numbers are whole

    def attempt(self, ok: bool | None) -> bool:
        """Make an attempt that ends at once; tell whether it was let through."""
        allowed = self.breaker.allows()
        if allowed:
            self.breaker.record(ok, began_s=self.clock.now_s)
        return allowed

    def opened(self) -> Rig:
        """Let it open by failures."""
        while self.attempt(False):
            pass
        return self

    def after(self, seconds: float) -> Rig:
        """Let time pass."""
        self.clock.now_s += seconds
        return self


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_endpoint_that_cannot_serve_fails_and_every_other_error_says_nothing(kind: type[TritonError]) -> None:
    own = (BreakerOpen, TooManyInFlight)
    failed = issubclass(kind, (Unavailable, DeadlineExceeded)) and not issubclass(kind, own)
    assert counts_as_failure(kind("no")) is failed


# ---- closed ----


@given(
    percent=st.integers(1, 100),
    min_calls=st.integers(1, 40),
    results=st.lists(st.booleans(), max_size=200),
)
# 0.28 * 25 is a little more than 7.
@example(percent=28, min_calls=25, results=[False] * 7 + [True] * 18)
def test_it_opens_exactly_when_ratio_and_number_of_calls_are_reached(
    percent: int, min_calls: int, results: list[bool]
) -> None:
    rig = Rig(ratio=percent / 100, min_calls=min_calls)
    failures = 0
    for calls, ok in enumerate(results, start=1):
        assert rig.attempt(ok)
        failures += not ok
        if calls >= min_calls and Fraction(failures, calls) >= Fraction(percent, 100):
            assert not rig.breaker.allows()
            return
    assert rig.breaker.allows()


def test_what_says_nothing_is_not_counted() -> None:
    rig = Rig(min_calls=2)
    for _ in range(100):
        assert rig.attempt(None)
    assert rig.attempt(False)
    assert rig.attempt(False)
    assert not rig.attempt(False)


@given(
    results=st.lists(st.tuples(st.floats(0, 4), st.booleans()), max_size=200),
)
def test_it_judges_by_the_window(results: list[tuple[float, bool]]) -> None:
    """What is at most nine tenths of the window old counts, what is as old as the window does not."""
    rig = Rig(ratio=0.5, min_calls=5, window_s=10)
    past: list[tuple[float, bool]] = []
    for pause_s, ok in results:
        now_s = rig.after(pause_s).clock.now_s
        assert rig.attempt(ok)
        past.append((now_s, ok))
        # Failures of uncertain age decide nothing: it must be open if they all count, and may be if one does.
        sure = Counter(ok for at_s, ok in past if now_s - at_s < 9 - 1e-6)
        perhaps = Counter(ok for at_s, ok in past if now_s - at_s < 10 + 1e-6)
        if not rig.breaker.allows():
            assert perhaps.total() >= 5
            assert perhaps[False] / (perhaps[False] + sure[True]) >= 0.5
            return
        assert sure.total() < 5 or sure[False] / (sure[False] + perhaps[True]) < 0.5


def test_a_result_as_old_as_the_window_no_longer_counts() -> None:
    rig = Rig(ratio=1.0, min_calls=2, window_s=8, open_s=100)
    for pause_s in (0, 8, 8):
        assert rig.after(pause_s).attempt(False)
    assert rig.after(7).attempt(False)
    assert not rig.attempt(False)


def test_its_memory_is_bounded() -> None:
    rig = Rig(window_s=1.0, ratio=1.0)
    for turn in range(20_000):
        assert rig.after(0.001).attempt(ok=turn % 2 == 0)
    assert len(rig.breaker._window._buckets) <= 11


# ---- open and half open ----


def test_open_it_lets_nothing_through_until_its_time_is_over() -> None:
    rig = Rig(open_s=5).opened()
    assert rig.breaker.opens_in_s == 5
    assert not rig.after(4.5).breaker.allows()
    assert rig.breaker.opens_in_s == 0.5
    assert rig.after(1).breaker.opens_in_s == 0
    assert rig.breaker.allows()


@pytest.mark.parametrize("probes", [1, 3])
def test_half_open_it_lets_the_probes_through_and_closes_when_all_succeed(probes: int) -> None:
    rig = Rig(open_s=5, probes=probes, min_calls=20).opened().after(5)
    began_s = rig.clock.now_s
    for _ in range(probes):
        assert rig.breaker.opens_in_s == 0
        assert rig.breaker.allows()
    assert not rig.breaker.allows()
    assert rig.breaker.opens_in_s == 5
    rig.after(0.25)
    for _ in range(probes):
        assert not rig.breaker.allows()
        rig.breaker.record(True, began_s=began_s)
    assert rig.breaker.opens_in_s == 0
    rig.after(0.25)
    # The failures from before are forgotten: it opens only after as many calls as at first.
    assert [rig.attempt(False) for _ in range(21)] == [True] * 20 + [False]


def test_a_probe_that_fails_opens_it_again_for_its_whole_time() -> None:
    rig = Rig(open_s=5, probes=3).opened().after(5)
    assert rig.attempt(True)
    assert rig.attempt(False)
    # The third probe stays at home.
    assert rig.breaker.opens_in_s == 5
    assert not rig.after(4.9).attempt(True)
    rig.after(0.1)
    # Successes of the first time do not count the second time.
    began_s = rig.clock.now_s
    assert [rig.breaker.allows() for _ in range(4)] == [True, True, True, False]
    for _ in range(3):
        assert not rig.breaker.allows()
        rig.breaker.record(True, began_s=began_s)
    assert rig.breaker.allows()


def test_a_probe_whose_end_says_nothing_is_given_to_the_next() -> None:
    rig = Rig(open_s=5).opened().after(5)
    for _ in range(10):
        assert rig.attempt(None)
    assert rig.attempt(True)
    assert [rig.breaker.allows() for _ in range(5)] == [True] * 5


def test_probes_that_hang_are_followed_by_others_and_still_count() -> None:
    rig = Rig(open_s=5).opened().after(5)
    began_s = rig.clock.now_s
    assert rig.breaker.allows()
    assert not rig.after(4).breaker.allows()
    assert rig.after(1).breaker.allows()
    assert not rig.breaker.allows()
    # A model that takes longer than open_s closes the breaker all the same.
    rig.after(2).breaker.record(True, began_s=began_s)
    assert rig.breaker.opens_in_s == 0


def test_a_probe_that_ends_after_the_breaker_closed_changes_nothing() -> None:
    rig = Rig(open_s=5, min_calls=1).opened().after(5)
    began_s = rig.clock.now_s
    assert rig.breaker.allows()
    assert rig.after(5).attempt(True)
    rig.breaker.record(False, began_s=began_s)
    assert rig.breaker.allows()


def test_probes_are_never_more_than_the_policy_says_at_a_time() -> None:
    rig = Rig(open_s=5).opened().after(5)
    began_s = rig.clock.now_s
    assert rig.breaker.allows()
    assert rig.after(5).breaker.allows()
    for _ in range(2):
        rig.breaker.record(None, began_s=began_s)
    assert [rig.breaker.allows() for _ in range(3)] == [True, False, False]


def test_calls_from_before_it_opened_neither_close_it_nor_open_it_again() -> None:
    rig = Rig(open_s=5)
    began_s = rig.clock.now_s
    rig.after(1).opened()
    for before_s in (began_s, rig.clock.now_s):
        rig.breaker.record(True, began_s=before_s)
        assert not rig.breaker.allows()
    assert rig.after(5).breaker.allows()
    for ok in (True, False, None):
        rig.breaker.record(ok, began_s=began_s)
        assert not rig.breaker.allows()
    assert rig.breaker.opens_in_s == 5
    rig.breaker.record(True, began_s=rig.clock.now_s)
    rig.after(1)
    for _ in range(30):
        rig.breaker.record(False, began_s=began_s)
    assert rig.breaker.allows()
