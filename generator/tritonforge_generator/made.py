"""What a manifest records of a version: the facts that are the same everywhere, and how it was made here."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from hashlib import sha256
from importlib import metadata
from typing import Any, Final

from tritonforge_generator.config import ModelConfig
from tritonforge_generator.ensemble import ComposingModel, Ensemble
from tritonforge_generator.graph import Graph
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.plan import Plan
from tritonforge_generator.precision import TypedGraph
from tritonforge_generator.repository import Manifest, ModelFolder, StagedModel
from tritonforge_generator.repository.staging import file_hashes_of
from tritonforge_generator.spec import EnsembleOptions, ModelOptions
from tritonforge_generator.verify import Verification

PACKAGES: Final = ("tritonforge", "numpy", "onnx", "onnxruntime", "nvidia-pytriton", "tensorrt", "cuda-python")
"""Packages whose versions shape the result."""


def manifest_of(
    staged: StagedModel,
    options: ModelOptions,
    graph: Graph,
    config: ModelConfig,
    verification: Verification,
    *,
    typed: TypedGraph | None = None,
    plan: Plan | None = None,
) -> Manifest:
    """Describe a staged model.

    Args:
        staged: The folder, complete but for its manifest.
        options: What the user declared.
        graph: What the graph takes and gives.
        config: Its configuration, with the files that it names.
        verification: The gates.
        typed: Its number types, where some were asked for.
        plan: Its plan, where there is one.
    """
    private: dict[str, Any] = {
        **dict.fromkeys(("source", "labels", "cc_model_files", "files"), True),
        "verify": {"samples", "expected"},
        "sequence_batching": {"state": {"__all__": {"initial_state": {"data_file"}}}},
        "precision": {"calibration": {"samples"}},
        "tensorrt": {"timing_cache", "plugins"},
    }
    if options.platform != "tensorrt":
        private |= {"tensorrt": True, "instance_group": {"__all__": {"profile"}}}
    if not isinstance(options.model_warmup, bool):
        private["model_warmup"] = True  # its files are elsewhere on other machines; config.pbtxt says the rest
    declared = options.model_dump(mode="json", by_alias=True, exclude=private, exclude_none=True)
    return Manifest(
        model=options.name,
        version=staged.version,
        source=graph.source.path.name,
        files=staged.file_hashes(),
        config_sha256=sha256_of_file(staged.folder.config_path),
        graph=graph.to_json(),
        options=declared,
        model_files={location: sha256(data).hexdigest() for location, data in config.files.items()},
        made={
            **_made_here(),
            "verification": verification.to_json(),
            **({"source_sha256": graph.source.file.sha256} if typed is not None or plan is not None else {}),
            **({"typed_graph": typed.to_json()} if typed is not None else {}),
            **({"plan": plan.to_json()} if plan is not None else {}),
        },
    )


def ensemble_manifest_of(
    staged: StagedModel,
    options: EnsembleOptions,
    ensemble: Ensemble,
    models: Mapping[str, ComposingModel],
    verification: Verification,
) -> Manifest:
    """Describe a staged ensemble. It has no file of its own, so the files of its steps are recorded.

    Args:
        staged: The folder, complete but for its manifest.
        options: What the user declared.
        ensemble: What the steps make of it.
        models: All models that it is made of, by name.
        verification: The gates.
    """
    private = {"verify": {"samples", "expected"}}
    return Manifest(
        model=options.name,
        version=staged.version,
        source=f"ensemble of {', '.join(dict.fromkeys(step.model.name for step in ensemble.steps))}",
        files=staged.file_hashes(),
        config_sha256=sha256_of_file(staged.folder.config_path),
        graph=ensemble.to_json(),
        options=options.model_dump(mode="json", exclude=private, exclude_none=True),
        composing=composing_versions(ensemble, models),
        made={**_made_here(), "verification": verification.to_json()},
    )


def composing_versions(
    ensemble: Ensemble, models: Mapping[str, ComposingModel]
) -> dict[str, dict[str, dict[str, str]]]:
    """The files of every version that an ensemble runs.

    Args:
        ensemble: The ensemble.
        models: All models that it is made of, by name.

    Returns:
        By model and version: SHA-256 by path relative to the version folder. Inner ensembles have no files.
    """
    return {
        name: {str(version): _files_of(models[name], version) for version in versions}
        for name, versions in versions_run(ensemble, models).items()
    }


def versions_run(ensemble: Ensemble, models: Mapping[str, ComposingModel]) -> dict[str, list[int]]:
    """The versions of every model that an ensemble runs, by model.

    Args:
        ensemble: The ensemble.
        models: All models that it is made of, by name.
    """
    versions: dict[str, set[int]] = {name: set() for name in sorted(models)}
    for step in ensemble.steps:
        versions[step.model.name].add(step.model.version_of(step.model_version))
    for model in models.values():
        for inner in model.config.ensemble_scheduling.step:
            versions[inner.model_name].add(models[inner.model_name].version_of(inner.model_version))
    return {name: sorted(numbers) for name, numbers in versions.items()}


def _files_of(model: ComposingModel, version: int) -> dict[str, str]:
    recorded = ModelFolder(model.folder).manifest(version)
    return dict(recorded.files) if recorded is not None else file_hashes_of(model.folder / str(version))


def _made_here() -> dict[str, Any]:
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that shape the result; missing ones are left out."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
