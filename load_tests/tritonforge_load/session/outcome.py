"""From what was recorded to what a campaign measured."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import metadata

from tritonforge_load.campaign import Campaign
from tritonforge_load.judge.gates import judge_gates
from tritonforge_load.judge.steady import unsteady_reasons
from tritonforge_load.judge.validity import invalid_reasons
from tritonforge_load.measure import (
    CampaignResult,
    PhaseResult,
    Recording,
    RunResult,
    SearchOutcome,
    WorkloadResult,
)
from tritonforge_load.observe.timeline import Timeline
from tritonforge_load.session.conductor import Played

_NAMED: tuple[str, ...] = ("tritonforge", "locust", "gevent", "grpcio", "numpy")


def versions() -> dict[str, str]:
    """Versions of what takes part in the load of this process."""
    found = {"python": sys.version.split()[0]}
    for name in _NAMED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def run_result(campaign: Campaign, played: Played, recording: Recording, *, starts_s: float) -> RunResult:
    """What one run measured, and whether that can be relied on.

    Args:
        campaign: The campaign.
        played: The run.
        recording: Everything that was recorded.
        starts_s: When the run began, on the campaign's time line.
    """
    run = played.run
    rows = tuple(
        WorkloadResult(entry.name, run.duration_s, recording.cell(run.name, entry.name)) for entry in campaign.workload
    )
    phase = campaign.phases[run.phase]
    measured = RunResult(
        run=run.name,
        arrival=phase.arrival,
        users=run.users,
        rate_per_s=run.rate_per_s,
        starts_s=starts_s,
        duration_s=run.duration_s,
        rows=rows,
        generator=played.facts,
        models=played.models,
    )
    reasons = invalid_reasons(measured, campaign.validity)
    if not played.ended:
        reasons = ("it was not played to its end", *reasons)
    return replace(measured, invalid=reasons, unsteady=unsteady_reasons(measured))


def campaign_result(
    campaign: Campaign,
    played: Iterable[Played],
    recording: Recording,
    *,
    searches: Mapping[int, SearchOutcome],
    problems: Iterable[str],
    timeline: Timeline,
    baseline: CampaignResult | None,
    starts_s: float,
    started_at: str,
) -> CampaignResult:
    """What a campaign measured, judged.

    Args:
        campaign: The campaign.
        played: Its runs.
        recording: Everything that was recorded.
        searches: What searches found, by index of the phase.
        problems: What spoils the measurement as a whole.
        timeline: What was observed beside the load.
        baseline: What gates compare with.
        starts_s: Start of the campaign's time line, by ``time.perf_counter``.
        started_at: The same moment, ISO 8601 in UTC.
    """
    measured = [entry for entry in played if entry.run.measured]
    results = {
        entry.run.name: run_result(campaign, entry, recording, starts_s=entry.starts_s - starts_s) for entry in measured
    }
    phases = tuple(
        PhaseResult(
            phase.name,
            tuple(results[entry.run.name] for entry in measured if entry.run.phase == index),
            searches.get(index),
        )
        for index, phase in enumerate(campaign.phases)
        if phase.measure
    )
    found = list(problems)
    missing = [phase.name for phase in phases if not phase.runs]
    if missing:
        found.append(f"not played: {', '.join(missing)}")
    return CampaignResult(
        campaign=campaign.campaign,
        target=campaign.target.url,
        phases=phases,
        gates=judge_gates(campaign, phases, timeline, baseline),
        problems=tuple(found),
        unmeasured=sum(cell.sent for run, _, cell in recording if run not in results),
        started_at=started_at,
        seed=campaign.seed,
        timeline=timeline,
        versions=versions(),
    )
