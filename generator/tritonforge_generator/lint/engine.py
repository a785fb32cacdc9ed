"""Runs the rules over models and puts what they find in the server's order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import tritonforge_generator.lint.rules  # noqa: F401  # registers the rules
from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.lint.finding import Finding
from tritonforge_generator.lint.model import Model, model_from_directory, subdirectories_of
from tritonforge_generator.lint.order import server_order
from tritonforge_generator.lint.rule import RULES, Hit, Rule

_Key = tuple[bool, int, tuple[int, ...], int]


def lint_repository(path: Path, *, models: Sequence[str] = (), strict: bool = False) -> list[Finding]:
    """Judge the models of a repository by the server's own rules, without a server.

    Args:
        path: The model repository.
        models: Names of the models to judge; all by default.
        strict: Judge as a server with ``--disable-auto-complete-config`` does.

    Returns:
        Findings by model in alphabetical order; within a model, errors in the server's order, then warnings.

    Raises:
        RepositoryError: The repository is not a directory, or a model that was asked for is not in it.
    """
    path = Path(path)
    if not path.is_dir():
        raise RepositoryError(
            f"{path} is no model repository",
            expected="a directory with one sub-directory a model",
            got="a file" if path.exists() else "nothing there",
            action="Give the folder that holds the models, not a model or its config.",
        )
    names = subdirectories_of(path)
    missing = [name for name in models if name not in names]
    if missing:
        raise RepositoryError(
            f"{path} has no model {', '.join(repr(name) for name in missing)}",
            expected=", ".join(names) or "at least one model",
            action="Check the name; it is the name of the model's directory.",
        )
    siblings = {name: path / name for name in names}
    findings: list[Finding] = []
    for name in sorted(set(models) or names):
        findings += _findings(model_from_directory(path / name, strict=strict, siblings=siblings))
    return findings


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
    return _findings(model_from_directory(directory, strict=strict))


def _findings(model: Model) -> list[Finding]:
    order = _ranks(model.strict, model.completes_onnx)
    keyed: dict[tuple[str, str, str], tuple[_Key, Finding]] = {}
    for rule in _applicable(model):
        for hit in rule.check(model):
            found = _finding(model, rule, hit)
            block, position = order[rule.id]
            key: _Key = (found.severity == "warning", block, hit.at, position)
            # Several versions may break the same rule in the same way: once is enough.
            keyed.setdefault((found.rule, found.text, found.field), (key, found))
    return [found for _, found in sorted(keyed.values(), key=lambda entry: entry[0])]


def _applicable(model: Model) -> Iterator[Rule]:
    unreadable = model.parse_failure is not None or model.open_failure != ""
    for rule in RULES.values():
        if unreadable and rule.id[0] != "P":
            continue
        if rule.needs == "repo" and model.siblings is None:
            continue
        yield rule


@lru_cache(maxsize=4)
def _ranks(strict: bool, completes_onnx: bool) -> Mapping[str, tuple[int, int]]:  # hashed for the cache
    blocks = server_order(strict=strict, completes_onnx=completes_onnx)
    return {rule_id: (block, place) for block, ids in enumerate(blocks) for place, rule_id in enumerate(ids)}


def _finding(model: Model, rule: Rule, hit: Hit) -> Finding:
    values = {"model": model.config.name, **hit.values}
    line, column = None, None
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
