"""What a manifest records of a version: the facts that are the same everywhere, and how it was made here."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib import metadata
from typing import Final

from tritonforge_generator.graph import Graph
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.repository import Manifest, StagedModel
from tritonforge_generator.spec import ModelOptions
from tritonforge_generator.verify import Verification

PACKAGES: Final = ("tritonforge", "numpy", "onnx", "onnxruntime", "nvidia-pytriton")
"""Packages whose versions shape the result."""


def manifest_of(staged: StagedModel, options: ModelOptions, graph: Graph, verification: Verification) -> Manifest:
    """Describe a staged model.

    Args:
        staged: The folder, complete but for its manifest.
        options: What the user declared.
        graph: What the graph takes and gives.
        verification: The gates.
    """
    declared = options.model_dump(mode="json", exclude={"source": True, "verify": {"samples"}}, exclude_none=True)
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
