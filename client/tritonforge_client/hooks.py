"""Hooks: what is told of every attempt of a client, for tracing and metrics.

::

    Client("grpc://localhost:8001", hooks=[OpenTelemetryHook(), PrometheusHook()])
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tritonforge_client.errors import TritonError
from tritonforge_client.extras import require_extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of one call.

    Attributes:
        model: Model that is called; ``None`` for calls about the server.
        endpoint: ``host:port`` that is called.
        number: Which attempt of the call this is, from 1.
        request_id: Id of the request, if the caller gave one.
    """

    model: str | None
    endpoint: str
    number: int
    request_id: str | None


class Hook(Protocol):
    """Sees every attempt of a client; a stream is one."""

    def attempt(self, attempt: Attempt) -> AbstractContextManager[Mapping[str, str]]:
        """Enclose an attempt.

        Args:
            attempt: What is attempted.

        Returns:
            A context that gives headers to send along; it is left when the attempt has ended, with its error if it
            failed.
        """
        ...


class OpenTelemetryHook:
    """One client span an attempt, whose W3C trace context goes to the server.

    Triton (from 24.01 on, with ``--trace-config mode=opentelemetry``) makes its own spans the children of these.

    Args:
        tracer: Where spans are made; ``None`` for the global provider's.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """

    def __init__(self, tracer: Any = None) -> None:
        self._trace = require_extra("opentelemetry.trace", "opentelemetry")
        self._propagate = require_extra("opentelemetry.propagate", "opentelemetry")
        self._tracer = tracer if tracer is not None else self._trace.get_tracer("tritonforge_client")

    @contextmanager
    def attempt(self, attempt: Attempt) -> Iterator[Mapping[str, str]]:
        """Enclose an attempt in a span."""
        attributes = {"server.address": attempt.endpoint, "triton.attempt": attempt.number}
        if attempt.model is not None:
            attributes["triton.model"] = attempt.model
        if attempt.request_id is not None:
            attributes["triton.request_id"] = attempt.request_id
        name = f"triton {attempt.model}" if attempt.model is not None else "triton"
        kind = self._trace.SpanKind.CLIENT
        with self._tracer.start_as_current_span(name, kind=kind, attributes=attributes) as span:
            headers: dict[str, str] = {}
            self._propagate.inject(headers)
            try:
                yield headers
            except TritonError as error:
                span.set_attribute("error.type", error.code)
                raise


class PrometheusHook:
    """Counts attempts and their durations: ``triton_client_attempts_total`` and ``triton_client_attempt_seconds``.

    Labels are the model, the endpoint and the outcome: ``ok`` or the code of the error.

    Args:
        registry: Where the metrics are registered; ``None`` for the default one.

    Raises:
        MissingExtraError: The Prometheus client is not installed.
    """

    def __init__(self, registry: Any = None) -> None:
        prometheus = require_extra("prometheus_client", "prometheus")
        registry = registry if registry is not None else prometheus.REGISTRY
        labels = ("model", "endpoint", "outcome")
        self._count = prometheus.Counter(
            "triton_client_attempts", "Attempts of calls to Triton.", labels, registry=registry
        )
        self._seconds = prometheus.Histogram(
            "triton_client_attempt_seconds", "Duration of attempts.", labels[:2], registry=registry
        )

    @contextmanager
    def attempt(self, attempt: Attempt) -> Iterator[Mapping[str, str]]:
        """Count an attempt and its duration."""
        labels = (attempt.model or "", attempt.endpoint)
        outcome = "cancelled"  # what ends an attempt otherwise is an exception of the caller's own
        start_s = time.perf_counter()
        try:
            yield {}
            outcome = "ok"
        except TritonError as error:
            outcome = error.code
            raise
        finally:
            self._seconds.labels(*labels).observe(time.perf_counter() - start_s)
            self._count.labels(*labels, outcome).inc()
