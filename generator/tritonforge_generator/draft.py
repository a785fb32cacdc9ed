"""A model on its way through the generator."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tritonforge_generator.config import ModelConfig
from tritonforge_generator.config.tensors import gathers_elements
from tritonforge_generator.graph import Graph
from tritonforge_generator.plan import Plan
from tritonforge_generator.precision import TypedGraph
from tritonforge_generator.repository import ModelFolder, StagedModel
from tritonforge_generator.spec import ModelOptions
from tritonforge_generator.stages import Stage
from tritonforge_generator.verify import Check, Reference, Verification


@dataclass(slots=True)
class Draft:
    """A model on its way; it grows stage by stage until it is published.

    Attributes:
        options: What the user declared, with the platform that was chosen.
        graph: The graph stage's artifact.
        max_batch_size: As it will be configured.
        work: Where files lie until they are staged.
        live: The published model, if there is one.
        reference: The source's answers.
        typed: The precision stage's artifact, where types were asked for.
        plan: The plan stage's artifact, where there is one.
        config: The config stage's artifact.
        staged: The staged folder.
        notes: What a person should know.
        checks: Gates passed or failed so far.
        stage_s: Seconds spent in each stage.
    """

    options: ModelOptions
    graph: Graph
    max_batch_size: int
    work: Path
    live: ModelFolder
    reference: Reference
    typed: TypedGraph | None = None
    plan: Plan | None = None
    config: ModelConfig = field(init=False)
    staged: StagedModel = field(init=False)
    notes: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    stage_s: dict[Stage, float] = field(default_factory=dict)

    @property
    def batched(self) -> bool:
        """Whether the first axis of the graph is a batch of requests' rows."""
        return self.max_batch_size > 0 and not gathers_elements(self.options)

    @property
    def batch_rows(self) -> int:
        """Rows that the graph's first axis may have; 0 where it is no batch of requests' rows."""
        return self.max_batch_size if self.batched else 0

    @property
    def network(self) -> Path:
        """The ONNX file in the types that are to be computed in."""
        return self.typed.path if self.typed is not None else self.graph.source.path

    @property
    def source_files(self) -> dict[str, str]:
        """SHA-256 of the files of the graph that everything is made of, by name."""
        return {one.location: one.sha256 for one in self.graph.source.files}

    @property
    def verification(self) -> Verification:
        """The gates so far as an artifact."""
        return Verification(model=self.options.name, samples=self.reference.samples.origin, checks=tuple(self.checks))
