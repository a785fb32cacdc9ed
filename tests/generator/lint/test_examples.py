"""The examples of ``--explain`` are true."""

from __future__ import annotations

from pathlib import Path

import pytest
from generator.lint.cases import BATCHED, MODEL_PY, X, Y, write_model

from tritonforge_generator.lint import explain, lint_repository
from tritonforge_generator.lint.examples import EXAMPLES
from tritonforge_generator.lint.host import Host, Resource
from tritonforge_generator.lint.rule import RULES

_RATED = Host(rate_limit=True, resources=(Resource("R", 2), Resource("S", 4)))
# What has to be declared so that the rule can be decided.
_HOSTS = {
    "C14": Host(without=frozenset({"ensemble"})),
    "G4": Host(gpus=0),
    "G6": Host(gpus=2),
    "M5": Host(backends=frozenset({"python", "tensorrt"})),
    "M6": Host(backends=frozenset({"tensorrt"})),
    "W7": Host(rate_limit=True),
    "W8": _RATED,
    "W9": Host(agents=frozenset({"checksum"})),
    "L16": Host(),
}


def rules(repository: Path, rule: str, part: str) -> set[str]:
    config = part.replace("the directory's name", "m")
    if "platform:" not in part and "backend:" not in part:
        config += ' backend: "python"'
    if " input {" not in f" {part}":
        config += X
    write_model(repository / "m", config + Y, {**BATCHED, "1/model.py": MODEL_PY})
    return {finding.rule for finding in lint_repository(repository, strict=True, host=_HOSTS.get(rule))}


@pytest.mark.parametrize("rule", sorted(EXAMPLES))
def test_one_breaks_the_rule_and_the_other_does_not(tmp_path: Path, rule: str) -> None:
    broken, right = EXAMPLES[rule]
    assert rule in rules(tmp_path / "broken", rule, broken)
    assert rule not in rules(tmp_path / "right", rule, right)
    assert f"Breaks it: {broken}" in explain(rule)
    assert f"Does not:  {right}" in explain(rule)


def test_examples_are_of_rules() -> None:
    assert set(EXAMPLES) <= set(RULES)
