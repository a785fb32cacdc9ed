"""What a campaign measured, typed, and its verdict.

A campaign has phases; a phase was played in one run, in several (``repeat``), or in one for each load that a search
tried. A run has one row a workload.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, TypeAlias

from tritonforge_load.measure.rows import ALL_WORKLOADS, WorkloadResult, pooled, row_named
from tritonforge_load.observe.models import ModelFacts
from tritonforge_load.observe.timeline import Timeline

Verdict: TypeAlias = Literal["pass", "fail", "invalid", "inconclusive"]

EXIT_CODES: Final[dict[Verdict, int]] = {"pass": 0, "fail": 3, "invalid": 4, "inconclusive": 5}


@dataclass(frozen=True, slots=True)
class GeneratorFacts:
    """The load generator during one run.

    Attributes:
        workers: Processes that took part.
        workers_lost: Those that died.
        scheduled: Requests that were due; ``None`` for closed phases.
        cpu_share: Share of its core that the busiest process took on average; ``None`` when none told it.
        clock_error_s: How far the workers' starts may lie apart at most; 0 for one process.
    """

    workers: int = 1
    workers_lost: int = 0
    scheduled: int | None = None
    cpu_share: float | None = None
    clock_error_s: float = 0.0


@dataclass(frozen=True)
class RunResult:
    """One stretch of load.

    Attributes:
        run: Its name, unique in the campaign: the phase's, with ``#2`` for a repetition, ``@400/s`` for a load of a
            search.
        arrival: How requests arrived, ``closed`` for a fixed number of users.
        users: Users at work; ``None`` for open arrivals.
        rate_per_s: Mean rate of open arrivals; ``None`` for closed ones.
        starts_s: When it began, on the campaign's time line.
        duration_s: Its length.
        rows: One result a workload.
        generator: How the load generator fared.
        models: The server's side, one entry a model; empty where it was not observed (``Timeline.absent`` has the
            reason).
        invalid: Why the generator, not the server, was the limit; empty for a valid run.
        unsteady: Why the run was not in a steady state; empty when it was, or when that could not be judged.
    """

    run: str
    arrival: str
    users: int | None
    rate_per_s: float | None
    starts_s: float
    duration_s: float
    rows: tuple[WorkloadResult, ...]
    generator: GeneratorFacts = GeneratorFacts()
    models: tuple[ModelFacts, ...] = ()
    invalid: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()

    @cached_property
    def total(self) -> WorkloadResult:
        """All workloads together."""
        return pooled(ALL_WORKLOADS, [self.rows], self.duration_s)

    def row(self, workload: str | None) -> WorkloadResult:
        """The result of one workload; of all together for ``None``.

        Raises:
            KeyError: The campaign has no such workload.
        """
        return self.total if workload is None else row_named(self.rows, workload)


@dataclass(frozen=True, slots=True)
class SearchStep:
    """One load that a search tried.

    Attributes:
        run: Name of its run.
        load: Requests per second, or users.
        held: Whether every assertion held and the generator kept up.
        reasons: Why it did not hold.
    """

    run: str
    load: float
    held: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """What a search found.

    Attributes:
        over: ``rate`` or ``users``.
        found: The highest load that held, and held again when confirmed; ``None`` when none did.
        is_limit: Whether a higher load was seen not to hold. Where the highest load that may be tried held, or where
            the generator was the limit, the server holds more than what was found.
        reason: How the search ended, in words.
        steps: What was tried, in order.
    """

    over: Literal["rate", "users"]
    found: float | None
    is_limit: bool
    reason: str
    steps: tuple[SearchStep, ...]


@dataclass(frozen=True)
class PhaseResult:
    """One measured phase.

    Attributes:
        name: Its name.
        runs: How it was played.
        search: What its search found; ``None`` for other phases.
    """

    name: str
    runs: tuple[RunResult, ...]
    search: SearchOutcome | None = None

    @property
    def arrival(self) -> str:
        """How requests arrived."""
        return self.runs[0].arrival if self.runs else "closed"

    @cached_property
    def judged_runs(self) -> tuple[RunResult, ...]:
        """The runs whose figures are the phase's: of a search those at the load that was found."""
        if self.search is None:
            return self.runs
        held = {step.run for step in self.search.steps if step.held and step.load == self.search.found}
        return tuple(run for run in self.runs if run.run in held)

    @property
    def duration_s(self) -> float:
        """Length of the judged runs together."""
        return sum(run.duration_s for run in self.judged_runs)

    @property
    def invalid(self) -> tuple[str, ...]:
        """Why the judged runs are invalid; empty when they are not."""
        several = len(self.judged_runs) > 1
        return tuple(
            f"{run.run}: {reason}" if several else reason for run in self.judged_runs for reason in run.invalid
        )

    @cached_property
    def rows(self) -> tuple[WorkloadResult, ...]:
        """One result a workload, of all judged runs together."""
        names = dict.fromkeys(row.workload for run in self.judged_runs for row in run.rows)
        return tuple(self.row(name) for name in names)

    @cached_property
    def total(self) -> WorkloadResult:
        """All workloads and judged runs together."""
        return pooled(ALL_WORKLOADS, [run.rows for run in self.judged_runs], self.duration_s)

    def row(self, workload: str | None) -> WorkloadResult:
        """The result of one workload, of all judged runs together; of all workloads for ``None``.

        Raises:
            KeyError: The campaign has no such workload.
        """
        if workload is None:
            return self.total
        return pooled(workload, [[row_named(run.rows, workload)] for run in self.judged_runs], self.duration_s)


