"""What ``generate`` would change, without building, proving or publishing anything."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

from tritonforge_generator.config import ModelConfig, model_config_from_graph
from tritonforge_generator.config.from_graph import MODEL_FILENAME, PYTHON_FILENAME
from tritonforge_generator.draft import Draft
from tritonforge_generator.environments import FOLDER, with_environments
from tritonforge_generator.errors import TensorRTMissingError
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.inputs import changed_inputs, inputs_of, is_code
from tritonforge_generator.keeping import DROPPED_CHECK, KEPT_CHECK, kept_by_hand
from tritonforge_generator.made import composing_versions
from tritonforge_generator.pipeline import drafted, profiles_of, with_platform
from tritonforge_generator.pipeline_ensemble import EnsembleDraft, Member, derive, ordered_ensembles
from tritonforge_generator.plan import Profile
from tritonforge_generator.repository import Manifest, ModelFolder, Side, StagedModel
from tritonforge_generator.repository.layout import CONFIG_FILENAME
from tritonforge_generator.spec import EnsembleOptions, ForgeSpec, ModelOptions
from tritonforge_generator.stages import OnStage
from tritonforge_generator.verify import Check

FileChange = Literal["added", "replaced", "removed", "unknown before a build", "not as recorded"]

_KEPT_FP32: Final = " stays in FP32: "
_NOTE: Final = "# Note: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would become of one model or ensemble.

    Attributes:
        model: Its name.
        changed: Whether ``generate`` would publish, or may.
        version: The version that would be published, or that is there already.
        before: The configuration's text now; empty where there is none.
        after: Its text then.
        files: What would happen to the files, by path in the model's folder.
        environments: By place, the texts of other configurations now and then.
        inputs: Inputs that changed since the newest version was made; ``None`` where they were not recorded.
        kept: Rows that name what was written by hand and is kept.
        dropped: Rows that name what was written by hand and goes.
    """

    model: str
    changed: bool
    version: int
    before: str
    after: str
    files: Mapping[str, FileChange]
    environments: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    inputs: tuple[str, ...] | None = None
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def diff(self) -> str:
        """The change of the configurations as a unified diff; empty where there is none."""
        texts = {CONFIG_FILENAME: (self.before, self.after), **self.environments}
        return "".join(_diff(f"{self.model}/{location}", *pair) for location, pair in texts.items())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "model": self.model,
            "version": self.version,
            "changed": self.changed,
            "diff": self.diff(),
            "files": dict(self.files),
            "inputs": list(self.inputs) if self.inputs is not None else None,
            "kept": list(self.kept),
            "dropped": list(self.dropped),
        }


def _diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"a/{path}" if before != "" else "/dev/null",
        f"b/{path}" if after != "" else "/dev/null",
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def preview(
    spec: ForgeSpec,
    *,
    overwrite: bool = False,
    on_conflict: Side | None = None,
    frozen: bool = False,
    on_stage: OnStage = lambda *_: None,
) -> list[Preview]:
    """Say what ``generate`` would change. Sources are read and run on the CPU; no plan is built and no gate is tried.

    Args:
        spec: What to generate, with resolved paths.
        overwrite: As for ``generate``.
        on_conflict: As for ``generate``.
        frozen: Believe the record: a model whose inputs and files are as recorded is not looked at any further.
        on_stage: Told when a model is taken up.

    Raises:
        TritonforgeError: What ``generate`` would refuse before its gates.
    """
    ordered = ordered_ensembles(spec)
    with tempfile.TemporaryDirectory(prefix=".tritonforge-preview-", dir=_place(spec)) as folder:
        work, members, previews = Path(folder), dict[str, Member](), []
        for options in spec.models:
            on_stage(options.name, "compare")
            staged = _staged(spec, options, work, overwrite=overwrite, on_conflict=on_conflict)
            known = _unchanged(options, spec, staged) if frozen else None
            one = known or _preview_of_model(options, spec, staged, work, on_stage)
            members[options.name] = Member(staged=staged, new=one.changed)
            previews.append(one)
        for ensemble in ordered:
            on_stage(ensemble.name, "compare")
            staged = _staged(spec, ensemble, work, overwrite=overwrite, on_conflict=on_conflict)
            one = _preview_of_ensemble(ensemble, spec, staged, members, on_stage)
            members[ensemble.name] = Member(staged=staged, new=one.changed)
            previews.append(one)
    return previews


