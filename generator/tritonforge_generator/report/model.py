"""What a report says: plain data, filled by whoever ran something. What is left out is not shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonforge_generator.report.bench import Bench
from tritonforge_generator.report.section import Section

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
    load: Section | None = None
    bench: Bench | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """The gates of all models."""
        return tuple(check for model in self.models for check in model.checks)

    @property
    def passed(self) -> bool | None:
        """Whether all that was judged passed; ``None`` when nothing was."""
        served = [accuracy for accuracy in self.accuracies if accuracy.passed is not None]
        judged = bool(self.checks or served or (self.load is not None and self.load.judged))
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
        return (*checks, *served, *(self.load.failures if self.load is not None else ()))
