"""A request that is not answered soon goes to another endpoint too, and the server drops what lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from contract.conftest import made_client
from support.fault_proxy import FaultProxy

from tritonforge_client import (
    BreakerPolicy,
    Cancelled,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    HedgePolicy,
    InvalidInput,
    Options,
    TritonError,
)
from tritonforge_client.hooks import Attempt
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120)]

INPUTS = {"IN_FP32": np.ones((1, 4), np.float32)}
DELAY_S = 0.1
HEDGE = HedgePolicy(delay_s=DELAY_S, budget=1.0)


@pytest.fixture(params=["grpc", "grpc-async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(server: EmbeddedTriton) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", int(server.grpc_url.rpartition(":")[2])) as made:
        yield made


@contextmanager
def hedged(kind: str, server: EmbeddedTriton, proxy: FaultProxy, **options: Any) -> Iterator[Client]:
    """A client whose first endpoint is behind the proxy; one call earned it the budget for another request."""
    targets = [f"grpc://127.0.0.1:{proxy.port}", server.grpc_url]
    known = {"timeout_s": 10.0, "retry": None, "hedge": HEDGE, **options}
    hooks = known.pop("hooks", ())
    with made_client(kind, targets, balance="pick_first", options=Options(**known), hooks=hooks) as client:
        client.infer("identity", INPUTS)
        yield client


def test_another_endpoint_answers_for_one_that_stalls(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with hedged(kind, server, proxy) as client:
        proxy.stall()
        start_s = time.monotonic()
        reply = client.infer("identity", INPUTS)
        assert DELAY_S <= time.monotonic() - start_s < 5
        assert (reply.endpoint, reply.attempts) == (server.grpc_url.removeprefix("grpc://"), 2)
        np.testing.assert_array_equal(reply.value["OUT_FP32"], INPUTS["IN_FP32"])


def test_a_prepared_request_is_hedged(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with hedged(kind, server, proxy) as client:
        prepared = client.bind(client.spec("identity")).prepare(INPUTS, outputs=["OUT_FP32"])
        proxy.stall()
        answer = client.send(prepared)
        assert (answer.endpoint, answer.attempts) == (server.grpc_url.removeprefix("grpc://"), 2)
        np.testing.assert_array_equal(answer.decode().value["OUT_FP32"], INPUTS["IN_FP32"])


def test_who_answers_in_time_is_asked_alone(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with hedged(kind, server, proxy, hedge=HedgePolicy(delay_s=5.0, budget=1.0)) as client:
        assert {client.infer("identity", INPUTS).attempts for _ in range(20)} == {1}


def test_nothing_is_hedged_without_budget(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with hedged(kind, server, proxy, hedge=HedgePolicy(delay_s=0.1, budget=0.0), timeout_s=0.5) as client:
        client.infer("identity", INPUTS, options=Options(timeout_s=10))
        proxy.stall()
        with pytest.raises(DeadlineExceeded):
            client.infer("identity", INPUTS)


def test_the_server_hears_what_lost(server: EmbeddedTriton, kind: str) -> None:
    """Both requests are for one instance, for a second each: if the second ran too, the next call would wait."""
    targets = [server.grpc_url, server.grpc_url.replace("127.0.0.1", "localhost")]
    options = Options(timeout_s=10, retry=None, hedge=HEDGE)
    with made_client(kind, targets, balance="pick_first", options=options) as client:
        client.infer("cancellable", slept(0))
        assert client.infer("cancellable", slept(1)).attempts == 1
        start_s = time.monotonic()
        client.infer("cancellable", slept(0))
        assert time.monotonic() - start_s < 0.5


def slept(delay_s: float) -> dict[str, np.ndarray[Any, Any]]:
    return {"delay_s": np.full(1, delay_s, np.float32)}


def test_a_failure_while_another_waits_is_not_the_end(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with hedged(kind, server, proxy) as client:
        client.infer("slow", slept(0))
        proxy.stall()
        resetter = threading.Timer(0.4, proxy.reset)  # after the other request was sent
        resetter.start()
        assert client.infer("slow", slept(0.8)).attempts == 2
        resetter.join()


def test_when_all_fail_the_first_error_counts(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with FaultProxy("127.0.0.1", int(server.grpc_url.rpartition(":")[2])) as other:
        targets = [f"grpc://127.0.0.1:{one.port}" for one in (proxy, other)]
        options = Options(timeout_s=1.0, retry=None, hedge=HEDGE)
        with made_client(kind, targets, balance="pick_first", options=options) as client:
            client.infer("identity", INPUTS)
            proxy.stall()
            other.stall()
            start_s = time.monotonic()
            with pytest.raises(DeadlineExceeded) as caught:
                client.infer("identity", INPUTS)
            assert caught.value.endpoint == f"127.0.0.1:{proxy.port}"
            assert time.monotonic() - start_s < 1.5


def test_each_attempt_is_seen_with_its_own_end(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    seen: list[tuple[str, str]] = []

    class Watcher:
        @contextmanager
        def attempt(self, attempt: Attempt) -> Iterator[dict[str, str]]:
            end = "answered"
            try:
                yield {}
            except TritonError as error:
                end = error.code
                raise
            finally:
                seen.append((attempt.endpoint, end))

    with hedged(kind, server, proxy, hooks=(Watcher(),), breaker=BreakerPolicy(min_calls=1)) as client:
        proxy.stall()
        seen.clear()
        client.infer("identity", INPUTS)
        first, second = f"127.0.0.1:{proxy.port}", server.grpc_url.removeprefix("grpc://")
        assert sorted(seen) == sorted([(first, "cancelled"), (second, "answered")])
        proxy.heal()
        # What lost says nothing about its endpoint, so no breaker opened.
        assert client.infer("identity", INPUTS).endpoint == first


def test_what_must_not_run_twice_is_not_hedged(server: EmbeddedTriton, proxy: FaultProxy, kind: str) -> None:
    with hedged(kind, server, proxy, timeout_s=0.5) as client:
        proxy.stall()
        with pytest.raises(DeadlineExceeded):
            client.load_model("identity")


def test_a_single_endpoint_is_asked_once(server: EmbeddedTriton, kind: str) -> None:
    with made_client(kind, server, options=Options(hedge=HEDGE)) as client:
        client.infer("identity", INPUTS)
        assert client.infer("slow", slept(0.3)).attempts == 1


def test_http_cannot_take_back_a_request(server: EmbeddedTriton) -> None:
    for kind in ("http", "http-async"):
        with (
            made_client(kind, server, options=Options(hedge=HEDGE)) as client,
            pytest.raises(InvalidInput, match="gRPC"),
        ):
            client.infer("identity", INPUTS)


def test_closing_ends_a_race(server: EmbeddedTriton, proxy: FaultProxy) -> None:
    with hedged("grpc", server, proxy) as client:
        client.infer("slow", slept(0))
        proxy.stall()
        closer = threading.Timer(0.3, client.close)
        closer.start()
        with pytest.raises((Cancelled, ConnectionFailed)):
            client.infer("slow", slept(5))
        closer.join()