@dataclass(frozen=True, slots=True)
class GateResult:
    """The verdict of one gate on one phase.

    Attributes:
        phase: Name of the phase.
        assertion: The gate's sentence.
        verdict: ``pass`` or ``fail``; ``invalid`` where the phase is, ``inconclusive`` where too little was measured.
        value: What was measured, in the unit of the metric (ms, share from 0 to 1, per second); ``None`` if nothing.
        reason: Why.
    """

    phase: str
    assertion: str
    verdict: Verdict
    value: float | None
    reason: str

    @property
    def passed(self) -> bool:
        """Whether it passed."""
        return self.verdict == "pass"


@dataclass(frozen=True)
class CampaignResult:
    """What a campaign measured.

    Attributes:
        campaign: Its name.
        target: URL of the server.
        phases: The measured phases, in order.
        gates: The verdict of every gate on every phase that it names.
        problems: What spoils the measurement as a whole, for example that it was stopped early.
        unmeasured: Requests that were sent outside of the measured phases: warm-up, and while users start and stop.
        started_at: When load began, ISO 8601 in UTC.
        seed: Seed of the campaign.
        timeline: The server, its GPUs and the generator, over time.
        versions: Versions of what took part.
    """

    campaign: str
    target: str
    phases: tuple[PhaseResult, ...]
    gates: tuple[GateResult, ...] = ()
    problems: tuple[str, ...] = ()
    unmeasured: int = 0
    started_at: str = ""
    seed: int = 0
    timeline: Timeline = field(default_factory=lambda: Timeline(1.0))
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """A failed gate fails the campaign; then problems and invalid phases make it invalid; then doubt remains."""
        verdicts = {gate.verdict for gate in self.gates}
        if "fail" in verdicts:
            return "fail"
        if self.problems or "invalid" in verdicts or any(phase.invalid for phase in self.phases):
            return "invalid"
        return "inconclusive" if "inconclusive" in verdicts else "pass"

    @property
    def passed(self) -> bool:
        """Whether every gate passed and nothing spoiled the measurement."""
        return self.verdict == "pass"

    @property
    def exit_code(self) -> int:
        """0 passed, 3 a gate failed, 4 the measurement is invalid, 5 too little was measured to tell."""
        return EXIT_CODES[self.verdict]

    def phase(self, name: str) -> PhaseResult:
        """One measured phase.

        Raises:
            KeyError: There is no such measured phase.
        """
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise KeyError(name)
