"""The model repositories that one server serves together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.finding import Finding
from tritonforge_generator.lint.host import Host
from tritonforge_generator.lint.model import Model, model_from_directory

_DEEPEST: Final = 30


class Repositories:
    """Every model of some repositories; one is read when it is first asked for, and never anything outside of them.

    Args:
        paths: The repositories, as many ``--model-repository`` options of the server.
        judge: Returns a model's findings, errors first.
        strict: See ``Model``.
        host: See ``Model``.
        config_name: See ``lint_repository``.
        reads_files: See ``Model``.
        texts: Texts to take in place of the configs of some models, by the model's directory.

    Raises:
        OSError: A repository cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        judge: Callable[[Model], Sequence[Finding]],
        *,
        strict: bool = False,
        host: Host | None = None,
        config_name: str = "",
        reads_files: bool = True,
        texts: Mapping[Path, str] | None = None,
    ) -> None:
        self._paths = paths
        self._texts = texts or {}
        self._judge = judge
        self._strict = strict
        self._host = host
        self._config_name = config_name
        self._reads_files = reads_files
        self._roots = roots_of(*paths)
        found: dict[str, list[Path]] = {}
        for path in paths:
            for name in (entry.name for entry in path.iterdir() if entry.is_dir()):
                found.setdefault(name, []).append(path / name)
        self.directories: Mapping[str, Sequence[Path]] = dict(sorted(found.items()))
        self._models: dict[Path, Model] = {}
        self._findings: dict[Path, Sequence[Finding]] = {}
        self._judging: set[Path] = set()

    def model(self, name: str) -> Model | None:
        """Return the model of a name; ``None`` unless it is in exactly one repository."""
        directories = self.directories.get(name, ())
        return self.read(directories[0]) if len(directories) == 1 else None

    def read(self, directory: Path) -> Model:
        """Return the model of one of ``directories``."""
        if directory not in self._models:
            model = model_from_directory(
                directory,
                strict=self._strict,
                roots=self._roots,
                repositories=self,
                host=self._host,
                config_name=self._config_name,
                reads_files=self._reads_files,
            )
            text = self._texts.get(directory)
            self._models[directory] = model if text is None else model.with_text(text)
        return self._models[directory]

    def with_texts(self, texts: Mapping[Path, str]) -> Repositories:
        """Return the same repositories as they would be with other configs.

        Args:
            texts: Texts to take in place of the configs, by the model's directory.
        """
        return Repositories(
            self._paths,
            self._judge,
            strict=self._strict,
            host=self._host,
            config_name=self._config_name,
            reads_files=self._reads_files,
            texts=texts,
        )

    def findings(self, model: Model) -> Sequence[Finding]:
        """Return a model's findings.

        None while they are being found, as for an ensemble that leads to itself, and none beyond any real depth of
        ensembles.
        """
        directory = model.directory
        if directory in self._judging or (directory not in self._findings and len(self._judging) > _DEEPEST):
            return ()
        if directory not in self._findings:
            self._judging.add(directory)
            self._findings[directory] = self._judge(model)
            self._judging.remove(directory)
        return self._findings[directory]

    def failure(self, model: Model) -> Finding | None:
        """Return a model's first error; ``None`` when it loads."""
        return next((found for found in self.findings(model) if found.severity == "error"), None)


def roots_of(*paths: Path) -> tuple[str, ...]:
    """Return the real paths of directories, see ``Model.roots``."""
    return tuple(os.path.realpath(path) for path in paths)
