from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_client import errors
from tritonforge_client.core.call import Call
from tritonforge_client.core.retry import Retries, RetryBudget
from tritonforge_client.errors import Code, ConnectionFailed, NotReady, QueueFull, ShuttingDown, TritonError
from tritonforge_client.policies import RetryPolicy

ERRORS: dict[Code, type[TritonError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, TritonError) and "code" in vars(kind)
}
RETRIED = sorted(RetryPolicy().codes)
HALF: Callable[[], float] = lambda: 0.5  # noqa: E731
LONGEST: Callable[[], float] = lambda: 1.0 - 2**-53  # noqa: E731


def call(timeout_s: float = 100.0) -> Call:
    return Call(endpoint="h:1", timeout_s=timeout_s, model="m")


def let_pass(of: Call, seconds: float) -> None:
    """Let the call be older, without waiting."""
    object.__setattr__(of, "started_s", of.started_s - seconds)


def retries(policy: RetryPolicy, of: Call | None = None, random: Callable[[], float] = HALF) -> Retries:
    return Retries(policy, RetryBudget(0.1), of or call(), repeatable=True, random=random)


# ---- the budget ----


@given(
    percent=st.integers(0, 100),
    most=st.integers(1, 12),
    full=st.booleans(),
    events=st.lists(st.booleans(), max_size=400),
)
def test_the_budget_never_lets_more_through_than_its_share_of_successes_and_its_reserve(
    percent: int, most: int, full: bool, events: list[bool]
) -> None:
    share = Fraction(percent, 100)
    budget = RetryBudget(percent / 100, most=most, full=full)
    tokens = Fraction(most if full else 0)
    taken = successes = 0
    for is_success in events:
        if is_success:
            budget.succeeded()
            successes += 1
            tokens = min(Fraction(most), tokens + share)
        else:
            # Refused exactly when less than a whole token is there.
            assert budget.take() is (tokens >= 1)
            if tokens >= 1:
                tokens -= 1
                taken += 1
        assert taken <= share * successes + (most if full else 0)
        assert budget.tokens == float(tokens)


def test_ten_tenths_are_a_token() -> None:
    budget = RetryBudget(0.1, full=False)
    for _ in range(9):
        budget.succeeded()
        assert not budget.take()
    budget.succeeded()
    assert budget.take()
    assert not budget.take()


def test_a_share_counts_to_the_millionth() -> None:
    budget = RetryBudget(0.000249, full=False)
    budget.succeeded()
    assert budget.tokens == 0.000249


def test_an_outage_costs_the_reserve_and_no_more() -> None:
    budget = RetryBudget(0.1)
    policy = RetryPolicy(attempts=3)
    sent = 0
    for _ in range(1000):
        attempts = Retries(policy, budget, call(), repeatable=True)
        sent += 1
        while attempts.pause_s(QueueFull("full"), other_endpoint=False) is not None:
            sent += 1
    assert sent == 1000 + 10


# ---- the retries of one call ----


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_only_the_codes_of_the_policy_are_retried(code: Code) -> None:
    error = ERRORS[code]("no")
    assert (retries(RetryPolicy()).pause_s(error, other_endpoint=False) is not None) == (code in RETRIED)
    assert retries(RetryPolicy(codes=frozenset())).pause_s(error, other_endpoint=True) is None


@pytest.mark.parametrize("code", RETRIED)
def test_what_must_not_run_twice_is_never_sent_again(code: Code) -> None:
    budget = RetryBudget(0.1)
    once = Retries(RetryPolicy(), budget, call(), repeatable=False)
    assert once.pause_s(ERRORS[code]("no"), other_endpoint=True) is None
    assert budget.tokens == 10


def test_without_a_policy_nothing_is_sent_again() -> None:
    never = Retries(None, RetryBudget(0.1), call(), repeatable=True)
    assert never.pause_s(ConnectionFailed("no"), other_endpoint=True) is None


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_count_the_first_one(attempts: int) -> None:
    own = retries(RetryPolicy(attempts=attempts))
    pauses = [own.pause_s(QueueFull("full"), other_endpoint=False) for _ in range(attempts + 2)]
    assert [pause is not None for pause in pauses] == [True] * (attempts - 1) + [False] * 3


def test_the_longest_pause_grows_up_to_the_maximum() -> None:
    policy = RetryPolicy(attempts=7, initial_s=0.05, maximum_s=0.5, multiplier=2)
    own = retries(policy)
    pauses = [own.pause_s(QueueFull("full"), other_endpoint=False) for _ in range(6)]
    assert pauses == pytest.approx([0.025, 0.05, 0.1, 0.2, 0.25, 0.25])


