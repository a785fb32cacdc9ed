"""What a campaign will do: phases, requests, time, files, memory, and whether each gate can be decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritonforge_generator.errors import SpecError
from tritonforge_load.arrivals.runs import Run, Runs
from tritonforge_load.campaign import Campaign, ClosedPhase, CurvePhase, Phase, SearchPhase
from tritonforge_load.judge.search import longest_steps, usual_steps
from tritonforge_load.measure import read_result
from tritonforge_load.payloads import MEMORY_LIMIT_BYTES
from tritonforge_load.plan.files import FilePlan, PayloadPlan, files_of
from tritonforge_load.plan.gates import Expected, GatePlan, gates_of


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """One phase.

    Attributes:
        name: Its name.
        arrival: How requests arrive.
        load: Users or rate, in words.
        runs: How often it is played; of a search about.
        duration_s: Length of its runs together; of a search about.
        longest_s: The same at most.
        requests: How many are sent by workload, in all runs; ``None`` where that turns out under load. Of a search
            those of one run at its first load.
        measured: Whether it counts.
        is_search: Whether it looks for a load.
    """

    name: str
    arrival: str
    load: str
    runs: int
    duration_s: float
    longest_s: float
    requests: dict[str, int] | None
    measured: bool
    is_search: bool = False


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """What a campaign will do.

    Attributes:
        campaign: Its name.
        target: URL of the server.
        workers: Processes that send.
        phases: Its phases, in order.
        files: What it reads before load starts.
        payloads: The values that it sends.
        workloads: How many workloads it has.
        prebuilt: Whether requests are encoded once, which takes as much memory again.
        gates: Whether each gate can be decided.
        problems: What keeps it from running: files that are not there, or hold something else.
    """

    campaign: str
    target: str
    workers: int
    phases: tuple[PhasePlan, ...]
    files: tuple[FilePlan, ...]
    payloads: tuple[PayloadPlan, ...]
    workloads: int
    prebuilt: bool
    gates: tuple[GatePlan, ...]
    problems: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Length of all phases, about; users start and stop in between."""
        return sum(phase.duration_s for phase in self.phases)

    @property
    def longest_s(self) -> float:
        """The same at most."""
        return sum(phase.longest_s for phase in self.phases)

    @property
    def payload_bytes(self) -> int | None:
        """Memory of the values in all processes together, about; ``None`` when a model has to be asked."""
        sizes = [payload.size_bytes for payload in self.payloads]
        if any(size is None for size in sizes):
            return None
        return sum(size for size in sizes if size is not None) * self._copies

    @property
    def payload_limit_bytes(self) -> int:
        """Memory that the values may take in all processes together; one that takes more is refused before it sends."""
        return MEMORY_LIMIT_BYTES * self.workloads * self._copies

    @property
    def _copies(self) -> int:
        return (2 if self.prebuilt else 1) * self.workers

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        files = [{**asdict(one), "path": str(one.path)} for one in self.files]
        totals = {"duration_s": self.duration_s, "longest_s": self.longest_s}
        memory = {"payload_bytes": self.payload_bytes, "payload_limit_bytes": self.payload_limit_bytes}
        return {**asdict(self), "files": files, **totals, **memory}

    @property
    def undecidable(self) -> tuple[GatePlan, ...]:
        """Gates that cannot be decided however the server behaves."""
        return tuple(gate for gate in self.gates if gate.decidable == "no")


def plan_from_campaign(campaign: Campaign, base: Path) -> CampaignPlan:
    """Plan a campaign; no server is asked.

    Args:
        campaign: The campaign.
        base: Folder that relative paths start from.

    Returns:
        The plan. Where its arrivals cannot be read it has no phases and no gates, and ``problems`` says why.
    """
    found = list(files_of(campaign, base))
    problems = [str(error) for error in found if isinstance(error, SpecError)]
    phases: list[PhasePlan] = []
    gates: list[GatePlan] = []
    try:
        phases = _phases(campaign, Runs(campaign, base=base))
        gates = list(gates_of(campaign, *_expected(campaign, phases)))
    except SpecError as error:
        problems.append(str(error))
    problems += _baseline_problems(campaign, base)
    return CampaignPlan(
        campaign=campaign.campaign,
        target=campaign.target.url,
        workers=campaign.workers,
        phases=tuple(phases),
        files=tuple(one for one in found if isinstance(one, FilePlan)),
        payloads=tuple(one for one in found if isinstance(one, PayloadPlan)),
        workloads=len(campaign.workload),
        prebuilt=campaign.transport.prebuilt,
        gates=tuple(gates),
        problems=tuple(dict.fromkeys(problems)),
    )


