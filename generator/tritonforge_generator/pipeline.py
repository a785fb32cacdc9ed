"""The way through the generator: source ──▶ graph ──▶ precision ──▶ plan ──▶ config ──▶ verify ──▶ repository."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from tritonforge_generator.config import ModelConfig, model_config_from_graph
from tritonforge_generator.config.from_graph import MODEL_FILENAME, PLAN_FILENAME, max_batch_size_from_graph
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import TensorRTMissingError
from tritonforge_generator.graph import Graph, graph_from_source
from tritonforge_generator.graph.preprocess import preprocessed_model
from tritonforge_generator.made import manifest_of
from tritonforge_generator.plan import KnownPlan, Plan, Profile, plan_from_onnx, profiles_from_options
from tritonforge_generator.plan.availability import require_tensorrt
from tritonforge_generator.plan.containers import require_release
from tritonforge_generator.plan.network import newest_opset
from tritonforge_generator.precision import TypedGraph
from tritonforge_generator.repository import Manifest, ModelFolder, ModelVersion, StagedModel, stage_model
from tritonforge_generator.source import DEFAULT_OPSET, source_from_path, source_from_reference
from tritonforge_generator.spec import DynamicBatching, ForgeSpec, ModelOptions
from tritonforge_generator.verify import (
    Check,
    Reference,
    Verification,
    lint_check,
    offline_checks,
    plan_checks,
    plan_datatypes,
    preprocessing_check,
    proven_typed_graph,
    reference_from_path,
    served_check,
)
from tritonforge_generator.verify.reference import sample_options

Stage = Literal["source", "graph", "precision", "plan", "config", "verify", "serve", "publish"]
OnStage = Callable[[str, str], None]
"""Called with the model's name when a stage begins, and while a plan is built."""

SERVED_AT_ONCE: Final = 8
"""Models that one verifying server loads: each of its instances is a process with the model's weights."""


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
    def network(self) -> Path:
        """The ONNX file in the types that are to be computed in."""
        return self.typed.path if self.typed is not None else self.graph.source.path

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
        typed: Its number types, where some were asked for.
        plan: Its plan, where there is one.
        stage_s: Seconds spent in each stage.
    """

    version: ModelVersion
    graph: Graph
    config: ModelConfig
    verification: Verification
    typed: TypedGraph | None
    plan: Plan | None
    stage_s: dict[Stage, float]


def generate(
    spec: ForgeSpec, *, serve_check: bool = True, overwrite: bool = False, on_stage: OnStage = lambda *_: None
) -> list[Generated]:
    """Generate, verify and publish every model of a spec; all of them or none.

    Args:
        spec: What to generate, with resolved paths.
        serve_check: Load the staged models in a real Triton and compare its answers.
        overwrite: Replace a ``config.pbtxt`` that was edited by hand.
        on_stage: Told when a stage begins, and how far a plan is.

    Returns:
        The published models, in the order of the spec.

    Raises:
        TritonforgeError: The first refusal. No model of the spec was published then.
    """
    with ExitStack() as opened:
        chosen = [_with_platform(options, spec.server) for options in spec.models]  # refuses before any work is done
        drafts = []
        for options, note in chosen:
            work = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="tritonforge-model-")))
            draft = _draft(options, work, ModelFolder(spec.repository / options.name), note, on_stage)
            draft.staged = opened.enter_context(
                stage_model(spec.repository, options.name, version=options.version, overwrite=overwrite)
            )
            _verify(draft, spec.server, on_stage)
            drafts.append(draft)
        for first in range(0, len(drafts), SERVED_AT_ONCE) if serve_check else ():
            _check_served(drafts[first : first + SERVED_AT_ONCE], on_stage)
        for draft in drafts:
            draft.verification.raise_if_failed()
        manifests = [_manifest(draft) for draft in drafts]
        for draft, manifest in zip(drafts, manifests, strict=True):
            draft.staged.same_version(manifest)  # refuses before the first model is published
        return [_published(draft, manifest, on_stage) for draft, manifest in zip(drafts, manifests, strict=True)]


def _with_platform(options: ModelOptions, server: str | None) -> tuple[ModelOptions, str]:
    """Settle ``platform: auto``, with a note of what was chosen and why; refuse plans that the server cannot load."""
    if options.platform == "onnxruntime":
        return options, ""
    try:
        gpu = require_tensorrt(options.tensorrt.device_id)
    except TensorRTMissingError as error:
        if options.platform == "tensorrt" or options.needs_plan:
            raise
        note = f"served by ONNX Runtime, because no plan can be built here: {error.what}"
        return options.model_copy(update={"platform": "onnxruntime"}), note
    if server is not None:
        require_release(server, version_compatible=options.tensorrt.version_compatible)
    note = f"served as a TensorRT plan for {gpu.name}" if options.platform == "auto" else ""
    return options.model_copy(update={"platform": "tensorrt"}), note


def _draft(options: ModelOptions, work: Path, live: ModelFolder, note: str, on_stage: OnStage) -> Draft:
    stage_s: dict[Stage, float] = {}
    name = options.name
    with _timed(name, "source", stage_s, on_stage):
        source = source_from_reference(options.source, work, opset=_opset(options))
    network = source.path
    with _timed(name, "graph", stage_s, on_stage):
        if options.preprocess is not None:
            fused = work / "preprocess"
            fused.mkdir()
            source = source_from_path(preprocessed_model(network, options.preprocess, fused))
        graph = graph_from_source(source, sample_options(options.verify))
        max_batch_size = max_batch_size_from_graph(graph, options)
        reference = reference_from_path(source.path, options.verify, batched=max_batch_size > 0)
    draft = Draft(
        options=options,
        graph=graph,
        max_batch_size=max_batch_size,
        work=work,
        live=live,
        reference=reference,
        notes=[note],
        stage_s=stage_s,
    )
    if options.preprocess is not None:
        draft.checks.append(preprocessing_check(network, options.preprocess, reference))
        draft.verification.raise_if_failed()
    if options.precision_options is not None:
        with _timed(name, "precision", stage_s, on_stage):
            _add_precision(draft)
        draft.verification.raise_if_failed()
    if options.platform == "tensorrt":
        with _timed(name, "plan", stage_s, on_stage):
            _add_plan(draft, on_stage)
    with _timed(name, "config", stage_s, on_stage):
        draft.config = model_config_from_graph(
            draft.graph, options, sample_shapes=reference.sample_shapes, notes=draft.notes
        )
    return draft


def _opset(options: ModelOptions) -> int:
    """The newest opset that the target takes, for sources that are exported."""
    return newest_opset() if options.platform == "tensorrt" else DEFAULT_OPSET


def _add_precision(draft: Draft) -> None:
    precision = draft.options.precision_options
    if precision is None:
        return
    path = draft.graph.source.path
    draft.typed, check = proven_typed_graph(path, draft.graph, precision, draft.reference, draft.work)
    draft.checks.append(check)
    draft.reference = draft.reference.for_precision(precision)
    draft.notes += [f"{node.name} stays in FP32: {node.reason}" for node in draft.typed.kept_fp32]


def _add_plan(draft: Draft, on_stage: OnStage) -> None:
    name = draft.options.name
    last = ""

    def on_progress(share: float | None, text: str) -> None:
        nonlocal last
        said = f"plan {share:.0%}" if share is not None else f"plan: {text}"
        if said != last:
            last = said
            on_stage(name, said)

    precision = draft.options.plan_precision
    draft.plan = plan_from_onnx(
        draft.network,
        draft.work / PLAN_FILENAME,
        draft.options.tensorrt,
        precision=precision.type,
        profiles=_profiles(draft),
        known=dict(_published_plans(draft.live)),
        on_progress=on_progress,
    )
    datatypes = plan_datatypes(draft.plan)
    draft.reference = draft.reference.for_precision(precision).in_types(datatypes)
    draft.graph = replace(
        draft.graph,
        inputs=tuple(replace(one, datatype=datatypes.get(one.name, one.datatype)) for one in draft.graph.inputs),
        outputs=tuple(replace(one, datatype=datatypes.get(one.name, one.datatype)) for one in draft.graph.outputs),
    )


def _published_plans(live: ModelFolder) -> Iterator[tuple[str, KnownPlan]]:
    """Plans of a model's versions by recipe; the newest comes last."""
    for version in live.versions:
        manifest = live.manifest(version)
        made = manifest.made.get("plan", {}) if manifest is not None else {}
        if "recipe_sha256" in made:
            path = live.path / str(version) / PLAN_FILENAME
            yield made["recipe_sha256"], KnownPlan(path=path, sha256=made["sha256"])


