"""Proves published models again, with the same gates that let them in."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge_client.core.proto import model_config_from_text
from tritonforge_generator.config.from_graph import MODEL_FILENAME, PLAN_FILENAME
from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import PlanError, RepositoryError, TensorRTMissingError, TritonforgeError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.graph.preprocess import preprocessed_model
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.pipeline import SERVED_AT_ONCE
from tritonforge_generator.plan.availability import require_tensorrt
from tritonforge_generator.repository import Manifest, ModelFolder, ModelRepository
from tritonforge_generator.reverify_ensemble import proof_of_published
from tritonforge_generator.source import source_from_reference
from tritonforge_generator.spec import ModelOptions
from tritonforge_generator.verify import (
    SERVED_CHECK,
    Check,
    EnsembleProof,
    Reference,
    Verification,
    batch_check,
    gpu_check,
    header_check,
    installed_check,
    lint_check,
    not_servable,
    own_plan_checks,
    own_reference_check,
    plan_checks,
    plan_datatypes,
    plan_from_record,
    precision_check,
    preprocessing_check,
    reference_check,
    reference_from_path,
    served_check,
    served_ensemble_check,
    server_check,
    skipped_check,
)

_FILENAMES: Final = {"onnxruntime": MODEL_FILENAME, "tensorrt": PLAN_FILENAME}
_BACKENDS: Final = {"onnxruntime_onnx": "onnxruntime", "tensorrt_plan": "tensorrt"}
_JUDGED_BY: Final = ("platform", "precision", "preprocess", "tensorrt", "instance_group", "sequence_batching", "verify")
"""Recorded options that decide how a model is judged; what the others became is in ``config.pbtxt``."""

_PLAN_RUNS: Final = "the plan runs"


@dataclass(slots=True)
class _Subject:
    """A published model and what came of it so far.

    Attributes:
        folder: Its folder.
        work: A folder for files that its gates need.
        checks: Gates tried so far.
        version: The version that is verified, the highest.
        manifest: What is recorded of it; ``None`` where another tool made it.
        options: The recorded options, with the samples asked for now.
        config: Its ``inference.ModelConfig``.
        max_batch_size: As configured.
        reference: What is served must answer like this.
        proof: Of an ensemble, what is known before a server was asked.
        not_servable: Why the embedded server cannot try it; empty when it can.
    """

    folder: ModelFolder
    work: Path
    checks: list[Check] = field(default_factory=list)
    version: int = 0
    manifest: Manifest | None = None
    options: ModelOptions = field(init=False)
    config: Any = None
    max_batch_size: int = 0
    reference: Reference | None = None
    proof: EnsembleProof | None = None
    not_servable: str = ""

    @property
    def batched(self) -> bool:
        """Whether the first axis of the graph is a batch of requests' rows."""
        gathers = self.config.batch_input or any(one.allow_ragged_batch for one in self.config.input)
        return self.max_batch_size > 0 and not gathers

    @property
    def sound(self) -> bool:
        """Whether every gate tried so far passed; an ensemble whose steps cannot be chained is served all the same."""
        may_skip = self.proof is not None
        return all(check.passed or (may_skip and check.skipped) for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the user asked for: the arguments of ``verify_repository``, with the source as an ONNX file."""

    source: Path | None
    samples: Path | None
    seed: int | None
    device_id: int | None
    server: str | None


def verify_repository(
    root: Path,
    *,
    models: Sequence[str] = (),
    source: Path | None = None,
    samples: Path | None = None,
    seed: int | None = None,
    device_id: int | None = None,
    server: str | None = None,
    serve_check: bool = True,
    on_stage: Callable[[str, str], None] = lambda *_: None,
) -> list[Verification]:
    """Verify models of a repository as they are now, by the options that their manifests record.

    Args:
        root: The model repository.
        models: Only these; by default all.
        source: What the (one) model was made from: an ONNX file, or ``torch:package.module:factory``. The recorded
            preprocessing is written into it, and answers are judged by the limits of the recorded precision. By
            default each model is its own reference.
        samples: An .npz file with inputs as clients send them; by default they are drawn.
        seed: Seed of drawn samples; by default the recorded one.
        device_id: The GPU that runs plans; by default the number of the one that built them.
        server: The Triton release that must load the plans, for example ``"26.08"``.
        serve_check: Serve the models with a real Triton and compare its answers.
        on_stage: Told when a model is taken up.

    Returns:
        One verification a model; a failed gate is a verdict, not an error. Where TensorRT or a GPU is missing, the
        gates that run a plan are skipped, and its verification has not passed.

    Raises:
        RepositoryError: The repository or a model named does not exist, or ``source`` is given for several models.
        SourceError: The source cannot be read or exported.
    """
    folders = _folders(ModelRepository(root), models)
    if source is not None and len(folders) != 1:
        raise RepositoryError(
            "a source belongs to one model",
            expected="one model",
            got=f"{len(folders)}",
            action="Name the model with --model.",
        )
    with tempfile.TemporaryDirectory(prefix="tritonforge-verify-") as work:
        network = source_from_reference(source, Path(work)).path if source is not None else None
        asked = _Asked(source=network, samples=samples, seed=seed, device_id=device_id, server=server)
        subjects = [_Subject(folder, Path(work)) for folder in folders]
        for subject in subjects:
            on_stage(subject.folder.name, "verify")
            try:
                _check(subject, asked)
            except TritonforgeError as error:
                subject.checks.append(Check(name="the model can be checked", passed=False, summary=str(error)))
    if serve_check:
        # A model that failed already could keep the server from starting.
        sound = [subject for subject in subjects if subject.sound]
        for first in range(0, len(sound), SERVED_AT_ONCE):
            _check_served(root, sound[first : first + SERVED_AT_ONCE], on_stage)
    return [_verification(subject) for subject in subjects]


def _folders(repository: ModelRepository, names: Sequence[str]) -> list[ModelFolder]:
    folders = {folder.name: folder for folder in repository.models()}
    missing = sorted(set(names) - set(folders))
    if missing or not folders:
        raise RepositoryError(
            f"{repository.root} lacks models", expected=", ".join(missing) or "at least one", got=", ".join(folders)
        )
    return [folders[name] for name in (names or sorted(folders))]


def _verification(subject: _Subject) -> Verification:
    samples = subject.reference.samples.origin if subject.reference is not None else "no samples"
    return Verification(model=subject.folder.name, samples=samples, checks=tuple(subject.checks))


def _check(subject: _Subject, asked: _Asked) -> None:
    from google.protobuf import text_format

    folder = subject.folder
    if not folder.versions or not folder.config_path.is_file():
        raise RepositoryError(
            f"model '{folder.name}' is incomplete",
            expected="config.pbtxt and a version folder",
            got=str(folder.versions),
        )
    subject.version = folder.versions[-1]
    subject.manifest = folder.manifest(subject.version)
    subject.checks.append(_manifest_check(subject))
    try:
        config = model_config_from_text(folder.config_path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, text_format.ParseError):
        subject.checks.append(lint_check(folder.path))  # says where
        return
    subject.config, subject.max_batch_size = config, config.max_batch_size
    subject.options = _recorded_options(subject, asked)
    if config.platform == "ensemble":
        _check_ensemble(subject, asked)
        return
    if config.backend == "python":
        reason = "a Python model has no source of answers; generate it again with verify.samples and verify.expected"
        subject.checks += [lint_check(folder.path), skipped_check(SERVED_CHECK, reason)]
        return
    backend = config.backend or _BACKENDS.get(config.platform, config.platform)
    if backend not in _FILENAMES:
        raise RepositoryError(
            f"model '{folder.name}' cannot be verified",
            expected=f"the backend {', '.join(_FILENAMES)} or python",
            got=f"'{backend}'",
        )
    path = folder.path / str(subject.version) / (config.default_model_filename or _FILENAMES[backend])
    if backend == "onnxruntime":
        _check_onnx(subject, path, asked)
    else:
        _check_plan(subject, path, asked)


def _manifest_check(subject: _Subject) -> Check:
    name = "the files are those of the manifest"
    folder, version, manifest = subject.folder, subject.version, subject.manifest
    if manifest is None:
        return Check(name=name, passed=False, summary=f"version {version} has no manifest.json; generate it again")
    changed = [location.removeprefix(f"{version}/") for location in folder.changed_files(manifest)]
    if sha256_of_file(folder.config_path) != manifest.config_sha256:
        changed.append("config.pbtxt")
    summary = f"version {version}: " + (f"changed or missing: {', '.join(changed)}" if changed else "all hashes match")
    return Check(name=name, passed=not changed, summary=summary)


def _recorded_options(subject: _Subject, asked: _Asked) -> ModelOptions:
    """The options that a model was generated with, as far as they decide how it is judged.

    Raises:
        SpecError: This version does not know what is recorded.
    """
    options = subject.manifest.options if subject.manifest is not None else {}
    data: dict[str, Any] = {name: options[name] for name in _JUDGED_BY if name in options}
    if isinstance(data.get("precision"), dict):  # how it was typed is done with
        data["precision"] = {key: data["precision"][key] for key in data["precision"] if key != "calibration"}
    given = {"samples": str(asked.samples) if asked.samples is not None else None, "seed": asked.seed}
    data["verify"] = {**data.get("verify", {}), **{key: value for key, value in given.items() if value is not None}}
    data |= {"name": subject.folder.name, "source": str(asked.source or subject.folder.path)}
    return declared_from_mapping(data, ModelOptions, origin=f"the manifest of '{subject.folder.name}'")


# ---- the gates ----


def _source_reference(subject: _Subject, source: Path) -> tuple[Path, Reference]:
    """The source with the recorded preprocessing, and its answers."""
    options, network = subject.options, source
    if options.preprocess is not None:
        fused = subject.work / "preprocess"
        fused.mkdir()
        network = preprocessed_model(source, options.preprocess, fused)
    sequence = options.sequence_batching
    reference = reference_from_path(network, options.verify, batched=subject.batched, sequence=sequence)
    if options.preprocess is not None:
        subject.checks.append(preprocessing_check(source, options.preprocess, reference))
    return network, _in_precision(reference, options)


def _in_precision(reference: Reference, options: ModelOptions) -> Reference:
    precision = options.plan_precision if options.platform == "tensorrt" else options.precision_options
    return reference.for_precision(precision) if precision is not None else reference


def _check_onnx(subject: _Subject, path: Path, asked: _Asked) -> None:
    options = subject.options
    precision = options.precision_options
    if asked.source is not None:
        _, reference = _source_reference(subject, asked.source)
        session = OnnxSession(path)
        if precision is not None:
            name = f"{precision.type} stays near FP32 on the CPU"
            subject.checks.append(precision_check(reference, session, precision, name))
        subject.checks.append(reference_check(reference, session))
    else:
        sequence = options.sequence_batching
        own = reference_from_path(path, options.verify, batched=subject.batched, sequence=sequence)
        reference = _in_precision(own, options)
        session = OnnxSession(path)
        subject.checks.append(own_reference_check(reference, session))
    if subject.batched:
        subject.checks.append(batch_check(reference, session, max_batch_size=subject.max_batch_size))
    subject.checks.append(lint_check(subject.folder.path))
    subject.reference = reference


def _check_ensemble(subject: _Subject, asked: _Asked) -> None:
    name = subject.folder.name
    if asked.source is not None:
        raise RepositoryError(
            f"ensemble '{name}' has no source of its own",
            expected="its steps to be compared with theirs",
            got="a source",
            action="Verify the models of its steps with --model NAME --source FILE.",
        )
    subject.proof, subject.not_servable = proof_of_published(
        subject.folder, subject.config, subject.options.verify, subject.manifest, subject.checks
    )
    subject.reference = subject.proof.reference


def _check_plan(subject: _Subject, path: Path, asked: _Asked) -> None:
    recorded = _record_of_plan(subject, path)
    subject.checks += [lint_check(subject.folder.path), header_check(path, recorded)]
    tensorrt = subject.options.tensorrt
    if asked.server is not None and subject.checks[-1].passed:
        subject.checks.append(server_check(path, asked.server, version_compatible=tensorrt.version_compatible))
    if not subject.sound:
        reason = "only a plan that passed the gates above is loaded: one that is damaged can end the process"
        subject.checks.append(skipped_check(_PLAN_RUNS, reason))
        return
    try:
        gpu = require_tensorrt(tensorrt.device_id if asked.device_id is None else asked.device_id)
    except TensorRTMissingError as error:
        reason = f"{error.what}, so neither its answers and batches nor its memory and the server were checked"
        subject.checks.append(skipped_check(_PLAN_RUNS, reason))
        return
    subject.checks += [installed_check(path, tensorrt), gpu_check(recorded.get("gpu", {}), gpu, tensorrt)]
    if subject.sound:
        _check_loaded(subject, path, recorded, gpu.device_id, asked.source)


def _record_of_plan(subject: _Subject, path: Path) -> Mapping[str, Any]:
    """What the manifest says of how a plan was made.

    Raises:
        RepositoryError: It says nothing, or speaks of another plan than its list of files.
    """
    manifest = subject.manifest
    recorded: Mapping[str, Any] | None = manifest.made.get("plan") if manifest is not None else None
    if manifest is None or recorded is None:
        raise RepositoryError(
            f"nothing is recorded of the plan of '{subject.folder.name}'",
            expected="a manifest.json that says what built it",
            got="none" if manifest is None else "one without a plan",
            action="Generate the model again.",
        )
    if recorded.get("sha256") != manifest.files.get(path.name):
        raise RepositoryError(
            f"what is recorded of a plan is not that of {path}",
            expected=f"sha256 {manifest.files.get(path.name)}, as in the manifest's files",
            got=str(recorded.get("sha256")),
            action="Generate the model again.",
        )
    return recorded


def _check_loaded(
    subject: _Subject, path: Path, recorded: Mapping[str, Any], device_id: int, source: Path | None
) -> None:
    """The gates of a plan that run it."""
    try:
        plan = plan_from_record(path, recorded, device_id)
    except PlanError as error:
        subject.checks.append(Check(name=_PLAN_RUNS, passed=False, summary=str(error)))
        return
    options, max_batch_size = subject.options, subject.max_batch_size
    if source is None:
        checks, subject.reference = own_plan_checks(plan, options, max_batch_size=max_batch_size)
    else:
        network, reference = _source_reference(subject, source)
        subject.reference = reference.in_types(plan_datatypes(plan))
        checks = plan_checks(plan, network, subject.reference, options, max_batch_size=max_batch_size, server=None)
    subject.checks += checks


def _check_served(root: Path, subjects: Sequence[_Subject], on_stage: Callable[[str, str], None]) -> None:
    reasons = [subject.not_servable or not_servable(subject.config) for subject in subjects]
    for subject, reason in zip(subjects, reasons, strict=True):
        if reason != "":
            subject.checks.append(skipped_check(SERVED_CHECK, reason))
    subjects = [subject for subject, reason in zip(subjects, reasons, strict=True) if reason == ""]
    if not subjects:
        return
    names = [subject.folder.name for subject in subjects]
    with EmbeddedTriton(root, model_control_mode="explicit", load_models=names, stop_timeout_s=0) as server:
        for subject in subjects:
            on_stage(subject.folder.name, "serve")
            targets = [server.grpc_url, server.http_url]
            if subject.proof is not None:
                subject.checks.append(served_ensemble_check(subject.proof, targets))
            elif subject.reference is not None:
                subject.checks.append(
                    served_check(
                        subject.folder.name,
                        subject.reference,
                        targets,
                        max_batch_size=subject.max_batch_size,
                        config=subject.config,
                    )
                )
