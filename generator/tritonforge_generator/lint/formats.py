"""Findings for other tools: lines for editors and grep, SARIF for code review."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from tritonforge_generator.lint.edits import Edit
from tritonforge_generator.lint.finding import Finding
from tritonforge_generator.lint.positions import line_and_column
from tritonforge_generator.lint.rule import RULES

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
# What relative addresses start from; GitHub and others put the root of the repository in its place.
_ROOT: Final = "%SRCROOT%"
Json: TypeAlias = dict[str, Any]


def line_of(found: Finding) -> str:
    """Return ``file:line:column: RULE text`` on one line, as compilers print it; no position beside a config."""
    position = f":{found.line}:{found.column}" if found.line is not None else ""
    return " ".join(f"{found.file}{position}: {found.rule} {found.text}".split("\n"))


def sarif(
    findings: Sequence[Finding],
    *,
    version: str,
    root: Path,
    mends: Mapping[Finding, tuple[str, Sequence[Edit]]] | None = None,
) -> Json:
    """Return findings as a SARIF 2.1.0 log.

    Args:
        findings: The findings.
        version: Version of this package.
        root: Files below it get addresses relative to it, the others absolute ones.
        mends: By finding that can be mended safely, the config's text and the edits that mend it.

    Returns:
        The log as plain JSON types.
    """
    ids = sorted({found.rule for found in findings})
    known = mends or {}
    results = [_result(found, ids.index(found.rule), root, known.get(found)) for found in findings]
    driver = {"name": "tritonforge", "version": version, "rules": [_rule(rule_id) for rule_id in ids]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"uri": root.resolve().as_uri().rstrip("/") + "/"}},
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule_id: str) -> Json:
    rule = RULES[rule_id]
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.meaning.partition("\n")[0]},
        "fullDescription": {"text": rule.meaning},
        "help": {"text": f"{rule.meaning}\n\nText: {rule.text}\nTo mend it: {rule.advice}"},
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"needs": rule.needs},
    }


def _result(found: Finding, index: int, root: Path, mend: tuple[str, Sequence[Edit]] | None) -> Json:
    artifact = _artifact(Path(found.file), root)
    physical: Json = {"artifactLocation": artifact}
    if found.line is not None:
        physical["region"] = {"startLine": found.line, "startColumn": found.column}
    place = f"{found.model}.{found.field}".rstrip(".")
    # The same finding in another commit, wherever its lines have gone.
    identity = f"{found.rule} {artifact['uri']} {place}"
    result: Json = {
        "ruleId": found.rule,
        "ruleIndex": index,
        "level": found.severity,
        "message": {"text": f"{found.text}\n{found.fix}"},
        "locations": [{"physicalLocation": physical, "logicalLocations": [{"fullyQualifiedName": place}]}],
        "partialFingerprints": {"tritonforge/v1": hashlib.sha256(os.fsencode(identity)).hexdigest()},
    }
    if mend is not None:
        text, edits = mend
        replacements = [_replacement(text, edit) for edit in sorted(edits)]
        change = {"artifactLocation": artifact, "replacements": replacements}
        result["fixes"] = [{"description": {"text": found.fix}, "artifactChanges": [change]}]
    return result


def _artifact(path: Path, root: Path) -> Json:
    # Addresses have no "..", and links stay what they are.
    absolute, base = (Path(os.path.normpath(each.absolute())) for each in (path, root))
    if absolute.is_relative_to(base):
        return {"uri": quote(bytes(absolute.relative_to(base))), "uriBaseId": _ROOT}
    return {"uri": absolute.as_uri()}


def _replacement(text: str, edit: Edit) -> Json:
    (line, column), (end_line, end_column) = line_and_column(text, edit.start), line_and_column(text, edit.end)
    region = {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column}
    return {"deletedRegion": region, "insertedContent": {"text": edit.replacement}}
