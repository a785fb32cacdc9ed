"""What a report says: plain data, filled by whoever ran something. What is left out is not shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonforge_generator.report.bench import Bench

if TYPE_CHECKING:
    from tritonforge_generator.graph import Graph
    from tritonforge_generator.plan import Plan
    from tritonforge_generator.precision import TypedGraph
    from tritonforge_generator.verify import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line about the machine, the model or the run, for example ``CPU`` and ``8 cores``."""

    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the run.

    Attributes:
        name: What was done.
        duration_s: How long it took.
    """

    name: str
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How many labelled samples were answered right, asked one way.

    Attributes:
        via: Who was asked, for example ``ONNX Runtime`` or ``Triton over gRPC``.
        correct: Number of right answers.
        total: Number of samples, at least 1.
        passed: The verdict; ``None`` for the reference that others are judged by.
    """

    via: str
    correct: int
    total: int
    passed: bool | None = None

    @property
    def share(self) -> float:
        """Right answers as a share of all, 0 to 1."""
        return self.correct / self.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One condition on a load test.

    Attributes:
        phase: Phase that it was judged on.
        condition: As declared, for example ``p99 < 25ms``.
        measured: What came, with its unit.
        passed: The verdict.
    """

    phase: str
    condition: str
    measured: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One measured part of a load test.

    Attributes:
        name: As declared.
        arrival: How requests arrived, for example ``closed, 8 users``.
        start_s: Seconds of measurement before it.
        end_s: Seconds of measurement up to its end.
    """

    name: str
    arrival: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRow:
    """One workload in one phase. Latencies are a client's, of answered requests, in milliseconds.

    Attributes:
        phase: Name of the phase.
        workload: What was asked.
        sent: Requests sent.
        errors: Failed requests by class.
        rate_per_s: Answered requests a second.
        rows_per_s: Rows of answered requests a second.
        p50_ms: Median latency; ``None`` where nothing was answered, as with the three that follow.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        max_ms: Slowest answer.
        correct_share: Right answers of those that were checked, 0 to 1; ``None`` where none was.
    """

    phase: str
    workload: str
    sent: int
    errors: Mapping[str, int]
    rate_per_s: float
    rows_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    correct_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One interval of a load test, over all workloads.

    Attributes:
        at_s: Its middle, in seconds of measurement.
        rate_per_s: Answered requests a second.
        errors_per_s: Failed requests a second.
        p50_ms: Median latency; ``None`` where nothing was answered, as with the two that follow.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
    """

    at_s: float
    rate_per_s: float
    errors_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyCurve:
    """The latency distribution of one workload in one phase.

    Attributes:
        label: Phase and workload.
        points: Pairs of percentile (from 0, below 100) and latency in milliseconds, both rising.
    """

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """A load test.

    Attributes:
        campaign: Its name.
        target: URL of the server.
        phases: Measured phases, in time order.
        rows: Figures per phase and workload.
        gates: Conditions and their verdicts.
        moments: Figures over time.
        curves: Latency distributions.
        problems: What spoils the measurement itself, one sentence each; a problem fails the run.
    """

    campaign: str
    target: str
    phases: tuple[Phase, ...] = ()
    rows: tuple[LoadRow, ...] = ()
    gates: tuple[Gate, ...] = ()
    moments: tuple[Moment, ...] = ()
    curves: tuple[LatencyCurve, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def busiest(self) -> LoadRow | None:
        """The row with the highest rate of answers: where the headline figures come from."""
        return max(self.rows, key=lambda row: row.rate_per_s, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model: what was read, what was made of it, and what proved it.

    Attributes:
        name: The model's name.
        outcome: What became of it, for example ``published as version 2``.
        backend: The Triton backend that serves it.
        samples: Where the samples of the gates came from.
        graph: What was read from the model file.
        config_text: The generated ``config.pbtxt``.
        checks: Verification gates, in the order they ran.
        typed: Its number types, where some were asked for.
        plan: Its TensorRT plan.
        stages: Steps of its making, in order.
    """

    name: str
    outcome: str = ""
    backend: str = ""
    samples: str = ""
    graph: Graph | None = None
    config_text: str = ""
    checks: tuple[Check, ...] = ()
    typed: TypedGraph | None = None
    plan: Plan | None = None
    stages: tuple[Stage, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything that a page says about one run.

    Attributes:
        title: The model's name, or what the run was about.
        command: What was run.
        started_at: When, as a person reads it, with its time zone.
        tool: Name and version of the generator.
        environment: The machine and its software.
        stages: Steps of the run that are of no single model, in order.
        models: The models, in the order of the spec.
        accuracies: Labelled samples, the reference first.
        load: The load test.
        bench: The comparison of runtimes.
    """

    title: str
    command: str
    started_at: str
    tool: str
    environment: tuple[Fact, ...] = ()
    stages: tuple[Stage, ...] = ()
    models: tuple[ModelReport, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    load: LoadReport | None = None
    bench: Bench | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """The gates of all models."""
        return tuple(check for model in self.models for check in model.checks)

    @property
    def passed(self) -> bool | None:
        """Whether all that was judged passed; ``None`` when nothing was."""
        served = [accuracy for accuracy in self.accuracies if accuracy.passed is not None]
        judged = bool(self.checks or served or (self.load is not None and (self.load.gates or self.load.problems)))
        return not self.failures if judged else None

    @property
    def failures(self) -> tuple[str, ...]:
        """One sentence for each verdict that is not a pass."""
        checks = [
            f"{model.name + ': ' if len(self.models) > 1 else ''}{check.name}: {check.summary}"
            for model in self.models
            for check in model.checks
            if not check.passed
        ]
        served = [
            f"{accuracy.via}: {accuracy.correct} of {accuracy.total} samples right"
            for accuracy in self.accuracies
            if accuracy.passed is False
        ]
        if self.load is None:
            return (*checks, *served)
        gates = [f"{gate.condition} in {gate.phase}: {gate.measured}" for gate in self.load.gates if not gate.passed]
        return (*checks, *served, *gates, *self.load.problems)