def _place(spec: ForgeSpec) -> Path | None:
    """Where ensembles are put together by links: beside the repository, as elsewhere their models would be copied."""
    beside = spec.repository.resolve().parent
    return beside if spec.ensembles and os.access(beside, os.W_OK) else None


def _staged(
    spec: ForgeSpec, options: ModelOptions | EnsembleOptions, work: Path, *, overwrite: bool, on_conflict: Side | None
) -> StagedModel:
    """A folder like the one that ``generate`` fills, but away from the repository and without its lock."""
    live = ModelFolder(spec.repository / options.name)
    number = options.version or max(live.versions, default=0) + 1
    folder = ModelFolder(work / "staged" / options.name / options.name)
    (folder.path / str(number)).mkdir(parents=True)
    return StagedModel(folder=folder, live=live, version=number, overwrite=overwrite, on_conflict=on_conflict)


def _unchanged(options: ModelOptions, spec: ForgeSpec, staged: StagedModel) -> Preview | None:
    """What is there, if it is as recorded and would be made of the same again."""
    recorded, live = staged.rival(), staged.live
    if recorded is None or is_code(options) or _changed_inputs(options, spec, recorded) != ():
        return None
    config = live.config_path
    if not config.is_file() or sha256_of_file(config) != recorded.config_sha256 or live.changed_files(recorded):
        return None
    text = live.config_path.read_text(encoding="utf-8")
    return Preview(
        model=options.name, changed=False, version=recorded.version, before=text, after=text, files={}, inputs=()
    )


def _preview_of_model(
    declared: ModelOptions, spec: ForgeSpec, staged: StagedModel, work: Path, on_stage: OnStage
) -> Preview:
    recorded = staged.rival()
    options, note = _platform(declared, spec.server)
    is_built = options.platform == "tensorrt" or options.precision_options is not None
    light = options.model_copy(update={"platform": "onnxruntime", "precision": None}) if is_built else options
    place = work / "drafts" / options.name
    place.mkdir(parents=True)
    draft = drafted(light, place, staged.live, note, on_stage, opset=_opset(recorded) if is_built else None)
    draft.staged = staged
    profiles = profiles_of(draft) if options.platform == "tensorrt" else ()
    config = _config(draft, options, profiles, recorded) if is_built else draft.config
    config, rows = kept_by_hand(staged, config)
    config, more = with_environments(
        config, draft, spec.environments_of(options.name), options=options, profiles=profiles
    )
    staged.write_config(config.text, config.files)  # for the ensembles that are made of it
    inputs = _changed_inputs(declared, spec, recorded)
    if recorded is not None and inputs is not None and is_code(declared):
        same = recorded.made.get("export") == draft.source_files
        inputs += () if same else (f"source: {declared.source} exports another graph, or none is recorded",)
    files: Mapping[str, str | None] = _served_files(draft)
    if is_built and recorded is not None and inputs == ():
        files = recorded.files  # the same would be made again
    elif is_built:
        known = set(recorded.files) if recorded is not None else set()
        files = dict.fromkeys(known | {config.message.default_model_filename})
    return _compared(staged, config, files, recorded, inputs=inputs, rows=[*rows, *more])


def _opset(recorded: Manifest | None) -> int | None:
    """The opset of the graph that a version was made of: TensorRT decided, and need not be here."""
    opset = recorded.graph.get("opsets", {}).get("") if recorded is not None else None
    return int(opset) if opset is not None else None


def _changed_inputs(options: ModelOptions, spec: ForgeSpec, recorded: Manifest | None) -> tuple[str, ...] | None:
    before = recorded.made.get("inputs") if recorded is not None else None
    if before is None:
        return None
    return tuple(changed_inputs(before, inputs_of(options, spec.server, spec.environments_of(options.name))))


def _platform(options: ModelOptions, server: str | None) -> tuple[ModelOptions, str]:
    """What ``generate`` would choose; a plan may be looked at where none can be built."""
    try:
        return with_platform(options, server)
    except TensorRTMissingError:
        return options.model_copy(update={"platform": "tensorrt"}), ""


