from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_client.core.call import Call
from tritonforge_client.core.limit import InFlight
from tritonforge_client.errors import TooManyInFlight


@given(limit=st.integers(1, 5), enters=st.lists(st.booleans(), max_size=60))
def test_as_many_calls_as_the_limit_are_in_flight_and_never_more(limit: int, enters: list[bool]) -> None:
    calls = InFlight(limit)
    count = 0
    for enter in enters:
        if not enter and count > 0:
            calls.leave()
            count -= 1
        elif count < limit:
            calls.enter()
            count += 1
        else:
            with pytest.raises(TooManyInFlight):
                calls.enter()


def test_one_too_many_is_refused_at_once_with_what_to_do() -> None:
    calls = InFlight(2)
    calls.enter()
    calls.enter()
    begin_s = time.monotonic()
    with pytest.raises(TooManyInFlight) as caught:
        calls.enter(Call(endpoint="h:1", timeout_s=30.0, model="m", request_id="5f3a"))
    assert time.monotonic() - begin_s < 1
    assert str(caught.value).startswith("m on h:1: 2 calls are in flight, as many as max_in_flight allows")
    assert "wait for some to end, make fewer at once, or raise max_in_flight" in str(caught.value)
    assert caught.value.request_id == "5f3a"
    assert not caught.value.retryable
    with pytest.raises(TooManyInFlight, match=r"^2 calls are in flight"):
        calls.enter()


def test_without_a_limit_nothing_is_refused() -> None:
    calls = InFlight(None)
    for _ in range(10_000):
        calls.enter()
