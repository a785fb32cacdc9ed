"""Typed client for Triton Inference Server over gRPC and HTTP."""

from tritonforge_client.client import Client, Model, Reply
from tritonforge_client.core.config import model_spec_from_config
from tritonforge_client.core.statistics import (
    InferBatchStatistics,
    InferStatistics,
    ModelStatistics,
    StatisticDuration,
)
from tritonforge_client.errors import (
    Cancelled,
    Code,
    CodegenError,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotReady,
    QueueFull,
    QueueTimeout,
    ServerError,
    ShuttingDown,
    SpecDrift,
    TritonError,
    Unavailable,
    Unimplemented,
)
from tritonforge_client.extras import MissingExtraError
from tritonforge_client.options import Options
from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_client.transport.base import Transport

__all__ = [
    "Cancelled",
    "Client",
    "Code",
    "CodegenError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "InferBatchStatistics",
    "InferStatistics",
    "InvalidInput",
    "MissingExtraError",
    "Model",
    "ModelNotFound",
    "ModelSpec",
    "ModelStatistics",
    "NotReady",
    "Options",
    "QueueFull",
    "QueueTimeout",
    "Reply",
    "ServerError",
    "ShuttingDown",
    "SpecDrift",
    "StatisticDuration",
    "TensorSpec",
    "Transport",
    "TritonError",
    "Unavailable",
    "Unimplemented",
    "model_spec_from_config",
]
