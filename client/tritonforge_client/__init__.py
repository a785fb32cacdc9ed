"""Typed client for Triton Inference Server over gRPC and HTTP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tritonforge_client.client import Client
from tritonforge_client.core.config import model_spec_from_config
from tritonforge_client.cuda_memory import GpuArray
from tritonforge_client.errors import (
    BreakerOpen,
    Cancelled,
    Code,
    CodegenError,
    ConnectionFailed,
    DeadlineExceeded,
    Drift,
    InvalidInput,
    ModelNotFound,
    NotReady,
    QueueFull,
    QueueTimeout,
    ServerError,
    ShuttingDown,
    SpecDrift,
    TooManyInFlight,
    TritonError,
    Unavailable,
    Unimplemented,
)
from tritonforge_client.extras import MissingExtraError
from tritonforge_client.model import Model, ModelSequence
from tritonforge_client.options import Options
from tritonforge_client.policies import Balance, BreakerPolicy, HedgePolicy, RetryPolicy
from tritonforge_client.prepared import Prepared, RawReply
from tritonforge_client.reply import Reply
from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_client.tls import TLS
from tritonforge_client.transport.base import AsyncTransport, Transport

if TYPE_CHECKING:
    from tritonforge_client.async_client import AsyncClient
    from tritonforge_client.async_model import AsyncModel, AsyncModelSequence
    from tritonforge_client.core.administration import RepositoryModel, ServerMetadata
    from tritonforge_client.core.classification import Classification
    from tritonforge_client.core.metrics import MetricFamily, Metrics, MetricSample
    from tritonforge_client.core.statistics import (
        InferBatchStatistics,
        InferStatistics,
        ModelStatistics,
        StatisticDuration,
    )
    from tritonforge_client.hooks import Attempt, Hook, OpenTelemetryHook, PrometheusHook
    from tritonforge_client.pages import keep_pages
    from tritonforge_client.wire import WireTimes

__all__ = [
    "TLS",
    "AsyncClient",
    "AsyncModel",
    "AsyncModelSequence",
    "AsyncTransport",
    "Attempt",
    "Balance",
    "BreakerOpen",
    "BreakerPolicy",
    "Cancelled",
    "Classification",
    "Client",
    "Code",
    "CodegenError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Drift",
    "GpuArray",
    "HedgePolicy",
    "Hook",
    "InferBatchStatistics",
    "InferStatistics",
    "InvalidInput",
    "MetricFamily",
    "MetricSample",
    "Metrics",
    "MissingExtraError",
    "Model",
    "ModelNotFound",
    "ModelSequence",
    "ModelSpec",
    "ModelStatistics",
    "NotReady",
    "OpenTelemetryHook",
    "Options",
    "Prepared",
    "PrometheusHook",
    "QueueFull",
    "QueueTimeout",
    "RawReply",
    "Reply",
    "RepositoryModel",
    "RetryPolicy",
    "ServerError",
    "ServerMetadata",
    "ShuttingDown",
    "SpecDrift",
    "StatisticDuration",
    "TensorSpec",
    "TooManyInFlight",
    "Transport",
    "TritonError",
    "Unavailable",
    "Unimplemented",
    "WireTimes",
    "keep_pages",
    "model_spec_from_config",
]

# What a blocking client does without is imported when it is asked for: each import costs milliseconds at every start.
_LATER = {
    "AsyncClient": "async_client",
    "AsyncModel": "async_model",
    "AsyncModelSequence": "async_model",
    "Attempt": "hooks",
    "Classification": "core.classification",
    "Hook": "hooks",
    "InferBatchStatistics": "core.statistics",
    "InferStatistics": "core.statistics",
    "MetricFamily": "core.metrics",
    "MetricSample": "core.metrics",
    "Metrics": "core.metrics",
    "ModelStatistics": "core.statistics",
    "OpenTelemetryHook": "hooks",
    "PrometheusHook": "hooks",
    "RepositoryModel": "core.administration",
    "ServerMetadata": "core.administration",
    "StatisticDuration": "core.statistics",
    "WireTimes": "wire",
    "keep_pages": "pages",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
