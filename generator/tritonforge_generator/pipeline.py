"""The way through the generator: source ──▶ graph ──▶ config ──▶ verify ──▶ repository."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tritonforge_generator.config import ModelConfig, model_config_from_graph
from tritonforge_generator.config.from_graph import MODEL_FILENAME
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.graph import Graph, graph_from_source
from tritonforge_generator.made import manifest_of
from tritonforge_generator.repository import Manifest, ModelVersion, StagedModel, stage_model
from tritonforge_generator.source import source_from_path
from tritonforge_generator.spec import ForgeSpec, ModelOptions
from tritonforge_generator.verify import (
    Check,
    Reference,
    Verification,
    offline_checks,
    reference_from_path,
    served_check,
)
from tritonforge_generator.verify.reference import sample_options

Stage = Literal["source", "graph", "config", "verify", "serve", "publish"]
OnStage = Callable[[str, Stage], None]
"""Called with the model's name when a stage begins."""

SERVED_AT_ONCE: Final = 8
"""Models that one verifying server loads: each of its instances is a process with the model's weights."""


@dataclass(slots=True)
class Draft:
    """A model on its way; it grows stage by stage until it is published.

    Attributes:
        options: What the user declared.
        graph: The graph stage's artifact.
        config: The config stage's artifact.
        reference: The source's answers.
        staged: The staged folder.
        checks: Gates passed or failed so far.
        stage_s: Seconds spent in each stage.
    """

    options: ModelOptions
    graph: Graph
    config: ModelConfig
    reference: Reference
    staged: StagedModel
    checks: list[Check] = field(default_factory=list)
    stage_s: dict[Stage, float] = field(default_factory=dict)

    @property
    def max_batch_size(self) -> int:
        """As configured."""
        return int(self.config.message.max_batch_size)

    @property
    def verification(self) -> Verification:
        """The gates so far as an artifact."""
        return Verification(model=self.options.name, samples=self.reference.samples.origin, checks=tuple(self.checks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One published model with everything that led to it.

    Attributes:
        version: The published version.
        graph: What the graph takes and gives.
        config: Its configuration with reasons.
        verification: The gates it passed.
        stage_s: Seconds spent in each stage.
    """

    version: ModelVersion
    graph: Graph
    config: ModelConfig
    verification: Verification
    stage_s: dict[Stage, float]


def generate(
    spec: ForgeSpec, *, serve_check: bool = True, overwrite: bool = False, on_stage: OnStage = lambda *_: None
) -> list[Generated]:
    """Generate, verify and publish every model of a spec; all of them or none.

    Args:
        spec: What to generate, with resolved paths.
        serve_check: Load the staged models in a real Triton and compare its answers.
        overwrite: Replace a ``config.pbtxt`` that was edited by hand.
        on_stage: Told when a stage begins.

    Returns:
        The published models, in the order of the spec.

    Raises:
        TritonforgeError: The first refusal. No model of the spec was published then.
    """
    with ExitStack() as staging:
        drafts = [_verified_draft(spec.repository, options, staging, overwrite, on_stage) for options in spec.models]
        for first in range(0, len(drafts), SERVED_AT_ONCE) if serve_check else ():
            _check_served(drafts[first : first + SERVED_AT_ONCE], on_stage)
        for draft in drafts:
            draft.verification.raise_if_failed()
        manifests = [manifest_of(draft.staged, draft.options, draft.graph, draft.verification) for draft in drafts]
        for draft, manifest in zip(drafts, manifests, strict=True):
            draft.staged.same_version(manifest)  # refuses before the first model is published
        return [_published(draft, manifest, on_stage) for draft, manifest in zip(drafts, manifests, strict=True)]


def _verified_draft(
    repository: Path, options: ModelOptions, staging: ExitStack, overwrite: bool, on_stage: OnStage
) -> Draft:
    stage_s: dict[Stage, float] = {}
    with _timed(options.name, "source", stage_s, on_stage):
        source = source_from_path(options.source)
    with _timed(options.name, "graph", stage_s, on_stage):
        graph = graph_from_source(source, sample_options(options.verify))
    with _timed(options.name, "config", stage_s, on_stage):
        batched = graph.batch.found and options.max_batch_size != 0
        reference = reference_from_path(source.path, options.verify, batched=batched)
        config = model_config_from_graph(graph, options, sample_shapes=reference.sample_shapes)
    staged = staging.enter_context(stage_model(repository, options.name, version=options.version, overwrite=overwrite))
    draft = Draft(options, graph, config, reference, staged, stage_s=stage_s)
    with _timed(options.name, "verify", stage_s, on_stage):
        _fill(draft)
        draft.checks += offline_checks(
            reference, staged.version_path / MODEL_FILENAME, staged.folder.path, max_batch_size=draft.max_batch_size
        )
    draft.verification.raise_if_failed()
    return draft


def _fill(draft: Draft) -> None:
    source = draft.graph.source
    draft.staged.add_file(source.path, MODEL_FILENAME, sha256=source.file.sha256)
    for external in source.external_data:
        draft.staged.add_file(external.path, external.location, sha256=external.sha256)
    draft.staged.write_config(draft.config.text)


def _check_served(drafts: Sequence[Draft], on_stage: OnStage) -> None:
    """One server for a group of staged models; each staging folder is a repository of its own."""
    folders = [draft.staged.folder.path.parent for draft in drafts]
    start = time.perf_counter()
    on_stage(drafts[0].options.name, "serve")
    # Everything is stated, so nothing is completed; and nobody else uses this server, so it need not end gently.
    with EmbeddedTriton(folders, stop_timeout_s=0, arguments=["--disable-auto-complete-config"]) as server:
        start_s = time.perf_counter() - start
        for draft in drafts:
            with _timed(draft.options.name, "serve", draft.stage_s, on_stage):
                draft.checks.append(
                    served_check(
                        draft.options.name,
                        draft.reference,
                        [server.grpc_url, server.http_url],
                        max_batch_size=draft.max_batch_size,
                    )
                )
    drafts[0].stage_s["serve"] += start_s


def _published(draft: Draft, manifest: Manifest, on_stage: OnStage) -> Generated:
    with _timed(draft.options.name, "publish", draft.stage_s, on_stage):
        version = draft.staged.publish(manifest)
    return Generated(
        version=version,
        graph=draft.graph,
        config=draft.config,
        verification=draft.verification,
        stage_s=dict(draft.stage_s),
    )


@contextmanager
def _timed(model: str, stage: Stage, stage_s: dict[Stage, float], on_stage: OnStage) -> Iterator[None]:
    on_stage(model, stage)
    start = time.perf_counter()
    yield
    stage_s[stage] = stage_s.get(stage, 0.0) + time.perf_counter() - start