def _config(draft: Draft, options: ModelOptions, profiles: Sequence[Profile], recorded: Manifest | None) -> ModelConfig:
    """The configuration of a model that is not built; what only a build tells is taken from the newest version."""
    configs = recorded.made.get("configs", {}) if recorded is not None else {}
    generated = configs.get(CONFIG_FILENAME, {}).get("generated", [])
    told = [line.removeprefix(_NOTE) for line in generated if line.startswith(_NOTE) and _KEPT_FP32 in line]
    return model_config_from_graph(
        draft.graph,
        options,
        sample_shapes=draft.reference.sample_shapes,
        profiles=profiles,
        notes=[*draft.notes, *told],
    )


def _served_files(draft: Draft) -> dict[str, str]:
    """The files of a version whose graph is only copied."""
    source = draft.graph.source
    name = PYTHON_FILENAME if draft.options.platform == "python" else MODEL_FILENAME
    return {name: source.file.sha256, **{one.location: one.sha256 for one in source.external_data}}


def _preview_of_ensemble(
    options: EnsembleOptions, spec: ForgeSpec, staged: StagedModel, members: Mapping[str, Member], on_stage: OnStage
) -> Preview:
    draft = EnsembleDraft(options, staged, staged.folder.path.parent / ".served")
    derive(draft, spec.repository, members, on_stage)
    recorded = staged.rival()
    moved = recorded is not None and recorded.composing != composing_versions(draft.ensemble, draft.models)
    changes = [f"the versions of its models, or their files: {', '.join(sorted(draft.models))}"] if moved else []
    one = _compared(staged, draft.config, {}, recorded, rows=draft.checks)
    if not moved:
        return one
    staged.refuse_losses()
    files: dict[str, FileChange] = {**one.files, f"{staged.version}/": "added"}
    return replace(one, changed=True, version=staged.version, files=files, inputs=tuple(changes))


def _compared(
    staged: StagedModel,
    config: ModelConfig,
    now: Mapping[str, str | None],
    recorded: Manifest | None,
    *,
    inputs: tuple[str, ...] | None = None,
    rows: Sequence[Check],
) -> Preview:
    """Hold what would be there against what is there; a hash that is ``None`` is not known before a build.

    Raises:
        RepositoryError: What would be there may not take the place of what is there.
    """
    live = staged.live
    then = recorded.files if recorded is not None else {}
    beside = {location: sha256(data).hexdigest() for location, data in config.files.items()}
    changes = _changes(then, now)
    text = _text_of(live.config_path)
    same = recorded is not None and sha256(config.text.encode()).hexdigest() == recorded.config_sha256
    after = text if same and staged.is_merged else config.text  # only laid out in another way
    others = _changes(recorded.model_files if recorded is not None else {}, beside)
    environments = {
        location: (_text_of(live.path / location), config.files.get(location, b"").decode())
        for location in others
        if location.startswith(f"{FOLDER}/")
    }
    damaged = staged.damaged(recorded) if recorded is not None else []
    is_new = not same or text != after or bool({**changes, **others}) or bool(damaged)
    if is_new and None not in now.values():
        staged.refuse_losses()
    number = recorded.version if recorded is not None and not is_new else staged.version
    files: dict[str, FileChange] = {f"{number}/{name}": change for name, change in changes.items()}
    files |= {**others, **dict.fromkeys(damaged, "not as recorded")}
    if is_new and not files and (recorded is None or text == after):
        files[f"{number}/"] = "added"  # nothing else tells
    return Preview(
        model=live.name,
        changed=is_new,
        version=number,
        before=text,
        after=after,
        files=files,
        environments=environments,
        inputs=inputs,
        kept=tuple(row.summary for row in rows if row.name.startswith(KEPT_CHECK)),
        dropped=tuple(row.summary for row in rows if row.name.startswith(DROPPED_CHECK)),
    )


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _changes(then: Mapping[str, str], now: Mapping[str, str | None]) -> dict[str, FileChange]:
    changes: dict[str, FileChange] = {}
    for name in sorted({*then, *now}):
        if name not in now:
            changes[name] = "removed"
        elif now[name] is None:
            changes[name] = "unknown before a build"
        elif then.get(name) != now[name]:
            changes[name] = "replaced" if name in then else "added"
    return changes
