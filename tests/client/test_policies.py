from __future__ import annotations

import math
import pickle
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import FrozenInstanceError, asdict
from types import FrameType
from typing import Any, get_args

import pytest

from tritonforge_client import InvalidInput, errors
from tritonforge_client.core.balance import Balancer
from tritonforge_client.core.breaker import Breaker
from tritonforge_client.core.limit import InFlight
from tritonforge_client.core.retry import RetryBudget
from tritonforge_client.errors import Code, TooManyInFlight, TritonError
from tritonforge_client.policies import BreakerPolicy, HedgePolicy, RetryPolicy

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TritonError)]
RETRIED = ["queue_full", "not_ready", "shutting_down", "connection", "unavailable"]


def test_defaults() -> None:
    assert asdict(RetryPolicy()) == {
        "attempts": 3,
        "initial_s": 0.05,
        "maximum_s": 1.0,
        "multiplier": 2.0,
        "budget": 0.1,
        "codes": set(RETRIED),
    }
    assert asdict(HedgePolicy()) == {"delay_s": "p95", "extra": 1, "budget": 0.05}
    assert asdict(BreakerPolicy()) == {"ratio": 0.5, "window_s": 10.0, "min_calls": 20, "open_s": 5.0, "probes": 1}


@pytest.mark.parametrize(
    ("policy", "field", "values", "expected"),
    [
        (RetryPolicy, "attempts", [0, -1, 2.0, True, "3", None], "a whole number of at least 1"),
        (RetryPolicy, "initial_s", [0, -1, math.nan, math.inf, 2e6, True, "1"], "seconds above 0"),
        (RetryPolicy, "maximum_s", [0, math.nan, math.inf, None], "seconds above 0"),
        (RetryPolicy, "maximum_s", [0.01], "at least initial_s, which is 0.05"),
        (RetryPolicy, "multiplier", [0.99, math.nan, math.inf, True], "a finite number of at least 1"),
        (RetryPolicy, "budget", [-0.1, 1.1, math.nan, True, "0.1"], "a share from 0 to 1"),
        (
            HedgePolicy,
            "delay_s",
            [0, -1, math.nan, math.inf, "p99", None],
            "seconds above 0 and at most 1000000 or 'p95'",
        ),
        (HedgePolicy, "extra", [0, -1, 1.0, True], "a whole number of at least 1"),
        (HedgePolicy, "budget", [-0.1, 1.1, math.nan], "a share from 0 to 1"),
        (BreakerPolicy, "ratio", [0, -0.1, 1.1, math.nan, True], "a share above 0 and at most 1"),
        (BreakerPolicy, "window_s", [0, math.inf], "seconds above 0"),
        (BreakerPolicy, "min_calls", [0, 1.5], "a whole number of at least 1"),
        (BreakerPolicy, "open_s", [0, math.nan], "seconds above 0"),
        (BreakerPolicy, "probes", [0, True], "a whole number of at least 1"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_was_expected(
    policy: Any, field: str, values: list[Any], expected: str
) -> None:
    for value in values:
        with pytest.raises(InvalidInput) as caught:
            policy(**{field: value})
        assert str(caught.value).startswith(f"{policy.__name__}.{field}: expected {expected}")
        assert str(caught.value).endswith(f", got {value!r}")
        assert (caught.value.field, caught.value.got) == (field, repr(value))


def test_the_limits_themselves_are_allowed() -> None:
    RetryPolicy(attempts=1, initial_s=1e-6, maximum_s=1e-6, multiplier=1, budget=0, codes=frozenset())
    RetryPolicy(initial_s=1_000_000, maximum_s=1_000_000, budget=1)
    BreakerPolicy(ratio=1, window_s=1e-6, min_calls=1, open_s=1_000_000, probes=1)


@pytest.mark.parametrize("code", get_args(Code))
def test_exactly_the_codes_of_retryable_errors_can_be_retried(code: Code) -> None:
    retryable = {kind.retryable for kind in KINDS if kind.code == code}
    assert len(retryable) == 1
    if retryable.pop():
        assert RetryPolicy(codes=frozenset({code})).codes == {code}
        return
    with pytest.raises(InvalidInput, match=f"got '{code}', which is never retried: ") as caught:
        RetryPolicy(codes=frozenset({code, "queue_full"}))
    # It says what can be retried instead, and why this cannot.
    assert all(other in caught.value.expected for other in RETRIED)
    assert len(str(caught.value).partition("never retried: ")[2].split()) >= 4


@pytest.mark.parametrize("codes", [{"nonsense"}, {3}, "queue_full", ["queue_full"], None])
def test_what_is_no_set_of_codes_is_refused(codes: Any) -> None:
    with pytest.raises(InvalidInput, match=r"RetryPolicy\.codes: expected (a set of codes|codes of unavailable, )"):
        RetryPolicy(codes=codes)


def test_codes_are_copied() -> None:
    codes: Any = {"queue_full"}
    policy = RetryPolicy(codes=codes)
    codes.add("connection")
    assert policy.codes == frozenset({"queue_full"})


@pytest.mark.parametrize(
    ("policy", "field"),
    [(RetryPolicy(attempts=5), "codes"), (BreakerPolicy(probes=2), "ratio")],
)
def test_policies_are_values(policy: Any, field: str) -> None:
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert len({policy, pickle.loads(pickle.dumps(policy))}) == 1
    with pytest.raises(FrozenInstanceError):
        setattr(policy, field, 1)


# ---- what carries the policies out is shared by threads ----


def in_threads(work: Callable[[], None], count: int = 4) -> None:
    """Run work in threads that take turns after any instruction of the client, so that a missing lock shows."""

    def take_turns(frame: FrameType, event: str, arg: object) -> Any:
        if "tritonforge_client" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        # At random, because threads in step may do the same wrong equally often.
        if random.random() < 0.5:
            time.sleep(1e-6)
        return take_turns

    together = threading.Barrier(count)

    def begin() -> None:
        together.wait()
        work()

    threads = [threading.Thread(target=begin) for _ in range(count)]
    threading.settrace(take_turns)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.settrace(None)


def times(count: int, step: Callable[[], object]) -> Callable[[], None]:
    """Work that repeats one step."""

    def work() -> None:
        for _ in range(count):
            step()

    return work


def test_threads_neither_lose_nor_make_tokens_of_the_budget() -> None:
    budget = RetryBudget(0.5, most=1000, full=False)
    in_threads(times(50, budget.succeeded))
    assert budget.tokens == 4 * 50 * 0.5
    in_threads(times(25, budget.take))
    assert budget.tokens == 0
    assert not budget.take()


@pytest.mark.parametrize("probes", [1, 3] * 5)
def test_of_many_threads_only_as_many_as_there_are_probes_pass(probes: int) -> None:
    now_s = 0.0
    breaker = Breaker(BreakerPolicy(min_calls=1, open_s=5, probes=probes), lambda: now_s)
    breaker.record(False, began_s=now_s)
    now_s = 5.0
    passed: list[bool] = []
    in_threads(times(4, lambda: passed.append(breaker.allows())))
    assert sum(passed) == probes


def test_threads_lose_no_result_of_the_breaker() -> None:
    breaker = Breaker(BreakerPolicy(ratio=1, min_calls=4 * 12 + 1), lambda: 0.0)
    in_threads(times(12, lambda: breaker.record(False, began_s=0.0)))
    assert breaker.allows()
    breaker.record(False, began_s=0.0)
    assert not breaker.allows()


def test_threads_get_endpoints_in_turn() -> None:
    balancer = Balancer(3, "round_robin")
    taken: list[int | None] = []
    in_threads(times(15, lambda: taken.append(balancer.pick())))
    assert [taken.count(index) for index in range(3)] == [20, 20, 20]


def test_threads_leave_no_attempt_behind() -> None:
    balancer = Balancer(2, "least_in_flight")
    in_threads(times(30, lambda: balancer.started(0)))
    for _ in range(4 * 30):
        assert balancer.pick() == 1
        balancer.started(1)
    in_threads(times(30, lambda: balancer.finished(0)))
    for _ in range(4 * 30):
        assert balancer.pick() == 0
        balancer.finished(1)
    # Nothing is in flight, so that they are taken in turn.
    assert [balancer.pick() for _ in range(4)] == [1, 0, 1, 0]


@pytest.mark.parametrize("limit", [1, 3] * 5)
def test_threads_never_pass_the_limit(limit: int) -> None:
    calls = InFlight(limit)
    entered: list[int] = []

    def enter() -> None:
        with suppress(TooManyInFlight):
            calls.enter()
            entered.append(1)

    in_threads(times(4, enter))
    assert len(entered) == limit


def test_threads_leave_no_call_behind() -> None:
    calls = InFlight(100)
    times(100, calls.enter)()
    in_threads(times(25, calls.leave))
    times(100, calls.enter)()
    with pytest.raises(TooManyInFlight):
        calls.enter()
