"""The way of an ensemble: composing models ──▶ ensemble ──▶ config ──▶ verify ──▶ repository."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tritonforge_client.core.proto import model_config_from_text
from tritonforge_generator.config import ModelConfig
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.ensemble import (
    ComposingModel,
    Ensemble,
    composing_models,
    ensemble_from_options,
    ensembles_in_order,
    model_config_from_ensemble,
    options_from_config,
)
from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.keeping import kept_by_hand
from tritonforge_generator.made import ensemble_manifest_of
from tritonforge_generator.repository import ModelFolder, ModelRepository, ModelVersion, StagedModel
from tritonforge_generator.repository.layout import CONFIG_FILENAME
from tritonforge_generator.spec import EnsembleOptions, ForgeSpec
from tritonforge_generator.stages import OnStage, Stage, timed
from tritonforge_generator.verify import (
    SERVED_CHECK,
    Check,
    EnsembleProof,
    StandIn,
    Verification,
    ensemble_not_servable,
    ensemble_proof,
    served_ensemble_check,
    skipped_check,
)

_SERVED: Final = ".served"
"""Where an ensemble and all that it is made of are put together, beside the staged folder; no model has such a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A model of the spec that is staged and will be published before the ensembles.

    Attributes:
        staged: Its staged folder.
        new: Whether it will be published; ``False`` where the repository has the same already.
        stand_in: What answers in place of its plan.
    """

    staged: StagedModel
    new: bool
    stand_in: StandIn | None = None

    @property
    def folders(self) -> list[Path]:
        """Where the files of the model are that will be served; the first that has a name wins."""
        live = self.staged.live.path
        return [self.staged.folder.path, live] if self.new else [live]


@dataclass(slots=True)
class EnsembleDraft:
    """An ensemble on its way.

    Attributes:
        options: What the user declared.
        staged: The staged folder.
        repository: A repository with the ensemble and everything that it is made of.
        models: All models that it is made of, by name.
        ensemble: The ensemble.
        config: Its configuration.
        proof: What is known of it before a server was asked.
        checks: Gates so far.
        stage_s: Seconds spent in each stage.
    """

    options: EnsembleOptions
    staged: StagedModel
    repository: Path
    models: Mapping[str, ComposingModel] = field(init=False)
    ensemble: Ensemble = field(init=False)
    config: ModelConfig = field(init=False)
    proof: EnsembleProof = field(init=False)
    checks: list[Check] = field(default_factory=list)
    stage_s: dict[Stage, float] = field(default_factory=dict)

    @property
    def verification(self) -> Verification:
        """The gates so far as an artifact."""
        reference = self.proof.reference
        samples = reference.samples.origin if reference is not None else "drawn for the server alone"
        return Verification(model=self.options.name, samples=samples, checks=tuple(self.checks))


def ordered_ensembles(spec: ForgeSpec) -> list[EnsembleOptions]:
    """The ensembles of a spec in the order in which they are made; refuses before any work is done.

    Raises:
        ConfigError: A step names no model, or ensembles lead back to themselves.
    """
    if not spec.ensembles:
        return []
    repository = ModelRepository(spec.repository)
    published = [folder.name for folder in repository.models() if folder.versions] if spec.repository.is_dir() else []
    return ensembles_in_order(spec.ensembles, models=[model.name for model in spec.models], published=published)


def verified_ensembles(
    spec: ForgeSpec,
    ensembles: Sequence[EnsembleOptions],
    members: Mapping[str, Member],
    opened: ExitStack,
    *,
    serve_check: bool,
    staged: Callable[..., AbstractContextManager[StagedModel]],
    on_stage: OnStage,
) -> list[tuple[EnsembleDraft, ModelVersion]]:
    """Stage and verify ensembles, and make them ready to be published.

    Args:
        spec: What to generate.
        ensembles: The ensembles in their order.
        members: The spec's models by name.
        opened: Closes what is staged.
        serve_check: Ask a real Triton too.
        staged: Gives a model an empty staged folder, by its name and ``version``.
        on_stage: Told when a stage begins.

    Returns:
        Each with the version that it will be.

    Raises:
        TritonforgeError: The first refusal.
    """
    known = dict(members)
    made = []
    for options in ensembles:
        model = opened.enter_context(staged(options.name, version=options.version))
        draft = EnsembleDraft(options, model, model.folder.path.parent / _SERVED)
        derive(draft, spec.repository, known, on_stage)
        _verify(draft, known, on_stage)
        if serve_check:
            _check_served(draft, on_stage)
        draft.verification.raise_if_failed()
        version = _prepared(draft, on_stage)
        known[options.name] = Member(staged=model, new=version.new)
        made.append((draft, version))
    return made


def _prepared(draft: EnsembleDraft, on_stage: OnStage) -> ModelVersion:
    with timed(draft.options.name, "publish", draft.stage_s, on_stage):
        staged, verification = draft.staged, draft.verification
        return staged.prepare(ensemble_manifest_of(staged, draft.options, draft.ensemble, draft.models, verification))


def derive(draft: EnsembleDraft, repository: Path, members: Mapping[str, Member], on_stage: OnStage) -> None:
    """Put an ensemble's models together, and go from its steps to its configuration.

    Args:
        draft: The ensemble; it gets its models and its configuration.
        repository: Where models are published.
        members: The spec's models by name.
        on_stage: Told when the stage begins.
    """
    options, staged = draft.options, draft.staged
    with timed(options.name, "config", draft.stage_s, on_stage):
        _derive_from(options, draft, repository, members)
        draft.config, rows = kept_by_hand(staged, model_config_from_ensemble(draft.ensemble, options))
        draft.checks += rows
        if rows:  # what is proven is what will be served
            _derive_from(options_from_config(draft.config.message, options.verify), draft, repository, members)
        staged.write_config(draft.config.text)
        linked_model(draft.repository / options.name, [staged.folder.path, staged.live.path])


def _derive_from(
    options: EnsembleOptions, draft: EnsembleDraft, repository: Path, members: Mapping[str, Member]
) -> None:
    names = {step.model_name for step in options.steps}
    assemble(draft.repository, repository, names, members)
    draft.models = composing_models(draft.repository, names, of=options.name)
    draft.ensemble = ensemble_from_options(options, draft.models)


def refuse_moved_models(draft: EnsembleDraft, repository: Path, members: Mapping[str, Member]) -> None:
    """Make sure that the models that others publish are those that an ensemble was proven with.

    Args:
        draft: The ensemble.
        repository: Where models are published.
        members: The spec's models by name, which nobody else can publish now.

    Raises:
        RepositoryError: One has another version or configuration now.
    """
    for name in set(draft.models) - set(members):
        proven, now = (ModelFolder(root / name) for root in (draft.repository, repository))
        if proven.versions != now.versions or _config_of(proven) != _config_of(now):
            raise RepositoryError(
                f"model '{name}' changed while ensemble '{draft.options.name}' was proven",
                expected="nobody to publish it meanwhile",
                got=f"versions {now.versions} after {proven.versions}, or another configuration",
                action="Generate again.",
            )


def _config_of(model: ModelFolder) -> bytes:
    return model.config_path.read_bytes() if model.config_path.is_file() else b""


def assemble(target: Path, repository: Path, names: Collection[str], members: Mapping[str, Member]) -> None:
    """Put models and all that they are made of into one repository by links, as they will be once all is published.

    Args:
        target: The repository to make.
        repository: Where models are published.
        names: The models.
        members: The spec's models by name.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in names_below(repository, names, members):
        linked_model(target / name, _folders(repository, name, members))


