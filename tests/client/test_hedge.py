from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tritonforge_client.core.hedge import Hedge
from tritonforge_client.policies import HedgePolicy

LATENCIES_S = st.floats(1e-6, 1e3)


def answered(hedge: Hedge, count: int, latency_s: float = 0.01) -> Hedge:
    for _ in range(count):
        hedge.answered(latency_s)
    return hedge


def test_until_enough_latencies_are_known_nothing_is_hedged() -> None:
    hedge = answered(Hedge(HedgePolicy(budget=1)), 49)
    assert hedge.delay_s() is None
    assert answered(hedge, 1).delay_s() == 0.01


def test_a_delay_of_ones_own_needs_no_latencies_but_the_budget() -> None:
    hedge = Hedge(HedgePolicy(delay_s=0.2, budget=0.05))
    assert answered(hedge, 19).delay_s() is None
    assert answered(hedge, 1).delay_s() == 0.2


@given(st.lists(LATENCIES_S, min_size=50, max_size=1200))
@example([float(number) for number in range(1, 101)])
def test_the_delay_is_the_95th_percentile_of_the_latest_calls(latencies_s: list[float]) -> None:
    hedge = Hedge(HedgePolicy())
    for latency_s in latencies_s:
        hedge.answered(latency_s)
    assert hedge.delay_s() == np.percentile(latencies_s[-512:], 95, method="inverted_cdf")


def test_the_delay_follows_the_load() -> None:
    hedge = answered(Hedge(HedgePolicy()), 100_000, latency_s=0.01)
    assert answered(hedge, 512, latency_s=0.3).delay_s() == 0.3
    assert answered(hedge, 512, latency_s=0.02).delay_s() == 0.02


@given(percent=st.integers(0, 100), events=st.lists(st.booleans(), max_size=300))
def test_no_more_is_sent_than_the_budget_of_the_answered_calls(percent: int, events: list[bool]) -> None:
    hedge = Hedge(HedgePolicy(delay_s=0.1, budget=percent / 100))
    calls = extra = 0
    for is_answer in events:
        if is_answer:
            hedge.answered(0.1)
            calls += 1
        else:
            allowed = hedge.delay_s() is not None
            assert hedge.take() is allowed
            extra += allowed
        assert extra <= Fraction(percent, 100) * calls


def test_a_server_that_stands_still_is_not_flooded() -> None:
    """A hundred calls wait for the same answer, and each would send another request at the same time."""
    hedge = answered(Hedge(HedgePolicy(budget=0.05)), 1000)
    assert [hedge.delay_s() for _ in range(100)] == [0.01] * 100
    assert sum(hedge.take() for _ in range(100)) == 10
    assert hedge.delay_s() is None
