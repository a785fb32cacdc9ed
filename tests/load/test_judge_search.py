from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_load.campaign import Search
from tritonforge_load.judge import SearchPlan, longest_steps, usual_steps
from tritonforge_load.measure import SearchOutcome


def search_of(from_: float = 100, to: float = 2000, *, over: str = "rate", **keys: Any) -> Search:
    unit = "/s" if over == "rate" else ""
    ends: dict[str, Any] = {"from": f"{from_}{unit}", "to": f"{to}{unit}"} if unit else {"from": from_, "to": to}
    return Search.model_validate({"over": over, **ends, "step_for": "10s", "until": ["p99 < 25ms"], **keys})


def played(search: Search, holds: Callable[[float], bool], *, generator_limit: float = math.inf) -> SearchOutcome:
    plan = SearchPlan(search)
    step = 0
    while (load := plan.next_load()) is not None:
        step += 1
        assert step <= longest_steps(search)
        by_generator = load >= generator_limit
        held = not by_generator and holds(load)
        plan.record(f"peak#{step}", load, held, () if held else ("it was slow",), generator_was_limit=by_generator)
    return plan.outcome()


def loads_of(outcome: SearchOutcome) -> list[float]:
    return [step.load for step in outcome.steps]


def test_doubles_then_halves_then_confirms() -> None:
    outcome = played(search_of(precision="10%", confirm=2), lambda load: load <= 500)
    assert loads_of(outcome) == [100, 200, 400, 800, 600, 500, 550, 500, 500]
    assert [step.held for step in outcome.steps] == [True, True, True, False, False, True, False, True, True]
    assert (outcome.over, outcome.found, outcome.is_limit) == ("rate", 500, True)
    assert outcome.reason == "550/s did not hold"
    assert outcome.steps[3].reasons == ("it was slow",)
    assert outcome.steps[3].run == "peak#4"


def test_ends_at_the_highest_load_that_may_be_tried() -> None:
    outcome = played(search_of(100, 500), lambda load: True)
    assert loads_of(outcome) == [100, 200, 400, 500, 500]
    assert (outcome.found, outcome.is_limit) == (500, False)
    assert outcome.reason == "the highest load to try, 500/s, held: raise to"


def test_a_lowest_load_that_fails_ends_it() -> None:
    outcome = played(search_of(), lambda load: False)
    assert (loads_of(outcome), outcome.found, outcome.is_limit) == ([100], None, True)
    assert outcome.reason == "the lowest load, 100/s, did not hold: begin lower"


def test_a_generator_at_its_limit_finds_no_limit_of_the_server() -> None:
    outcome = played(search_of(precision="10%"), lambda load: load <= 5000, generator_limit=510)
    assert (outcome.found, outcome.is_limit) == (500, False)
    assert outcome.reason == "the generator was the limit at 550/s: add workers"
    none = played(search_of(), lambda load: True, generator_limit=50)
    assert (none.found, none.is_limit) == (None, False)
    assert none.reason == "the generator was the limit at 100/s: add workers"


def test_a_moment_in_which_the_generator_paused_does_not_end_it() -> None:
    paused: list[float] = []

    def pauses(load: float) -> bool:
        paused.append(load)
        return paused.count(load) == 1

    plan = SearchPlan(search_of(precision="10%"))
    while (load := plan.next_load()) is not None:
        by_generator = pauses(load)
        plan.record("peak", load, not by_generator and load <= 500, generator_was_limit=by_generator)
    outcome = plan.outcome()
    assert loads_of(outcome) == [each for load in (100, 200, 400, 800, 600, 500, 550) for each in (load, load)] + [500]
    assert (outcome.found, outcome.is_limit, outcome.reason) == (500, True, "550/s did not hold")


def test_the_server_is_the_limit_where_it_fails_below_the_generator() -> None:
    outcome = played(search_of(precision="10%"), lambda load: load <= 500, generator_limit=700)
    assert (outcome.found, outcome.is_limit) == (500, True)


def test_users_are_whole_and_found_exactly_where_precision_is_below_one() -> None:
    search = search_of(1, 64, over="users", precision="1%", confirm=1)
    outcome = played(search, lambda load: load <= 11)
    assert loads_of(outcome) == [1, 2, 4, 8, 16, 12, 10, 11, 11]
    assert all(isinstance(step.load, int) for step in outcome.steps)
    assert (outcome.found, outcome.reason) == (11, "12 users did not hold")


