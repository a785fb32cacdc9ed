"""Results as JSON holds them, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tritonforge_generator.errors import SpecError
from tritonforge_load.measure.recording import Cell
from tritonforge_load.measure.results import (
    CampaignResult,
    GateResult,
    GeneratorFacts,
    PhaseResult,
    RunResult,
    SearchOutcome,
    SearchStep,
)
from tritonforge_load.measure.rows import WorkloadResult
from tritonforge_load.observe.models import ModelFacts
from tritonforge_load.observe.timeline import Timeline

FORMAT_VERSION: Final = 1


def dict_from_result(result: CampaignResult) -> dict[str, Any]:
    """Everything, as JSON can hold it: figures to read, and recordings from which they can be made again."""
    return {
        "format_version": FORMAT_VERSION,
        "campaign": result.campaign,
        "target": result.target,
        "started_at": result.started_at,
        "seed": result.seed,
        "verdict": result.verdict,
        "problems": list(result.problems),
        "gates": [asdict(gate) for gate in result.gates],
        "phases": [_dict_from_phase(phase) for phase in result.phases],
        "unmeasured": result.unmeasured,
        "timeline": result.timeline.to_dict(),
        "versions": result.versions,
    }


def result_from_dict(data: Mapping[str, Any]) -> CampaignResult:
    """The result that ``dict_from_result`` wrote."""
    return CampaignResult(
        campaign=data["campaign"],
        target=data["target"],
        phases=tuple(_phase_from_dict(phase) for phase in data["phases"]),
        gates=tuple(GateResult(**gate) for gate in data["gates"]),
        problems=tuple(data["problems"]),
        unmeasured=data["unmeasured"],
        started_at=data["started_at"],
        seed=data["seed"],
        timeline=Timeline.from_dict(data["timeline"]),
        versions=dict(data["versions"]),
    )


def json_from_result(result: CampaignResult) -> str:
    """``dict_from_result`` as text."""
    return json.dumps(dict_from_result(result), separators=(",", ":"), allow_nan=False) + "\n"


def read_result(path: Path) -> CampaignResult:
    """Read the JSON that a campaign wrote.

    Raises:
        SpecError: It cannot be read, or was not written by a campaign of this format.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["format_version"]
        if version != FORMAT_VERSION:
            expected, action = f"format_version {FORMAT_VERSION}", "Run the campaign again with this version"
            raise SpecError(f"{path}", expected=expected, got=str(version), action=action)
        return result_from_dict(data)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}", action="Check the path") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected, action = "the JSON output of a campaign", "Name the .json file of a run"
        raise SpecError(f"{path}", expected=expected, got=f"{type(error).__name__}: {error}", action=action) from error


def _dict_from_phase(phase: PhaseResult) -> dict[str, Any]:
    return {
        "name": phase.name,
        "total": phase.total.summary(),
        "invalid": list(phase.invalid),
        "search": None if phase.search is None else asdict(phase.search),
        "runs": [_dict_from_run(run) for run in phase.runs],
    }


def _dict_from_run(run: RunResult) -> dict[str, Any]:
    return {
        "run": run.run,
        "arrival": run.arrival,
        "users": run.users,
        "rate_per_s": run.rate_per_s,
        "starts_s": run.starts_s,
        "duration_s": run.duration_s,
        "total": run.total.summary() | {"series": [asdict(point) for point in run.total.series]},
        "workloads": [
            row.summary() | {"series": [asdict(point) for point in row.series], "recording": row.cell.to_dict()}
            for row in run.rows
        ],
        "generator": asdict(run.generator),
        "models": [model.to_dict() for model in run.models],
        "invalid": list(run.invalid),
        "unsteady": list(run.unsteady),
    }


def _phase_from_dict(data: Mapping[str, Any]) -> PhaseResult:
    search = data["search"]
    if search is not None:
        steps = tuple(SearchStep(**{**step, "reasons": tuple(step["reasons"])}) for step in search["steps"])
        search = SearchOutcome(**{**search, "steps": steps})
    return PhaseResult(data["name"], tuple(_run_from_dict(run) for run in data["runs"]), search)


def _run_from_dict(data: Mapping[str, Any]) -> RunResult:
    return RunResult(
        run=data["run"],
        arrival=data["arrival"],
        users=data["users"],
        rate_per_s=data["rate_per_s"],
        starts_s=data["starts_s"],
        duration_s=data["duration_s"],
        rows=tuple(
            WorkloadResult(row["workload"], data["duration_s"], Cell.from_dict(row["recording"]))
            for row in data["workloads"]
        ),
        generator=GeneratorFacts(**data["generator"]),
        models=tuple(ModelFacts.from_dict(model) for model in data["models"]),
        invalid=tuple(data["invalid"]),
        unsteady=tuple(data["unsteady"]),
    )