def _profiles(draft: Draft) -> tuple[Profile, ...]:
    options = draft.options
    batching = options.dynamic_batching
    preferred = batching.preferred_batch_size if isinstance(batching, DynamicBatching) else ()
    given = options.verify.samples is not None
    return profiles_from_options(
        draft.graph.inputs,
        options.tensorrt,
        max_batch_size=draft.max_batch_size,
        opt_batch_size=max(preferred, default=draft.max_batch_size),
        sample_shapes=draft.reference.sample_shapes if given else options.verify.shapes,
    )


def _verify(draft: Draft, server: str | None, on_stage: OnStage) -> None:
    """Fill the staged folder and run every gate that needs no server."""
    staged = draft.staged
    with _timed(draft.options.name, "verify", draft.stage_s, on_stage):
        if draft.plan is not None:
            staged.add_file(draft.plan.path, PLAN_FILENAME, sha256=draft.plan.sha256)
            staged.write_config(draft.config.text)
            draft.checks += plan_checks(
                draft.plan,
                draft.graph.source.path,
                draft.reference,
                draft.options,
                max_batch_size=draft.max_batch_size,
                server=server,
            )
            draft.checks.append(lint_check(staged.folder.path))
        else:
            _add_onnx(draft)
            staged.write_config(draft.config.text)
            draft.checks += offline_checks(
                draft.reference,
                staged.version_path / MODEL_FILENAME,
                staged.folder.path,
                max_batch_size=draft.max_batch_size,
            )
    draft.verification.raise_if_failed()


def _add_onnx(draft: Draft) -> None:
    typed = source_from_path(draft.network) if draft.typed is not None else draft.graph.source
    draft.staged.add_file(typed.path, MODEL_FILENAME, sha256=typed.file.sha256)
    for external in typed.external_data:
        draft.staged.add_file(external.path, external.location, sha256=external.sha256)


def _manifest(draft: Draft) -> Manifest:
    return manifest_of(draft.staged, draft.options, draft.graph, draft.verification, typed=draft.typed, plan=draft.plan)


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
        typed=draft.typed,
        plan=draft.plan,
        stage_s=dict(draft.stage_s),
    )


@contextmanager
def _timed(model: str, stage: Stage, stage_s: dict[Stage, float], on_stage: OnStage) -> Iterator[None]:
    on_stage(model, stage)
    start = time.perf_counter()
    yield
    stage_s[stage] = stage_s.get(stage, 0.0) + time.perf_counter() - start
