"""Proves published models again, with the same gates that let them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tritonforge_client.core.proto import model_config_from_text
from tritonforge_generator.config.from_graph import MODEL_FILENAME
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import RepositoryError, TritonforgeError
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.pipeline import SERVED_AT_ONCE
from tritonforge_generator.repository import ModelFolder, ModelRepository
from tritonforge_generator.spec import VerifyOptions
from tritonforge_generator.verify import (
    Check,
    Reference,
    Verification,
    lint_check,
    offline_checks,
    reference_from_path,
    served_check,
)


@dataclass(slots=True)
class _Subject:
    folder: ModelFolder
    checks: list[Check] = field(default_factory=list)
    reference: Reference | None = None
    max_batch_size: int = 0


def verify_repository(
    root: Path,
    *,
    models: Sequence[str] = (),
    source: Path | None = None,
    options: VerifyOptions | None = None,
    serve_check: bool = True,
    on_stage: Callable[[str, str], None] = lambda *_: None,
) -> list[Verification]:
    """Verify models of a repository as they are now.

    Args:
        root: The model repository.
        models: Only these; by default all.
        source: The model file that the (one) model was made from; by default each model is its own reference.
        options: Samples and tolerances.
        serve_check: Serve the models with a real Triton and compare its answers.
        on_stage: Told when a model is taken up.

    Returns:
        One verification a model; a failed gate is a verdict, not an error.

    Raises:
        RepositoryError: The repository or a model named does not exist, or ``source`` is given for several models.
    """
    chosen = options or VerifyOptions()
    subjects = [_Subject(folder) for folder in _folders(ModelRepository(root), models)]
    if source is not None and len(subjects) != 1:
        raise RepositoryError(
            "a source belongs to one model",
            expected="one model",
            got=f"{len(subjects)}",
            action="Name the model with --model.",
        )
    for subject in subjects:
        on_stage(subject.folder.name, "verify")
        try:
            _check(subject, source, chosen)
        except TritonforgeError as error:
            subject.checks.append(Check(name="the model can be checked", passed=False, summary=str(error)))
    if serve_check:
        # A model that failed already could keep the server from starting.
        sound = [subject for subject in subjects if all(check.passed for check in subject.checks)]
        for first in range(0, len(sound), SERVED_AT_ONCE):
            _check_served(root, sound[first : first + SERVED_AT_ONCE], on_stage)
    return [
        Verification(
            model=subject.folder.name,
            samples=subject.reference.samples.origin if subject.reference is not None else "no samples",
            checks=tuple(subject.checks),
        )
        for subject in subjects
    ]


def _folders(repository: ModelRepository, names: Sequence[str]) -> list[ModelFolder]:
    folders = {folder.name: folder for folder in repository.models()}
    missing = sorted(set(names) - set(folders))
    if missing or not folders:
        raise RepositoryError(
            f"{repository.root} lacks models", expected=", ".join(missing) or "at least one", got=", ".join(folders)
        )
    return [folders[name] for name in (names or sorted(folders))]


def _check(subject: _Subject, source: Path | None, options: VerifyOptions) -> None:
    from google.protobuf import text_format

    folder = subject.folder
    if not folder.versions or not folder.config_path.is_file():
        raise RepositoryError(
            f"model '{folder.name}' is incomplete",
            expected="config.pbtxt and a version folder",
            got=str(folder.versions),
        )
    version = folder.versions[-1]
    subject.checks.append(_manifest_check(folder, version))
    try:
        config = model_config_from_text(folder.config_path.read_text(encoding="utf-8"))
    except text_format.ParseError:
        subject.checks.append(lint_check(folder.path))  # says where
        return
    if config.backend != "onnxruntime":
        raise RepositoryError(
            f"model '{folder.name}' cannot be verified here",
            expected="an ONNX model",
            got=f"backend '{config.backend}'",
        )
    path = folder.path / str(version) / (config.default_model_filename or MODEL_FILENAME)
    subject.max_batch_size = config.max_batch_size
    reference = reference_from_path(source or path, options, batched=config.max_batch_size > 0)
    subject.checks += offline_checks(reference, path, folder.path, max_batch_size=config.max_batch_size)
    subject.reference = reference


def _manifest_check(folder: ModelFolder, version: int) -> Check:
    name = "the files are those of the manifest"
    manifest = folder.manifest(version)
    if manifest is None:
        return Check(name=name, passed=False, summary=f"version {version} has no manifest.json; generate it again")
    path = folder.path / str(version)
    changed = [
        location
        for location, sha256 in manifest.files.items()
        if not (path / location).is_file() or sha256_of_file(path / location) != sha256
    ]
    if sha256_of_file(folder.config_path) != manifest.config_sha256:
        changed.append("config.pbtxt")
    summary = f"version {version}: " + (f"changed or missing: {', '.join(changed)}" if changed else "all hashes match")
    return Check(name=name, passed=not changed, summary=summary)


def _check_served(root: Path, subjects: Sequence[_Subject], on_stage: Callable[[str, str], None]) -> None:
    names = [subject.folder.name for subject in subjects]
    with EmbeddedTriton(root, model_control_mode="explicit", load_models=names, stop_timeout_s=0) as server:
        for subject in subjects:
            if subject.reference is None:
                continue
            on_stage(subject.folder.name, "serve")
            subject.checks.append(
                served_check(
                    subject.folder.name,
                    subject.reference,
                    [server.grpc_url, server.http_url],
                    max_batch_size=subject.max_batch_size,
                )
            )
