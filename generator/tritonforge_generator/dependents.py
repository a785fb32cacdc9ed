"""Ensembles of a repository that are not in a spec but are made of models that it publishes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tritonforge_generator.errors import ConfigError
from tritonforge_generator.lint import Finding, lint_repository
from tritonforge_generator.pipeline_ensemble import Member, assemble, names_below, step_names
from tritonforge_generator.repository import ModelRepository

_BENEATH: Final = ".beneath"
"""Where an ensemble and all that it is made of are put together, beside a staged folder; no model has such a name."""


def refuse_broken_ensembles(repository: Path, members: Mapping[str, Member]) -> None:
    """Refuse to publish models beneath an ensemble that would load no longer.

    Such an ensemble is not proven again, it is only judged by the server's rules with the models as they will be. One
    that did not load before is left alone.

    Args:
        repository: Where models are published.
        members: The spec's models and ensembles by name.

    Raises:
        ConfigError: An ensemble would not load.
    """
    new = {name: member for name, member in members.items() if member.new}
    if not new or not repository.is_dir():
        return
    work = next(iter(new.values())).staged.folder.path.parent / _BENEATH
    for folder in ModelRepository(repository).models():
        if folder.name in members or not step_names(folder.config_path):
            continue
        below = sorted(new.keys() & set(names_below(repository, [folder.name], members)))
        if not below or _first_error(repository, folder.name) is not None:
            continue
        target = work / folder.name
        assemble(target, repository, [folder.name], members)
        error = _first_error(target, folder.name)
        if error is not None:
            raise ConfigError(
                f"ensemble '{folder.name}' of the repository would load no longer with the new {', '.join(below)}",
                expected="models that fit the ensembles that are made of them",
                got=f"{error.rule}: {error.text}",
                action="Declare the ensemble in this spec, so that both change together, or remove it first.",
            )


def _first_error(repository: Path, name: str) -> Finding | None:
    return next((one for one in lint_repository(repository, models=[name]) if one.severity == "error"), None)
