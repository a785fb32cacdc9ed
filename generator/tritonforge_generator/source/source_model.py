"""The artifact of the source stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file that belongs to a model.

    Attributes:
        path: Where it lies.
        location: Its place relative to the model file's folder, as the model names it (ONNX ``location``).
        size_bytes: Its size.
        sha256: Hex digest of its bytes.
    """

    path: Path
    location: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceModel:
    """A trained model as it lies on disk; it is only ever read.

    Attributes:
        format: How it is stored.
        file: The model file itself.
        external_data: The files that hold its weights outside the model file, ordered by location.
    """

    format: Literal["onnx", "python"]
    file: SourceFile
    external_data: tuple[SourceFile, ...]

    @property
    def path(self) -> Path:
        """Path of the model file."""
        return self.file.path

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The model file and its external data."""
        return (self.file, *self.external_data)
