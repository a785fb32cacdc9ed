"""Reads a model repository: models, versions, manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge_generator.errors import RepositoryError
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
        return manifest_from_json(path) if path.is_file() else None


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
