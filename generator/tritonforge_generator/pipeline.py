"""The way through the generator: source ──▶ graph ──▶ precision ──▶ plan ──▶ config ──▶ verify ──▶ repository."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from tritonforge_generator.config import ModelConfig, model_config_from_graph
from tritonforge_generator.config.from_graph import (
    MODEL_FILENAME,
    PLAN_FILENAME,
    PYTHON_FILENAME,
    max_batch_size_from_graph,
    plan_filenames,
)
from tritonforge_generator.config.tensors import gathers_elements
from tritonforge_generator.dependents import refuse_broken_ensembles
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.draft import Draft
from tritonforge_generator.environments import environment_checks, with_environments
from tritonforge_generator.errors import TensorRTMissingError
from tritonforge_generator.graph import Graph, graph_from_source
from tritonforge_generator.graph.preprocess import preprocessed_model
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.inputs import inputs_of, is_code
from tritonforge_generator.keeping import kept_by_hand
from tritonforge_generator.made import manifest_of
from tritonforge_generator.pipeline_ensemble import (
    EnsembleDraft,
    Member,
    ordered_ensembles,
    refuse_moved_models,
    verified_ensembles,
)
from tritonforge_generator.plan import KnownPlan, Plan, Profile, plan_from_onnx, profiles_from_options
from tritonforge_generator.plan.availability import require_tensorrt
from tritonforge_generator.plan.containers import require_release
from tritonforge_generator.plan.network import newest_opset
from tritonforge_generator.precision import LIMITS, TypedGraph
from tritonforge_generator.python_model import declared_python, graph_of_python, reference_of_python
from tritonforge_generator.repository import (
    ModelFolder,
    ModelVersion,
    Side,
    StagedModel,
    remove_leftovers,
    stage_model,
    swap_all,
)
from tritonforge_generator.source import (
    DEFAULT_OPSET,
    SourceModel,
    source_from_path,
    source_from_python,
    source_from_reference,
)
from tritonforge_generator.spec import DynamicBatching, EnvironmentOptions, ForgeSpec, ModelOptions
from tritonforge_generator.stages import OnStage, Stage, timed
from tritonforge_generator.verify import (
    SERVED_CHECK,
    Check,
    StandIn,
    Verification,
    lint_check,
    not_servable,
    offline_checks,
    other_plans_checks,
    plan_checks,
    plan_datatypes,
    preprocessing_check,
    proven_typed_graph,
    python_served_checks,
    reference_from_path,
    served_check,
    skipped_check,
)
from tritonforge_generator.verify.reference import sample_options

SERVED_AT_ONCE: Final = 8
"""Models that one verifying server loads: each of its instances is a process with the model's weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One published model or ensemble with everything that led to it.

    Attributes:
        version: The published version.
        graph: What the graph takes and gives; ``None`` for an ensemble.
        config: Its configuration with reasons.
        verification: The gates it passed.
        typed: Its number types, where some were asked for.
        plan: Its plan, where there is one.
        stage_s: Seconds spent in each stage.
    """

    version: ModelVersion
    graph: Graph | None
    config: ModelConfig
    verification: Verification
    typed: TypedGraph | None
    plan: Plan | None
    stage_s: dict[Stage, float]


def generate(
    spec: ForgeSpec,
    *,
    serve_check: bool = True,
    overwrite: bool = False,
    on_conflict: Side | None = None,
    on_stage: OnStage = lambda *_: None,
) -> list[Generated]:
    """Generate, verify and publish every model and ensemble of a spec; all of them or none.

    Args:
        spec: What to generate, with resolved paths.
        serve_check: Load the staged models in a real Triton and compare its answers.
        overwrite: Drop what was written by hand into a ``config.pbtxt``; by default it is kept, field by field.
        on_conflict: Which side wins where both the spec and a hand changed a field; by default it is refused.
        on_stage: Told when a stage begins, and how far a plan is.

    Returns:
        The published models in the order of the spec, then the ensembles, each after those that it is made of.

    Raises:
        TritonforgeError: The first refusal. No model of the spec was published then.
    """
    ordered = ordered_ensembles(spec)
    remove_leftovers(spec.repository)
    staged = partial(stage_model, spec.repository, overwrite=overwrite, on_conflict=on_conflict)
    with ExitStack() as opened:
        chosen = [with_platform(options, spec.server) for options in spec.models]  # refuses before any work is done
        drafts = []
        for declared, (options, note) in zip(spec.models, chosen, strict=True):
            place = opened.enter_context(staged(options.name, version=options.version))
            environments = spec.environments_of(options.name)
            place.record["inputs"] = inputs_of(declared, spec.server, environments)  # before they are read
            work = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="tritonforge-model-")))
            draft = drafted(options, work, place.live, note, on_stage)
            draft.staged = place
            if is_code(declared):
                place.record["export"] = draft.source_files
            _keep_hand_edits(draft, environments)
            _verify(draft, spec.server, on_stage)
            draft.checks += environment_checks(draft.staged, environments)
            drafts.append(draft)
        for first in range(0, len(drafts), SERVED_AT_ONCE) if serve_check else ():
            _check_served(drafts[first : first + SERVED_AT_ONCE], on_stage)
        for draft in drafts:
            draft.verification.raise_if_failed()
        models = [(draft, _prepared(draft, on_stage)) for draft in drafts]
        members = {draft.options.name: _member(draft, version) for draft, version in models}
        ensembles = verified_ensembles(
            spec, ordered, members, opened, staged=staged, serve_check=serve_check, on_stage=on_stage
        )
        members |= {draft.options.name: Member(staged=draft.staged, new=version.new) for draft, version in ensembles}
        refuse_broken_ensembles(spec.repository, members)
        for ensemble, _ in ensembles:
            refuse_moved_models(ensemble, spec.repository, members)
        made: list[tuple[Draft | EnsembleDraft, ModelVersion]] = [*models, *ensembles]
        swap_all([draft.staged for draft, version in made if version.new])
        return [_generated(draft, version) for draft, version in made]


def with_platform(options: ModelOptions, server: str | None) -> tuple[ModelOptions, str]:
    """Settle ``platform: auto``, with a note of what was chosen and why; refuse plans that the server cannot load."""
    if options.platform == "onnxruntime":
        return options, ""
    if options.platform == "python":
        return declared_python(options), ""
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


def drafted(
    options: ModelOptions,
    work: Path,
    live: ModelFolder,
    note: str,
    on_stage: OnStage,
    *,
    opset: int | None = None,
) -> Draft:
    """Go from the source to the configuration.

    A function is exported in ``opset``, by default in the newest that the target takes.
    """
    if options.platform == "python":
        return _python_draft(options, work, live, on_stage)
    stage_s: dict[Stage, float] = {}
    name = options.name
    with timed(name, "source", stage_s, on_stage):
        source = source_from_reference(options.source, work, opset=opset or _opset(options))
    network = source.path
    with timed(name, "graph", stage_s, on_stage):
        if options.preprocess is not None:
            fused = work / "preprocess"
            fused.mkdir()
            source = source_from_path(preprocessed_model(network, options.preprocess, fused))
        graph = graph_from_source(source, sample_options(options.verify))
        max_batch_size = max_batch_size_from_graph(graph, options)
        reference = reference_from_path(
            source.path,
            options.verify,
            batched=max_batch_size > 0 and not gathers_elements(options),
            sequence=options.sequence_batching,
        )
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
        with timed(name, "precision", stage_s, on_stage):
            _add_precision(draft)
        draft.verification.raise_if_failed()
    if options.platform == "tensorrt":
        with timed(name, "plan", stage_s, on_stage):
            _add_plan(draft, on_stage)
    with timed(name, "config", stage_s, on_stage):
        _add_config(draft)
    return draft


def _add_config(draft: Draft) -> None:
    draft.config = model_config_from_graph(
        draft.graph,
        draft.options,
        sample_shapes=draft.reference.sample_shapes,
        profiles=draft.plan.profiles if draft.plan is not None else (),
        notes=draft.notes,
    )


def _python_draft(options: ModelOptions, work: Path, live: ModelFolder, on_stage: OnStage) -> Draft:
    stage_s: dict[Stage, float] = {}
    with timed(options.name, "source", stage_s, on_stage):
        source = source_from_python(options.source, options.files or ())
    with timed(options.name, "graph", stage_s, on_stage):
        graph = graph_of_python(source, options)
        reference = reference_of_python(graph, options)
    draft = Draft(
        options=options,
        graph=graph,
        max_batch_size=options.max_batch_size or 0,
        work=work,
        live=live,
        reference=reference,
        stage_s=stage_s,
    )
    with timed(options.name, "config", stage_s, on_stage):
        _add_config(draft)
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
        profiles=profiles_of(draft),
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


def profiles_of(draft: Draft) -> tuple[Profile, ...]:
    """The optimisation profiles of a plan."""
    options = draft.options
    batching = options.dynamic_batching
    preferred = batching.preferred_batch_size if isinstance(batching, DynamicBatching) else ()
    given = options.verify.samples is not None
    return profiles_from_options(
        draft.graph.inputs,
        options.tensorrt,
        max_batch_size=draft.batch_rows,
        opt_batch_size=max(preferred, default=draft.batch_rows),
        sample_shapes=draft.reference.sample_shapes if given else options.verify.shapes,
    )


def _keep_hand_edits(draft: Draft, environments: Mapping[str, EnvironmentOptions]) -> None:
    config, rows = kept_by_hand(draft.staged, draft.config)
    profiles = draft.plan.profiles if draft.plan is not None else ()
    draft.config, more = with_environments(config, draft, environments, options=draft.options, profiles=profiles)
    draft.max_batch_size = draft.config.message.max_batch_size
    draft.checks += [*rows, *more]


def _verify(draft: Draft, server: str | None, on_stage: OnStage) -> None:
    """Fill the staged folder and run every gate that needs no server."""
    staged = draft.staged
    with timed(draft.options.name, "verify", draft.stage_s, on_stage):
        if draft.plan is not None:
            _add_plans(draft, draft.plan)
            staged.write_config(draft.config.text, draft.config.files)
            staged.carry_over()
            draft.checks += plan_checks(
                draft.plan,
                draft.graph.source.path,
                draft.reference,
                draft.options,
                max_batch_size=draft.batch_rows,
                server=server,
            )
            draft.checks.append(lint_check(staged.folder.path))
        elif draft.options.platform == "python":
            _add_files(draft.graph.source, PYTHON_FILENAME, staged)
            staged.write_config(draft.config.text, draft.config.files)
            staged.carry_over()
            draft.checks.append(lint_check(staged.folder.path))
        else:
            typed = source_from_path(draft.network) if draft.typed is not None else draft.graph.source
            _add_files(typed, MODEL_FILENAME, staged)
            staged.write_config(draft.config.text, draft.config.files)
            staged.carry_over()
            draft.checks += offline_checks(
                draft.reference,
                staged.version_path / MODEL_FILENAME,
                staged.folder.path,
                max_batch_size=draft.batch_rows,
            )
    if draft.max_batch_size > 0 and not draft.batched:
        reason = "requests of several sizes share a batch, and only a full Triton gathers them"
        draft.checks.append(skipped_check("requests are independent of their batch", reason))
    draft.verification.raise_if_failed()


def _add_plans(draft: Draft, plan: Plan) -> None:
    """Stage the plan, and those for other GPUs where they fit."""
    draft.staged.add_file(plan.path, PLAN_FILENAME, sha256=plan.sha256)
    others = draft.options.cc_model_files or {}
    checks = other_plans_checks(others, plan, version_compatible=draft.options.tensorrt.version_compatible)
    draft.checks += checks
    if any(check.verdict == "FAILED" for check in checks):
        draft.verification.raise_if_failed()
    for key, filename in plan_filenames(draft.options).items():
        draft.staged.add_file(others[key], filename, sha256=sha256_of_file(others[key]))


def _add_files(source: SourceModel, name: str, staged: StagedModel) -> None:
    staged.add_file(source.path, name, sha256=source.file.sha256)
    for beside in source.external_data:
        staged.add_file(beside.path, beside.location, sha256=beside.sha256)


def _prepared(draft: Draft, on_stage: OnStage) -> ModelVersion:
    """Make a model ready to be published, or find that it is."""
    with timed(draft.options.name, "publish", draft.stage_s, on_stage):
        manifest = manifest_of(
            draft.staged,
            draft.options,
            draft.graph,
            draft.config,
            draft.verification,
            typed=draft.typed,
            plan=draft.plan,
        )
        return draft.staged.prepare(manifest)


def _member(draft: Draft, version: ModelVersion) -> Member:
    """A model as the ensembles of its spec will find it."""
    stand_in = None
    if draft.plan is not None:
        precision = draft.options.plan_precision
        limit = precision.max_relative_error or LIMITS[precision.type]
        stand_in = StandIn(path=draft.network, version=version.version, max_relative_error=limit)
    return Member(staged=draft.staged, new=version.new, stand_in=stand_in)


def _check_served(drafts: Sequence[Draft], on_stage: OnStage) -> None:
    """One server for a group of staged models; each staging folder is a repository of its own."""
    for draft in drafts:
        reason = not_servable(draft.config.message)
        if reason != "":
            draft.checks.append(skipped_check(SERVED_CHECK, reason))
    drafts = [draft for draft in drafts if not_servable(draft.config.message) == ""]
    if not drafts:
        return
    folders = [draft.staged.folder.path.parent for draft in drafts]
    start = time.perf_counter()
    on_stage(drafts[0].options.name, "serve")
    # Everything is stated, so nothing is completed; and nobody else uses this server, so it need not end gently.
    with EmbeddedTriton(folders, stop_timeout_s=0, arguments=["--disable-auto-complete-config"]) as server:
        start_s = time.perf_counter() - start
        for draft in drafts:
            with timed(draft.options.name, "serve", draft.stage_s, on_stage):
                draft.checks += _served_checks(draft, [server.grpc_url, server.http_url])
    drafts[0].stage_s["serve"] += start_s


def _served_checks(draft: Draft, targets: Sequence[str]) -> list[Check]:
    name, config = draft.options.name, draft.config.message
    if draft.options.platform == "python":
        given = draft.options.verify.samples is not None
        return python_served_checks(name, draft.reference, targets, config=config, samples_given=given)
    return [served_check(name, draft.reference, targets, max_batch_size=draft.max_batch_size, config=config)]


def _generated(draft: Draft | EnsembleDraft, version: ModelVersion) -> Generated:
    model = draft if isinstance(draft, Draft) else None
    return Generated(
        version=version,
        graph=model.graph if model is not None else None,
        config=draft.config,
        verification=draft.verification,
        typed=model.typed if model is not None else None,
        plan=model.plan if model is not None else None,
        stage_s=dict(draft.stage_s),
    )
