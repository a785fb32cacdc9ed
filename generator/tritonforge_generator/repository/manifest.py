"""``manifest.json`` beside the model file: where a version came from and what was proven of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge_generator.errors import RepositoryError

FILENAME: Final = "manifest.json"
MANIFEST_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is recorded of a published version.

    Everything but ``made`` depends on the model, the options and the tool alone, so it is the same wherever the same
    version is generated.

    Attributes:
        model: Model name.
        version: Version number.
        source: Name of the model file it was made from.
        files: SHA-256 of every file of the version folder, by path relative to it.
        config_sha256: SHA-256 of ``config.pbtxt``.
        graph: What the graph takes and gives.
        options: The spec's options of this model.
        model_files: SHA-256 of files that the configuration names, by path relative to the model's folder.
        composing: Of an ensemble: by composing model and version, SHA-256 of the files of that version.
        made: When, where, with which tool versions, and the verification with its figures.
    """

    model: str
    version: int
    source: str
    files: Mapping[str, str]
    config_sha256: str
    graph: Mapping[str, Any]
    options: Mapping[str, Any]
    model_files: Mapping[str, str] = field(default_factory=dict)
    composing: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    manifest_version: int = MANIFEST_VERSION

    def to_json(self) -> str:
        """The file's text: sorted keys, two spaces, a final newline."""
        data = asdict(self)
        for name in ("model_files", "composing"):
            if not data[name]:
                del data[name]
        return json.dumps(data, indent=2, sort_keys=True) + "\n"

    def same_content(self, other: Manifest) -> bool:
        """Whether another version holds the same files and configuration, and runs the same files of other models."""
        return (self.files, self.model_files, self.composing, self.config_sha256) == (
            other.files,
            other.model_files,
            other.composing,
            other.config_sha256,
        )


def manifest_from_json(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        RepositoryError: The file is missing, damaged or of a newer form.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        written_as = data.get("manifest_version") if isinstance(data, dict) else None
        if written_as not in {None, MANIFEST_VERSION}:
            raise RepositoryError(
                f"{path} was written in another form",
                expected=f"manifest_version {MANIFEST_VERSION}",
                got=str(written_as),
                action="Use the version of tritonforge that wrote it, or a newer one.",
            )
        return Manifest(**data)
    except (OSError, ValueError, TypeError) as error:
        raise RepositoryError(
            f"{path} cannot be read", expected="a manifest as this tool writes it", got=str(error)
        ) from error