def test_the_pause_is_anything_between_nothing_and_the_longest() -> None:
    for share in (0.0, 0.25, 0.999):
        own = retries(RetryPolicy(), random=lambda share=share: share)  # type: ignore[misc]  # bound at once
        assert own.pause_s(QueueFull("full"), other_endpoint=False) == pytest.approx(share * 0.05)


def test_pauses_are_random_by_themselves() -> None:
    pauses = {
        Retries(RetryPolicy(), RetryBudget(0.1), call(), repeatable=True).pause_s(QueueFull("f"), other_endpoint=False)
        for _ in range(20)
    }
    assert len(pauses) == 20
    assert all(pause is not None and 0 <= pause <= 0.05 for pause in pauses)


@pytest.mark.parametrize("code", RETRIED)
def test_what_concerns_one_endpoint_goes_to_another_at_once(code: Code) -> None:
    error = ERRORS[code]("no")
    at_once = code in {"shutting_down", "not_ready", "connection", "unavailable"}
    assert retries(RetryPolicy()).pause_s(error, other_endpoint=True) == (0.0 if at_once else 0.025)
    assert retries(RetryPolicy()).pause_s(error, other_endpoint=False) == 0.025


def test_the_wait_that_a_server_asked_for_comes_first() -> None:
    full = QueueFull("full")
    assert retries(RetryPolicy()).pause_s(full, other_endpoint=False, at_least_s=2.0) == 2.025
    assert retries(RetryPolicy()).pause_s(NotReady("no"), other_endpoint=True, at_least_s=2.0) == 2.0
    for wait_s in (100.0, math.inf, math.nan):
        assert retries(RetryPolicy()).pause_s(full, other_endpoint=False, at_least_s=wait_s) is None


def test_a_call_whose_time_would_pass_in_the_pause_gives_up_and_keeps_the_token() -> None:
    budget = RetryBudget(0.1)
    policy = RetryPolicy(initial_s=1.0)
    own = Retries(policy, budget, call(timeout_s=0.5), repeatable=True, random=HALF)
    assert own.pause_s(QueueFull("full"), other_endpoint=False) is None
    assert budget.tokens == 10


def test_a_call_whose_time_is_over_gives_up_even_where_no_pause_is_needed() -> None:
    late = call(timeout_s=1.0)
    let_pass(late, 1.0)
    assert retries(RetryPolicy(), late).pause_s(ShuttingDown("no"), other_endpoint=True) is None


def test_an_empty_budget_ends_the_call() -> None:
    budget = RetryBudget(0.1, full=False)
    own = Retries(RetryPolicy(), budget, call(), repeatable=True)
    assert own.pause_s(ConnectionFailed("no"), other_endpoint=False) is None


def test_what_goes_to_another_endpoint_at_once_costs_nothing() -> None:
    budget = RetryBudget(0.1, full=False)
    assert (
        Retries(RetryPolicy(), budget, call(), repeatable=True).pause_s(ConnectionFailed("no"), other_endpoint=True)
        == 0
    )


@given(
    timeout_s=st.floats(0.01, 20),
    initial_s=st.floats(1e-3, 5),
    growth=st.floats(1, 1e3),
    attempts=st.integers(1, 2000),
    random=st.sampled_from([HALF, LONGEST, float]),
    events=st.lists(
        st.tuples(st.sampled_from(get_args(Code)), st.booleans(), st.floats(0, 1), st.floats(0, 3)), max_size=30
    ),
)
def test_pauses_never_reach_the_deadline(
    timeout_s: float,
    initial_s: float,
    growth: float,
    attempts: int,
    random: Callable[[], float],
    events: list[tuple[Code, bool, float, float]],
) -> None:
    policy = RetryPolicy(attempts=attempts, initial_s=initial_s, maximum_s=initial_s * growth, multiplier=growth)
    own = call(timeout_s)
    budget = RetryBudget(0.1, most=5)
    several = Retries(policy, budget, own, repeatable=True, random=random)
    retried = paid = 0
    for code, other_endpoint, at_least_s, took_s in events:
        let_pass(own, took_s)
        left_s = own.timeout_s - own.elapsed_s
        pause_s = several.pause_s(ERRORS[code]("no"), other_endpoint=other_endpoint, at_least_s=at_least_s)
        if pause_s is None:
            continue
        retried += 1
        # Elsewhere it adds no load where it failed.
        paid += not (other_endpoint and code in {"shutting_down", "not_ready", "connection", "unavailable"})
        assert code in policy.codes
        assert at_least_s <= pause_s < left_s
        assert pause_s <= at_least_s + policy.maximum_s
        let_pass(own, pause_s)
    assert retried <= attempts - 1
    assert paid <= 5
