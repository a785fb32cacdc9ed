"""Triton's statistics of a model, typed. Field names are those of ``ModelStatistics`` in ``grpc_service.proto``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticDuration:
    """How often something happened and how long it took in all.

    Attributes:
        count: Number of times.
        ns: Nanoseconds in all.
    """

    count: int = 0
    ns: int = 0

    @property
    def mean_us(self) -> float | None:
        """Microseconds a time; ``None`` when it never happened."""
        return self.ns / self.count / 1000 if self.count > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferStatistics:
    """Durations of requests.

    Attributes:
        success: Whole requests that succeeded.
        fail: Whole requests that failed.
        queue: Waiting in the scheduler.
        compute_input: Preparing inputs.
        compute_infer: Running the model.
        compute_output: Preparing outputs.
        cache_hit: Requests answered from the response cache.
        cache_miss: Requests that the response cache did not hold.
    """

    success: StatisticDuration
    fail: StatisticDuration
    queue: StatisticDuration
    compute_input: StatisticDuration
    compute_infer: StatisticDuration
    compute_output: StatisticDuration
    cache_hit: StatisticDuration
    cache_miss: StatisticDuration


@dataclass(frozen=True, slots=True, kw_only=True)
class InferBatchStatistics:
    """Durations of executions of one batch size.

    Attributes:
        batch_size: Rows that were executed at once.
        compute_input: Preparing inputs.
        compute_infer: Running the model.
        compute_output: Preparing outputs.
    """

    batch_size: int
    compute_input: StatisticDuration
    compute_infer: StatisticDuration
    compute_output: StatisticDuration


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatistics:
    """Statistics of one version of a model since it was loaded.

    Attributes:
        name: Model name.
        version: Model version.
        last_inference: Time of the last request, milliseconds since 1970; 0 when there was none.
        inference_count: Rows inferred: a request of batch n counts n times.
        execution_count: Executions: rows that ran as one batch count once.
        inference_stats: Durations of requests.
        batch_stats: Durations of executions, one entry a batch size.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    batch_stats: tuple[InferBatchStatistics, ...]


def model_statistics_from_json(entry: Mapping[str, Any]) -> ModelStatistics:
    """Return the statistics in one entry of ``model_stats``.

    Args:
        entry: JSON form with proto field names. A field that an older server does not send counts as 0.
    """
    durations = entry.get("inference_stats", {})
    return ModelStatistics(
        name=str(entry["name"]),
        version=str(entry.get("version", "")),
        last_inference=int(entry.get("last_inference", 0)),
        inference_count=int(entry.get("inference_count", 0)),
        execution_count=int(entry.get("execution_count", 0)),
        inference_stats=InferStatistics(
            success=_duration(durations, "success"),
            fail=_duration(durations, "fail"),
            queue=_duration(durations, "queue"),
            compute_input=_duration(durations, "compute_input"),
            compute_infer=_duration(durations, "compute_infer"),
            compute_output=_duration(durations, "compute_output"),
            cache_hit=_duration(durations, "cache_hit"),
            cache_miss=_duration(durations, "cache_miss"),
        ),
        batch_stats=tuple(_batch_statistics(batch) for batch in entry.get("batch_stats", ())),
    )


def _batch_statistics(batch: Mapping[str, Any]) -> InferBatchStatistics:
    return InferBatchStatistics(
        batch_size=int(batch["batch_size"]),
        compute_input=_duration(batch, "compute_input"),
        compute_infer=_duration(batch, "compute_infer"),
        compute_output=_duration(batch, "compute_output"),
    )


def _duration(durations: Mapping[str, Any], name: str) -> StatisticDuration:
    duration = durations.get(name, {})
    return StatisticDuration(count=int(duration.get("count", 0)), ns=int(duration.get("ns", 0)))
