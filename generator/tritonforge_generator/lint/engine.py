"""Runs the rules over models and puts what they find in the server's order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import tritonforge_generator.lint.rules  # noqa: F401  # registers the rules
from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.lint.finding import Finding
from tritonforge_generator.lint.host import Host
from tritonforge_generator.lint.model import (
    CONFIG_FILENAME,
    NOT_VERSIONS,
    Model,
    model_from_directory,
    subdirectories_of,
)
from tritonforge_generator.lint.order import READING, server_order
from tritonforge_generator.lint.repositories import Repositories, roots_of
from tritonforge_generator.lint.rule import ALL_NEEDS, RULES, Hit, Needs, Rule

_Key = tuple[bool, int, tuple[int, ...], int]


def lint_repository(
    *paths: Path,
    models: Sequence[str] = (),
    strict: bool = False,
    needs: Collection[Needs] = ALL_NEEDS,
    host: Host | None = None,
    config_name: str = "",
) -> list[Finding]:
    """Judge the models of repositories by the server's own rules, without a server.

    Args:
        paths: The model repositories that one server is to serve together: a model's name is unique among all of them,
            and an ensemble may be made of models of another one. What leads out of them is not read.
        models: Names of the models to judge; all by default.
        strict: Judge as a server with ``--disable-auto-complete-config`` does.
        needs: Only the rules that these decide; without ``"file"``, no model file is opened.
        host: Where they are to be served; without it, the rules that need a host are left out.
        config_name: Judge ``configs/<config_name>.pbtxt`` where a model has it, as a server with
            ``--model-config-name`` does; by default, and elsewhere, ``config.pbtxt``.

    Returns:
        Findings by model in alphabetical order; within a model, errors in the server's order, then warnings.

    Raises:
        RepositoryError: A repository is not a directory, or a model that was asked for is in none of them.
        OSError: A repository cannot be read.
    """
    repositories, chosen = open_repositories(
        *paths, models=models, strict=strict, needs=needs, host=host, config_name=config_name
    )
    return [found for directory in chosen for found in repositories.findings(repositories.read(directory))]


def open_repositories(
    *paths: Path,
    models: Sequence[str] = (),
    strict: bool = False,
    needs: Collection[Needs] = ALL_NEEDS,
    host: Host | None = None,
    config_name: str = "",
) -> tuple[Repositories, list[Path]]:
    """Open repositories to be judged; arguments and errors are those of ``lint_repository``.

    Returns:
        The repositories, and the directories of the models that were asked for, in alphabetical order of their names.
    """
    paths = tuple(dict.fromkeys(Path(path) for path in paths))
    for path in paths:
        if not path.is_dir() or _is_model(path):
            raise RepositoryError(
                f"{path} is no model repository",
                expected="a directory with one sub-directory a model",
                got="a model" if path.is_dir() else "a file" if path.exists() else "nothing there",
                action="Give the folder that holds the models, not a model or its config.",
            )
    repositories = Repositories(
        paths,
        partial(findings_of, needs=needs),
        strict=strict,
        host=host,
        config_name=config_name,
        reads_files="file" in needs,
    )
    names = repositories.directories
    missing = [name for name in models if name not in names]
    if missing:
        raise RepositoryError(
            f"{', '.join(str(path) for path in paths)} has no model {', '.join(repr(name) for name in missing)}",
            expected=", ".join(names) or "at least one model",
            action="Check the name; it is the name of the model's directory.",
        )
    return repositories, [directory for name in sorted(set(models) or names) for directory in names[name]]


def _is_model(path: Path) -> bool:
    """Whether a directory is a model: it has a config and versions, which no repository has."""
    others = set(subdirectories_of(path)) - NOT_VERSIONS
    return (path / CONFIG_FILENAME).is_file() and all(name.isdecimal() for name in others)


def lint_model(directory: Path, *, strict: bool = False) -> list[Finding]:
    """Judge one model directory by itself; what other models of the repository decide is left out.

    Args:
        directory: The model's directory.
        strict: See ``lint_repository``.

    Returns:
        Errors in the server's order, then warnings.

    Raises:
        RepositoryError: It is not a directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise RepositoryError(
            f"{directory} is no model directory",
            expected="a directory with version directories and, as a rule, a config.pbtxt",
            got="a file" if directory.exists() else "nothing there",
            action="Give the model's folder.",
        )
    # A relative path like "." has no name of its own.
    directory = directory if directory.name not in {"", ".."} else directory.resolve()
    return findings_of(model_from_directory(directory, strict=strict, roots=roots_of(directory.parent)))


def findings_of(model: Model, needs: Collection[Needs] = ALL_NEEDS) -> list[Finding]:
    """Judge a model that has been read.

    Args:
        model: The model.
        needs: Only the rules that these decide.

    Returns:
        Errors in the server's order, then warnings.
    """
    order = _ranks(model.strict, model.completes_onnx, model.completes_plan)
    keyed: dict[tuple[str, str, str], tuple[_Key, Finding]] = {}
    for rule in applicable(model, needs):
        for hit in rule.check(model):
            found = _finding(model, rule, hit)
            block, position = order[rule.id]
            key: _Key = (found.severity == "warning", block, hit.at, position)
            # Several versions may break the same rule in the same way: once is enough.
            keyed.setdefault((found.rule, found.text, found.field), (key, found))
    return [found for _, found in sorted(keyed.values(), key=lambda entry: entry[0])]


def applicable(model: Model, needs: Collection[Needs] = ALL_NEEDS) -> Iterator[Rule]:
    """Yield the rules that can be decided of a model.

    Args:
        model: The model.
        needs: Only the rules that these decide.
    """
    unreadable = model.parse_failure is not None or model.open_failure != ""
    for rule in () if model.is_outside else RULES.values():
        if rule.needs not in needs or (rule.needs == "host" and model.host is None):
            continue
        if model.host is not None and not model.host.has(rule.since):
            continue
        if unreadable and rule.id not in READING:
            continue
        if rule.needs == "repo" and model.repositories is None:
            continue
        yield rule


@lru_cache(maxsize=8)  # the arguments are hashed for it
def _ranks(strict: bool, completes_onnx: bool, completes_plan: bool) -> Mapping[str, tuple[int, int]]:
    blocks = server_order(strict=strict, completes_onnx=completes_onnx, completes_plan=completes_plan)
    return {rule_id: (block, place) for block, ids in enumerate(blocks) for place, rule_id in enumerate(ids)}


def _finding(model: Model, rule: Rule, hit: Hit) -> Finding:
    values = {"model": model.config.name, **hit.values}
    line, column = hit.line, hit.column
    if rule.id == "P1" and model.parse_failure is not None:
        line, column = model.parse_failure.line, model.parse_failure.column
    elif hit.file is None and model.text is not None:
        place = model.place(hit.field)
        line, column = (1, 1) if place is None else (place.line, place.column)
    return Finding(
        repository=str(model.directory.parent),
        model=model.name,
        rule=rule.id,
        severity=hit.severity or rule.severity,
        text=rule.text.format_map(values),
        file=str(hit.file or model.path),
        line=line,
        column=column,
        field=hit.field,
        fix=rule.fix.format_map(values),
    )
