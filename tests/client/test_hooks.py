"""The hooks for tracing and metrics, on a client whose endpoint does not listen."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, StatusCode, get_current_span
from prometheus_client import CollectorRegistry
from support.fakes import COUNTER

from tritonforge_client import (
    AsyncClient,
    Attempt,
    Client,
    ConnectionFailed,
    Hook,
    OpenTelemetryHook,
    Options,
    PrometheusHook,
    RetryPolicy,
)
from tritonforge_client.testing import AsyncFakeTransport, FakeTransport

RETRIED = Options(retry=RetryPolicy(attempts=3, initial_s=0.001, maximum_s=0.001))
ATTEMPT = Attempt(model="m", endpoint="127.0.0.1:1", number=1, request_id="r")


def fail_thrice(hook: Hook) -> None:
    with Client("http://127.0.0.1:1", options=RETRIED, hooks=[hook]) as client, pytest.raises(ConnectionFailed):
        client.infer("m", {"x": np.zeros(1, np.float32)}, request_id="r")


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> OpenTelemetryHook:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return OpenTelemetryHook(provider.get_tracer("test"))


def test_each_attempt_is_a_span_with_its_error(tracing: OpenTelemetryHook, spans: InMemorySpanExporter) -> None:
    fail_thrice(tracing)
    finished = spans.get_finished_spans()
    assert [span.name for span in finished] == ["triton m"] * 3
    assert [dict(span.attributes or {}) for span in finished] == [
        {
            "server.address": "127.0.0.1:1",
            "triton.attempt": number,
            "triton.model": "m",
            "triton.request_id": "r",
            "error.type": "connection",
        }
        for number in (1, 2, 3)
    ]
    assert {span.status.status_code for span in finished} == {StatusCode.ERROR}


def test_the_trace_context_is_sent(tracing: OpenTelemetryHook, spans: InMemorySpanExporter) -> None:
    with tracing.attempt(ATTEMPT) as headers:
        pass
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert headers["traceparent"].split("-")[1:3] == [
        f"{span.context.trace_id:032x}",
        f"{span.context.span_id:016x}",
    ]


def test_attempts_are_counted_by_outcome() -> None:
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)
    fail_thrice(hook)
    with hook.attempt(ATTEMPT):
        pass
    labels = {"model": "m", "endpoint": "127.0.0.1:1"}
    counted = {
        outcome: registry.get_sample_value("triton_client_attempts_total", {**labels, "outcome": outcome})
        for outcome in ("ok", "connection", "cancelled")
    }
    assert counted == {"ok": 1, "connection": 3, "cancelled": None}
    assert registry.get_sample_value("triton_client_attempt_seconds_count", labels) == 4


def test_streams_that_overlap_have_spans_of_their_own(tracing: OpenTelemetryHook, spans: InMemorySpanExporter) -> None:
    """What the reader of a stream does between two answers is not a part of it."""
    fake = FakeTransport()
    fake.add(COUNTER, lambda _: ({"index": np.array([index], np.int32)} for index in range(2)))
    with Client("fake", transport=fake, hooks=[tracing]) as client:
        model = client.bind(COUNTER)
        first, second = (iter(model.stream({"count": np.array([2], np.int32)})) for _ in range(2))
        assert [next(one)["index"].tolist() for one in (first, second)] == [[0], [0]]
        assert get_current_span() is INVALID_SPAN
        assert [len(list(one)) for one in (first, second)] == [1, 1]
        assert get_current_span() is INVALID_SPAN
    assert [span.parent for span in spans.get_finished_spans()] == [None, None]


def test_asynchronous_streams_that_overlap_have_spans_of_their_own(
    tracing: OpenTelemetryHook, spans: InMemorySpanExporter
) -> None:
    async def overlapping() -> None:
        fake = AsyncFakeTransport()
        fake.add(COUNTER, lambda _: ({"index": np.array([index], np.int32)} for index in range(2)))
        async with AsyncClient("fake", transport=fake, hooks=[tracing]) as client:
            model = client.bind(COUNTER)
            first, second = (model.stream({"count": np.array([2], np.int32)}) for _ in range(2))
            assert [(await anext(one))["index"].tolist() for one in (first, second)] == [[0], [0]]
            assert get_current_span() is INVALID_SPAN
            assert len([answer async for answer in first]) == 1
            assert len([answer async for answer in second]) == 1
            assert get_current_span() is INVALID_SPAN

    asyncio.run(overlapping())
    assert [span.parent for span in spans.get_finished_spans()] == [None, None]