def names_below(repository: Path, names: Collection[str], members: Mapping[str, Member]) -> list[str]:
    """Models, and those that they are made of in turn, as far as they are there.

    Args:
        repository: Where models are published.
        names: The models.
        members: The spec's models by name.
    """
    found: list[str] = []
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        folder = _folders(repository, name, members)[0]
        if name not in found and folder.is_dir():
            found.append(name)
            waiting += step_names(folder / CONFIG_FILENAME)
    return found


def _folders(repository: Path, name: str, members: Mapping[str, Member]) -> list[Path]:
    return members[name].folders if name in members else [repository / name]


def step_names(config: Path) -> list[str]:
    """The models of an ensemble's steps; none of another model, or where the config cannot be read.

    Args:
        config: Its ``config.pbtxt``.
    """
    from google.protobuf import text_format

    try:
        written = model_config_from_text(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, text_format.ParseError):
        return []
    return [str(step.model_name) for step in written.ensemble_scheduling.step]


def linked_model(folder: Path, sources: Sequence[Path]) -> None:
    """Make one model folder of several by links; what an earlier one has wins.

    Args:
        folder: The folder to make.
        sources: Folders of the model on the same file system; one that is missing is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        for entry in sorted(source.iterdir()) if source.is_dir() else ():
            target = folder / entry.name
            if target.exists():
                continue
            if entry.is_dir():
                shutil.copytree(entry, target, copy_function=_link)
            else:
                _link(entry, target)


def _link(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    real = Path(source).resolve()  # a relative link would lead elsewhere from the target
    if not real.exists():
        return  # nor is it there for the server
    try:
        os.link(real, target)
    except OSError:  # a file system without hard links
        shutil.copy2(real, target)


def _verify(draft: EnsembleDraft, members: Mapping[str, Member], on_stage: OnStage) -> None:
    with timed(draft.options.name, "verify", draft.stage_s, on_stage):
        known = {name: member.stand_in for name, member in members.items() if name in draft.models}
        stand_ins = {name: stand_in for name, stand_in in known.items() if stand_in is not None}
        draft.proof = ensemble_proof(draft.ensemble, draft.models, draft.options.verify, draft.repository, stand_ins)
        draft.checks += draft.proof.checks
    draft.verification.raise_if_failed()


def _check_served(draft: EnsembleDraft, on_stage: OnStage) -> None:
    name = draft.options.name
    reason = ensemble_not_servable(draft.ensemble, draft.models, draft.config.message)
    if reason != "":
        draft.checks.append(skipped_check(SERVED_CHECK, reason))
        return
    with (
        timed(name, "serve", draft.stage_s, on_stage),
        EmbeddedTriton(draft.repository, model_control_mode="explicit", load_models=[name], stop_timeout_s=0) as server,
    ):
        draft.checks.append(served_ensemble_check(draft.proof, [server.grpc_url, server.http_url]))
