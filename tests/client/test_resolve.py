"""When a name is asked, and what becomes of the addresses that it had."""

from __future__ import annotations

from typing import Any

import pytest

from tritonforge_client import Cancelled, ConnectionFailed, DeadlineExceeded, QueueFull, ServerError, TritonError
from tritonforge_client.core import endpoints as endpoints_module
from tritonforge_client.core import resolve
from tritonforge_client.core.balance import Balancer
from tritonforge_client.core.call import Call
from tritonforge_client.core.effects import Close, Resolve
from tritonforge_client.core.endpoints import Endpoints
from tritonforge_client.core.resolve import Name, Names

A, B, C = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class Clock:
    """Stands still until it is moved on."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Transport:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(resolve, "time", clock)
    monkeypatch.setattr(endpoints_module, "time", clock)
    return clock


class Driver:
    """A name among endpoints, and the answers of its resolver."""

    def __init__(self) -> None:
        balancer = Balancer(1, "round_robin")
        self.endpoints = Endpoints([Transport("name")], balancer, is_fixed=False)
        self.names = Names({0: Name(None, Transport)}, self.endpoints, lambda: False)

    def refresh(self, *addresses: str) -> tuple[bool, list[str]]:
        """Return whether the name was asked, and what was closed."""
        asked = False
        closed: list[str] = []
        steps = self.names.refresh(Call(endpoint="name", timeout_s=10))
        outcome: Any = None
        while True:
            try:
                effect = steps.send(outcome)
            except StopIteration:
                return asked, closed
            outcome = list(addresses)
            if isinstance(effect, Resolve):
                asked = True
            elif isinstance(effect, Close):
                closed.append(effect.transport.endpoint)

    def picked(self, times: int) -> list[str]:
        call = Call(endpoint="name", timeout_s=10)
        indices = [self.endpoints.pick((), call, None) for _ in range(times)]
        return [self.endpoints.transports[index].endpoint for index in indices]

    def fail(self, error: TritonError | None = None) -> None:
        error = error or ConnectionFailed("refused")
        call = Call(endpoint="name", timeout_s=10)
        index = self.endpoints.pick((), call, None)
        with pytest.raises(type(error)), self.endpoints.used(index, call, None):
            raise error


@pytest.mark.parametrize("error", [ConnectionFailed("refused"), DeadlineExceeded("too late")], ids=lambda e: e.code)
def test_a_name_is_asked_again_after_a_failure_and_not_more_often_than_every_second(
    clock: Clock, error: TritonError
) -> None:
    driver = Driver()
    assert driver.refresh(A)[0]
    clock.now_s += 1000
    assert not driver.refresh(A)[0]
    driver.fail(error)
    assert driver.refresh(A)[0]
    for _ in range(9):
        clock.now_s += 0.1
        driver.fail(error)
        assert not driver.refresh(A)[0]
    clock.now_s += 0.2
    assert driver.refresh(A)[0]
    clock.now_s += 1000
    assert not driver.refresh(A)[0]


@pytest.mark.parametrize(
    "error", [QueueFull("busy"), ServerError("the model raised"), Cancelled("closed")], ids=lambda e: e.code
)
def test_a_server_that_answers_is_where_its_name_said(clock: Clock, error: TritonError) -> None:
    driver = Driver()
    assert driver.refresh(A)[0]
    clock.now_s += 1000
    driver.fail(error)
    assert not driver.refresh(A)[0]


def test_addresses_that_stay_keep_their_endpoints(clock: Clock) -> None:
    driver = Driver()
    driver.refresh(A, B)
    before = {one.endpoint: one for one in driver.endpoints.transports}
    assert sorted(driver.picked(4)) == [A, A, B, B]
    driver.fail()
    clock.now_s += 5
    driver.refresh(C, B)
    assert sorted(driver.picked(4)) == [B, B, C, C]
    after = [one for one in driver.endpoints.transports if one.endpoint == B]
    assert after == [before[B]]


def test_an_address_that_is_gone_is_closed_once_nothing_is_in_flight(clock: Clock) -> None:
    driver = Driver()
    driver.refresh(A)
    call = Call(endpoint="name", timeout_s=10)
    index = driver.endpoints.pick((), call, None)
    with driver.endpoints.used(index, call, None):
        driver.fail()
        clock.now_s += 5
        assert driver.refresh(B) == (True, ["name"])
        clock.now_s += 5
        assert driver.refresh() == (False, [])
        assert driver.picked(3) == [B, B, B]
    assert driver.refresh() == (False, [A])
    assert driver.refresh() == (False, [])
