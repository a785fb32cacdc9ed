"""What is recorded under load, and what it says."""

from tritonforge_load.measure.histogram import Histogram
from tritonforge_load.measure.recording import Cell, Recording
from tritonforge_load.measure.results import (
    CampaignResult,
    GateResult,
    GeneratorFacts,
    PhaseResult,
    RunResult,
    SearchOutcome,
    SearchStep,
    Verdict,
)
from tritonforge_load.measure.rows import ALL_WORKLOADS, SeriesPoint, WorkloadResult
from tritonforge_load.measure.stored import dict_from_result, json_from_result, read_result, result_from_dict

__all__ = [
    "ALL_WORKLOADS",
    "CampaignResult",
    "Cell",
    "GateResult",
    "GeneratorFacts",
    "Histogram",
    "PhaseResult",
    "Recording",
    "RunResult",
    "SearchOutcome",
    "SearchStep",
    "SeriesPoint",
    "Verdict",
    "WorkloadResult",
    "dict_from_result",
    "json_from_result",
    "read_result",
    "result_from_dict",
]