def test_a_load_that_fails_its_confirmation_is_not_found() -> None:
    tried: list[float] = []

    def holds(load: float) -> bool:
        tried.append(load)
        return load < 500 or (load == 500 and tried.count(500) == 1)

    outcome = played(search_of(precision="10%", confirm=1), holds)
    assert loads_of(outcome) == [100, 200, 400, 800, 600, 500, 550, 500, 450, 475, 475]
    assert (outcome.found, outcome.is_limit) == (475, True)
    assert outcome.reason == "500/s did not hold when played again"


def test_a_server_that_never_holds_twice_is_said_to_be_so() -> None:
    tried: list[float] = []

    def holds(load: float) -> bool:
        tried.append(load)
        return tried.count(load) == 1

    outcome = played(search_of(), holds)
    assert (outcome.found, outcome.is_limit) == (None, True)
    assert outcome.reason.startswith("no load held twice, the last ")
    assert outcome.reason.endswith(": make the steps longer")


def test_another_load_than_the_next_is_refused() -> None:
    plan = SearchPlan(search_of())
    with pytest.raises(ValueError, match=r"expected the load 100\.0, got 200"):
        plan.record("peak", 200, True)
    plan.record("peak", 100, False)
    with pytest.raises(ValueError, match="expected the load None"):
        plan.record("peak", 100, True)


def test_a_search_that_was_stopped_found_nothing() -> None:
    plan = SearchPlan(search_of())
    for load, held in [(100, True), (200, False)]:
        plan.record("peak", load, held)
    outcome = plan.outcome()
    assert (outcome.found, outcome.is_limit) == (None, False)
    assert outcome.reason == "the search was stopped before its end"
    assert len(outcome.steps) == 2


@st.composite
def searches(draw: st.DrawFn) -> Search:
    over = draw(st.sampled_from(["rate", "users"]))
    from_ = draw(st.integers(1, 500))
    to = from_ + draw(st.integers(1, 5000))
    precision = draw(st.sampled_from(["0.5%", "1%", "5%", "10%", "33.3%", "100%"]))
    return search_of(from_, to, over=over, precision=precision, confirm=draw(st.integers(0, 3)))


@given(search=searches(), at=st.floats(0, 1.2))
def test_finds_the_limit_of_every_server_that_has_one(search: Search, at: float) -> None:
    limit = search.from_ * 0.5 + at * (search.to - search.from_ * 0.5)
    outcome = played(search, lambda load: load <= limit)
    assert len(outcome.steps) <= usual_steps(search)
    if limit < search.from_:
        assert outcome.found is None
    elif limit >= search.to:
        assert (outcome.found, outcome.is_limit) == (search.to, False)
    else:
        assert outcome.found is not None
        width = search.precision * outcome.found
        if search.over == "users":
            width = max(1.0, width)
        assert outcome.found <= limit < outcome.found + width + 1e-9
        assert outcome.is_limit
        again = [step for step in outcome.steps if step.load == outcome.found]
        assert len(again) == 1 + search.confirm


@given(search=searches(), seed=st.integers(0, 10**6), blur=st.floats(0.01, 3.0))
def test_of_a_noisy_server_it_ends_and_finds_only_what_was_confirmed(search: Search, seed: int, blur: float) -> None:
    draw = random.Random(seed)
    limit = draw.uniform(search.from_, search.to)

    def holds(load: float) -> bool:
        return draw.random() < 1 / (1 + math.exp(min(50.0, (load - limit) / (blur * limit))))

    outcome = played(search, holds)
    held = [step.held for step in outcome.steps if step.load == outcome.found]
    assert outcome.found is None or held == [True] * (1 + search.confirm)


@given(search=searches(), seed=st.integers(0, 10**6))
def test_chance_itself_does_not_keep_it_going(search: Search, seed: int) -> None:
    draw = random.Random(seed)
    played(search, lambda load: draw.random() < 0.7)


def test_steps_are_known_beforehand() -> None:
    search = search_of(100, 2000, precision="5%", confirm=1)
    assert usual_steps(search) == 6 + 5 + 1
    assert longest_steps(search) == 2 * (6 + 7 * (5 + 1))
    assert longest_steps(search_of(confirm=0)) == 2 * usual_steps(search_of(confirm=0))
