from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_client import InvalidInput
from tritonforge_client.core.balance import Balancer
from tritonforge_client.policies import Balance

KINDS = st.sampled_from(get_args(Balance))
COUNTS = st.integers(1, 6)


def indices() -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(0, 5))


@given(
    kind=KINDS,
    count=COUNTS,
    picks=st.lists(st.tuples(indices(), indices(), st.booleans()), max_size=60),
)
def test_no_endpoint_is_taken_that_is_not_allowed_or_avoided_while_another_is_allowed(
    kind: Balance, count: int, picks: list[tuple[set[int], set[int], bool]]
) -> None:
    balancer = Balancer(count, kind)
    for avoid, allowed, stays in picks:
        asked: list[int] = []

        def allow(index: int, allowed: set[int] = allowed, asked: list[int] = asked) -> bool:
            asked.append(index)
            return index in allowed

        index = balancer.pick(avoid, allowed=allow)
        possible = allowed & set(range(count))
        if index is None:
            assert not possible
            assert sorted(asked) == list(range(count))
            continue
        assert index in possible
        assert index not in avoid or not possible - avoid
        # Asking may take a probe of a breaker, so nobody is asked after the one that is taken.
        assert asked.index(index) == len(asked) - 1
        if stays:
            balancer.started(index)


@given(
    kind=st.sampled_from(["round_robin", "least_in_flight"]),
    count=COUNTS,
    allowed=indices(),
    picks=st.integers(1, 100),
    finish=st.booleans(),
)
def test_all_that_are_allowed_are_taken_equally_often_within_one(
    kind: Balance, count: int, allowed: set[int], picks: int, finish: bool
) -> None:
    balancer = Balancer(count, kind)
    taken = Counter(dict.fromkeys(allowed & set(range(count)), 0))
    for _ in range(picks):
        index = balancer.pick(allowed=allowed.__contains__)
        if index is None:
            assert not taken
            return
        taken[index] += 1
        balancer.started(index)
        if finish:
            balancer.finished(index)
    assert max(taken.values()) - min(taken.values()) <= 1


@given(count=COUNTS, events=st.lists(st.integers(0, 5), max_size=100))
def test_least_in_flight_takes_one_with_the_fewest(count: int, events: list[int]) -> None:
    balancer = Balancer(count, "least_in_flight")
    in_flight = [0] * count
    for event in events:
        # Sometimes one ends first.
        if event < count and in_flight[event] > 0:
            balancer.finished(event)
            in_flight[event] -= 1
            continue
        index = balancer.pick()
        assert index is not None
        assert in_flight[index] == min(in_flight)
        balancer.started(index)
        in_flight[index] += 1


def test_pick_first_keeps_the_first_that_is_allowed() -> None:
    balancer = Balancer(3, "pick_first")
    assert [balancer.pick() for _ in range(3)] == [0, 0, 0]
    assert balancer.pick(allowed={1, 2}.__contains__) == 1
    assert balancer.pick([0]) == 1
    assert balancer.pick([0, 1, 2]) == 0
    assert balancer.pick() == 0


def test_round_robin_goes_round() -> None:
    balancer = Balancer(3, "round_robin")
    assert [balancer.pick() for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    # An endpoint that is left out does not give its turns to its neighbour.
    assert [balancer.pick(allowed={0, 2}.__contains__) for _ in range(4)] == [2, 0, 2, 0]


def test_none_is_taken_when_all_breakers_are_open() -> None:
    for kind in get_args(Balance):
        assert Balancer(3, kind).pick(allowed=lambda _: False) is None


@pytest.mark.parametrize("kind", ["roundrobin", "", None, 3])
def test_an_unknown_balance_is_refused_with_those_there_are(kind: Any) -> None:
    text = f"balance: expected one of pick_first, round_robin, least_in_flight, got {kind!r}"
    with pytest.raises(InvalidInput, match=text) as caught:
        Balancer(2, kind)
    assert caught.value.field == "balance"