def _phases(campaign: Campaign, runs: Runs) -> list[PhasePlan]:
    planned = []
    for index, phase in enumerate(campaign.phases):
        if isinstance(phase, SearchPhase):
            planned.append(_searched(campaign, runs, index, phase))
            continue
        played = runs.of_phase(index)
        duration_s = sum(run.duration_s for run in played)
        planned.append(
            PhasePlan(
                name=phase.name,
                arrival=phase.arrival,
                load=_load(phase, played[0]),
                runs=len(played),
                duration_s=duration_s,
                longest_s=duration_s,
                requests=_requests(campaign, runs, played),
                measured=phase.measure,
            )
        )
    return planned


def _searched(campaign: Campaign, runs: Runs, index: int, phase: SearchPhase) -> PhasePlan:
    search = phase.search
    unit = "/s" if search.over == "rate" else " users"
    first = runs.of_search(index, search.from_, 0, 0)
    return PhasePlan(
        name=phase.name,
        arrival=phase.arrival,
        load=f"{search.from_:g} to {search.to:g}{unit}",
        runs=usual_steps(search),
        duration_s=usual_steps(search) * search.step_for_s,
        longest_s=longest_steps(search) * search.step_for_s,
        requests=_requests(campaign, runs, [first]),
        measured=True,
        is_search=True,
    )


def _load(phase: Phase, run: Run) -> str:
    if isinstance(phase, ClosedPhase):
        return f"{phase.users} user{'s' if phase.users > 1 else ''}"
    if isinstance(phase, CurvePhase):
        rates = [rate_per_s for _, rate_per_s in phase.points]
        return f"{min(rates):g} to {max(rates):g}/s"
    return f"{run.load:.4g}/s"


def _requests(campaign: Campaign, runs: Runs, played: list[Run]) -> dict[str, int] | None:
    """Requests by workload: the schedules that will be played, counted."""
    if not played[0].is_open:
        return None
    total: Counter[str] = Counter()
    names = [entry.name for entry in campaign.workload]
    for run in played:
        counts = np.bincount(runs.schedule(run).workloads, minlength=len(names))
        total.update({name: int(count) for name, count in zip(names, counts, strict=True)})
    return {name: total[name] for name in names}


def _expected(campaign: Campaign, planned: list[PhasePlan]) -> tuple[dict[str, Expected], dict[str, Expected]]:
    """What phases will send, and what searches will send at their first load."""
    expected, steps = {}, {}
    for phase, plan in zip(campaign.phases, planned, strict=True):
        if not isinstance(phase, SearchPhase):
            expected[phase.name] = Expected(plan.duration_s, plan.requests)
            continue
        search, counts = phase.search, plan.requests
        steps[phase.name] = Expected(search.step_for_s, counts, at_least=True)
        # The load that is found is judged by its first run and by those that confirm it.
        judged = 1 + search.confirm
        counts = None if counts is None else {name: count * judged for name, count in counts.items()}
        expected[phase.name] = Expected(search.step_for_s * judged, counts, at_least=True)
    return expected, steps


def _baseline_problems(campaign: Campaign, base: Path) -> Iterator[str]:
    """Gates that compare with what the baseline does not have."""
    if campaign.baseline is None or not (base / campaign.baseline).is_file():
        return
    try:
        baseline = read_result(base / campaign.baseline)
    except SpecError as error:
        yield str(error)
        return
    known = {phase.name: {row.workload for row in phase.rows} for phase in baseline.phases}
    for gate in campaign.gates:
        assertion = gate.parsed
        for phase in campaign.phases_of(gate) if assertion.relative_to_baseline else ():
            if phase.name not in known:
                yield f"{campaign.baseline}: gate {assertion.text!r}: the baseline has no phase {phase.name!r}"
            elif assertion.workload is not None and assertion.workload not in known[phase.name]:
                yield f"{campaign.baseline}: gate {assertion.text!r}: its {phase.name!r} has no {assertion.workload!r}"
