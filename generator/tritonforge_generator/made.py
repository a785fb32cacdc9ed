"""What a manifest records of a version: the facts that are the same everywhere, and how it was made here."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib import metadata
from typing import Any, Final

from tritonforge_generator.graph import Graph
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.plan import Plan
from tritonforge_generator.precision import TypedGraph
from tritonforge_generator.repository import Manifest, StagedModel
from tritonforge_generator.spec import ModelOptions
from tritonforge_generator.verify import Verification

PACKAGES: Final = ("tritonforge", "numpy", "onnx", "onnxruntime", "nvidia-pytriton", "tensorrt", "cuda-python")
"""Packages whose versions shape the result."""


def manifest_of(
    staged: StagedModel,
    options: ModelOptions,
    graph: Graph,
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
        verification: The gates.
        typed: Its number types, where some were asked for.
        plan: Its plan, where there is one.
    """
    private: dict[str, Any] = {
        "source": True,
        "verify": {"samples"},
        "precision": {"calibration": {"samples"}},
        "tensorrt": {"timing_cache", "plugins"},
    }
    if options.platform != "tensorrt":
        private |= {"tensorrt": True, "instance_group": {"__all__": {"profile"}}}
    declared = options.model_dump(mode="json", exclude=private, exclude_none=True)
    return Manifest(
        model=options.name,
        version=staged.version,
        source=graph.source.path.name,
        files=staged.file_hashes(),
        config_sha256=sha256_of_file(staged.folder.config_path),
        graph=graph.to_json(),
        options=declared,
        made={
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "packages": package_versions(),
            "verification": verification.to_json(),
            **({"source_sha256": graph.source.file.sha256} if typed is not None or plan is not None else {}),
            **({"typed_graph": typed.to_json()} if typed is not None else {}),
            **({"plan": plan.to_json()} if plan is not None else {}),
        },
    )


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that shape the result; missing ones are left out."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
