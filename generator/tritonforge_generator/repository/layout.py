"""Reads a model repository: models, versions, manifests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.repository.manifest import FILENAME, Manifest, manifest_from_json

CONFIG_FILENAME: Final = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model of a repository.

    Attributes:
        path: Its folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """Model name."""
        return self.path.name

    @property
    def config_path(self) -> Path:
        """Where ``config.pbtxt`` lies, whether it is there or not."""
        return self.path / CONFIG_FILENAME

    @property
    def versions(self) -> list[int]:
        """Version numbers, ascending. Folders that the server ignores (``01``, ``latest``) are no versions."""
        if not self.path.is_dir():
            return []
        names = [entry.name for entry in self.path.iterdir() if entry.is_dir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit() and name == str(int(name)))

    def manifest(self, version: int) -> Manifest | None:
        """The manifest of a version, or ``None`` where another tool made it.

        Raises:
            RepositoryError: It is there and cannot be read.
        """
        path = self.path / str(version) / FILENAME
        if not path.is_file():
            return None
        return replace(manifest_from_json(path), version=version)  # a folder may be renamed

    def changed_files(self, recorded: Manifest) -> list[str]:
        """Files of a version, and beside ``config.pbtxt``, that are missing or not those that were published.

        Args:
            recorded: The version's manifest.

        Returns:
            Paths relative to the model's folder.
        """
        published = {f"{recorded.version}/{location}": digest for location, digest in recorded.files.items()}
        return [
            location
            for location, digest in {**published, **recorded.model_files}.items()
            if not (self.path / location).is_file() or sha256_of_file(self.path / location) != digest
        ]


@dataclass(frozen=True, slots=True)
class ModelRepository:
    """A model repository on disk.

    Attributes:
        root: Its folder.
    """

    root: Path

    def models(self) -> list[ModelFolder]:
        """Every model folder, by name.

        Raises:
            RepositoryError: The repository is not a folder.
        """
        if not self.root.is_dir():
            raise RepositoryError(
                f"{self.root} is not a model repository",
                expected="a folder",
                got="a file" if self.root.exists() else "nothing there",
                action="Generate one with: tritonforge generate MODEL.onnx",
            )
        return [ModelFolder(entry) for entry in sorted(self.root.iterdir()) if entry.is_dir()]

    def model(self, name: str) -> ModelFolder:
        """A model folder by name, whether it is there or not."""
        return ModelFolder(self.root / name)
