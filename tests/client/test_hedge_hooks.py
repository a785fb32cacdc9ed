"""The attempts of a hedged call and the hooks that watch them, each by itself, also when one of these fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN

from tritonforge_client import (
    AsyncClient,
    Attempt,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    HedgePolicy,
    Hook,
    OpenTelemetryHook,
    Options,
    TritonError,
)

OPTIONS = Options(timeout_s=10, retry=None, hedge=HedgePolicy(delay_s=0.1, budget=1.0))


class Server:
    """Answers what its name is.

    Attributes:
        target: Where it listens.
        delay_s: How long it takes, in seconds.
        cancelled: Is released once for each call that was cancelled meanwhile.
    """

    def __init__(self, name: str) -> None:
        self.delay_s = 0.0
        self.cancelled = threading.Semaphore(0)
        self._reply = b"\x0a" + bytes([len(name)]) + name.encode()
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool)
        method = {"ServerMetadata": grpc.unary_unary_rpc_method_handler(self._answer)}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", method),)
        )
        self.target = f"grpc://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()

    def _answer(self, _: bytes, context: Any) -> bytes:
        ended = threading.Event()
        if context.add_callback(ended.set) and ended.wait(self.delay_s):
            self.cancelled.release()
        return self._reply


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """Two servers; the first one gets all calls that are not hedged."""
    with ExitStack() as stack:
        both = Server("first"), Server("second")
        for one in both:
            stack.callback(one.close)
        yield both


@pytest.fixture(params=["grpc", "grpc-async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def hedged(
    kind: str,
    servers: tuple[Server, Server],
    hook: Hook,
    *,
    delay_s: float = 10.0,
    around: Callable[[], Any] = nullcontext,
) -> str:
    """Call while the first server is slow, and again when it is not; nothing may be in flight in between.

    Args:
        kind: Of the client.
        servers: The servers.
        hook: The client's.
        delay_s: How slow the first server is.
        around: Makes a context for the first of these calls.

    Returns:
        Who answered the first call; its error is raised after the second one.
    """
    targets, options = [one.target for one in servers], OPTIONS

    async def asynchronous() -> str:
        async with AsyncClient(targets, balance="pick_first", options=options, hooks=[hook]) as client:
            await client.server_metadata()  # earns the budget
            servers[0].delay_s = delay_s
            try:
                with around():
                    return (await client.server_metadata()).name
            finally:
                check_idle(client)
                servers[0].delay_s = 0.0
                assert (await client.server_metadata()).name == "first"

    if kind == "grpc-async":
        return asyncio.run(asynchronous())
    with Client(targets, balance="pick_first", options=options, hooks=[hook]) as client:
        client.server_metadata()
        servers[0].delay_s = delay_s
        try:
            with around():
                return client.server_metadata().name
        finally:
            check_idle(client)
            servers[0].delay_s = 0.0
            assert client.server_metadata().name == "first"


def check_idle(client: Client | AsyncClient) -> None:
    balancer = client._session.caller._endpoints._balancer
    assert all(balancer.is_idle(index) for index in (0, 1))


class Faulty:
    """Notes how attempts end, and raises when it is told to.

    Attributes:
        ends: Number of the attempt and its end, in the order of the ends.
        entering: What is raised when the second attempt of a call begins.
        leaving: What is raised when an attempt of this number ends in this way.
    """

    def __init__(self, entering: Exception | None = None, leaving: tuple[int, str] | None = None) -> None:
        self.ends: list[tuple[int, str]] = []
        self.entering = entering
        self.leaving = leaving

    @contextmanager
    def attempt(self, attempt: Attempt) -> Iterator[Mapping[str, str]]:
        if attempt.number == 2 and self.entering is not None:
            raise self.entering
        end = "answered"
        try:
            yield {}
        except BaseException as error:
            end = error.code if isinstance(error, TritonError) else type(error).__name__
            raise
        finally:
            self.ends.append((attempt.number, end))
            if self.leaving == self.ends[-1]:
                raise RuntimeError("the hook failed")


def test_the_spans_of_all_attempts_are_the_callers_children_and_none_stays_current(
    kind: str, servers: tuple[Server, Server]
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    @contextmanager
    def calling() -> Iterator[None]:
        with tracer.start_as_current_span("caller") as caller:
            yield
            assert trace.get_current_span() is caller
        assert trace.get_current_span() is INVALID_SPAN

    assert hedged(kind, servers, OpenTelemetryHook(tracer), around=calling) == "second"
    spans = exporter.get_finished_spans()
    (caller,) = [span for span in spans if span.name == "caller"]
    parents = {span: span.parent.span_id for span in spans if span.parent is not None}
    assert caller.context is not None
    assert set(parents.values()) == {caller.context.span_id}
    ends = {(span.attributes or {})["triton.attempt"]: (span.attributes or {}).get("error.type") for span in parents}
    assert ends == {1: "cancelled", 2: None}


def test_a_hook_that_fails_as_another_attempt_begins_ends_the_call_and_its_first_attempt(
    kind: str, servers: tuple[Server, Server]
) -> None:
    hook = Faulty(entering=RuntimeError("the hook failed"))
    start_s = time.monotonic()
    with pytest.raises(RuntimeError, match="the hook failed"):
        hedged(kind, servers, hook)
    assert servers[0].cancelled.acquire(timeout=5)
    assert time.monotonic() - start_s < 5
    assert hook.ends == [(1, "answered"), (1, "cancelled"), (1, "answered")]


@pytest.mark.parametrize("error", [ConnectionFailed("refused by the hook"), DeadlineExceeded("too late")])
def test_an_attempt_that_a_hook_refuses_takes_nothing_from_the_others(
    kind: str, servers: tuple[Server, Server], error: TritonError
) -> None:
    hook = Faulty(entering=error)
    assert hedged(kind, servers, hook, delay_s=0.5) == "first"
    assert hook.ends == [(1, "answered")] * 3


@pytest.mark.parametrize("leaving", [(1, "cancelled"), (2, "answered")], ids=["of the one that lost", "of the winner"])
def test_a_hook_that_fails_as_an_attempt_ends_leaves_no_other_one_open(
    kind: str, servers: tuple[Server, Server], leaving: tuple[int, str]
) -> None:
    hook = Faulty(leaving=leaving)
    with pytest.raises(RuntimeError, match="the hook failed"):
        hedged(kind, servers, hook)
    assert servers[0].cancelled.acquire(timeout=5)
    assert sorted(hook.ends[1:-1]) == [(1, "cancelled"), (2, "answered")]
