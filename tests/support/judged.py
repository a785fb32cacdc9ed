"""Results made by hand, for verdicts on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tritonforge_load.campaign import Campaign
from tritonforge_load.measure import CampaignResult, Cell, GeneratorFacts, PhaseResult, RunResult, WorkloadResult
from tritonforge_load.observe.models import ModelFacts
from tritonforge_load.observe.timeline import Timeline

MS = 1_000_000


def cell_of(
    latencies_ms: Sequence[float],
    *,
    failed: int = 0,
    shed: int = 0,
    rows: int = 1,
    checked: int = 0,
    correct: int = 0,
    seconds: int = 1,
) -> Cell:
    """A closed cell; requests are spread evenly over the seconds."""
    cell = Cell(checked=checked, correct=correct, shed=shed)
    for number, latency_ms in enumerate(latencies_ms):
        cell.record(number * seconds // len(latencies_ms), round(latency_ms * MS), rows, None)
    for _ in range(failed):
        cell.record(0, 5 * MS, rows, "Unavailable")
    return cell


def run_of(
    name: str = "steady", *, duration_s: float = 10.0, cells: Mapping[str, Cell] | None = None, **named: Cell
) -> RunResult:
    """A closed run of two users, one row a cell."""
    rows = tuple(WorkloadResult(workload, duration_s, cell) for workload, cell in {**(cells or {}), **named}.items())
    return RunResult(name, "closed", 2, None, 0.0, duration_s, rows)


def open_run(run: RunResult, *, rate_per_s: float = 100.0, **generator: Any) -> RunResult:
    """The run as one of Poisson arrivals."""
    facts = GeneratorFacts(**{"scheduled": run.total.sent + run.total.shed, **generator})
    return replace(run, arrival="poisson", users=None, rate_per_s=rate_per_s, generator=facts)


def result_of(*phases: PhaseResult, timeline: Timeline | None = None, **keys: Any) -> CampaignResult:
    """A campaign with these phases."""
    return CampaignResult("demo", "grpc://host:1", phases, timeline=timeline or Timeline(1.0), **keys)


def scattered_cell(
    generator: np.random.Generator,
    *,
    seconds: int,
    rate_per_s: float,
    median_ms: float = 5.0,
    alike: float = 0.5,
    level: float = 0.05,
    error_share: float = 0.0,
) -> Cell:
    """Log-normal latencies of Poisson arrivals.

    Args:
        generator: Where chance comes from.
        seconds: Length.
        rate_per_s: Mean rate.
        median_ms: Median latency.
        alike: Correlation of the levels of neighbouring seconds.
        level: How much those levels scatter.
        error_share: Share of requests that fail.
    """
    cell, shift = Cell(), 0.0
    for second in range(seconds):
        shift = alike * shift + generator.normal() * level * (1 - alike**2) ** 0.5
        count = int(generator.poisson(rate_per_s))
        values = generator.lognormal(np.log(median_ms) + shift, 0.4, count) * MS
        fails = generator.random(count) < error_share
        for value, fail in zip(values.astype(np.int64).tolist(), fails.tolist(), strict=True):
            cell.record(second, value, 1, "Timeout" if fail else None)
    return cell


def facts_of(model: str, **fields: Any) -> ModelFacts:
    """The server's side of a model: 100 requests of one row, 2 ms in the queue and 8 ms in the model each."""
    return ModelFacts(**{
        "model": model, "requests": 100, "rows": 100, "executions": 50, "failed": 0, "rejected": None, "cache_hits": 0,
        "cache_misses": 0, "computed": 100, "total_s": 1.0, "queue_s": 0.2, "compute_input_s": 0.05,
        "compute_infer_s": 0.7, "compute_output_s": 0.05, "cache_s": 0.0, "batches": {1: 25, 3: 25}, **fields,
    })  # fmt: skip


def campaign_of(*gates: dict[str, Any], **keys: Any) -> Campaign:
    """A campaign on two models with the phases ``steady``, ``other`` and the search ``peak``."""
    return Campaign.model_validate({
        "campaign": "demo",
        "version": 1,
        "target": {"url": "grpc://host:1"},
        "workload": [
            {"name": "cls", "model": "resnet", "inputs": {"x": {"file": "x.npz"}},
             "check": {"output": "y", "golden": {"file": "y.npz"}}},
            {"name": "emb", "model": "encoder"},
        ],
        "phases": [
            {"name": "steady", "users": 2, "for": "10s"},
            {"name": "other", "users": 2, "for": "10s"},
            {"name": "peak", "search": {"from": "100/s", "to": "2000/s", "step_for": "10s", "until": ["p99 < 25ms"]}},
        ],
        "gates": [{"where": "steady", **gate} for gate in gates],
        "baseline": "base.json",
        **keys,
    })  # fmt: skip
