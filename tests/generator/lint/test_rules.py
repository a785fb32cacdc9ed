"""Every rule: its broken config is found first, its neighbour is not found at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from generator.lint.cases import Case
from generator.lint.ensemble_cases import ENSEMBLES, EnsembleCase, write_repository
from generator.lint.table import CASES

from tritonforge_generator.lint import Finding, explain, lint_model, lint_repository
from tritonforge_generator.lint.order import server_order
from tritonforge_generator.lint.rule import RULES


def errors(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings if finding.severity == "error"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_the_broken_rule_comes_first_and_the_neighbour_is_clean(tmp_path: Path, case: Case) -> None:
    case.write(tmp_path, "broken", broken=True)
    case.write(tmp_path, "valid", broken=False)

    broken = lint_model(tmp_path / "broken", strict=not case.completing)
    assert errors(broken)[:1] == [case.rule]
    if case.field is not None:
        assert broken[0].field == case.field
    assert "{" not in broken[0].text
    assert broken[0].fix != ""

    valid = lint_model(tmp_path / "valid", strict=not case.completing)
    assert errors(valid) == []


@pytest.mark.parametrize("case", ENSEMBLES, ids=lambda case: case.rule)
def test_a_broken_ensemble_is_found_and_its_neighbour_is_clean(tmp_path: Path, case: EnsembleCase) -> None:
    write_repository(tmp_path)
    case.write(tmp_path, "broken", broken=True)
    case.write(tmp_path, "valid", broken=False)

    broken = lint_repository(tmp_path, models=["broken"], strict=True)
    assert errors(broken)[:1] == [case.rule]
    if case.field is not None:
        assert broken[0].field == case.field
    assert errors(lint_repository(tmp_path, models=["valid"], strict=True)) == []


def test_every_error_rule_has_a_case() -> None:
    covered = {case.rule for case in CASES} | {case.rule for case in ENSEMBLES}
    assert covered == {rule.id for rule in RULES.values() if rule.severity == "error"}


def test_the_order_names_every_rule_once() -> None:
    for strict in (False, True):
        for completes in (False, True):
            ids = [rule_id for block in server_order(strict=strict, completes_onnx=completes) for rule_id in block]
            assert sorted(ids) == sorted(RULES)


@pytest.mark.parametrize("rule_id", sorted(RULES))
def test_every_rule_can_be_explained(rule_id: str) -> None:
    text = explain(rule_id)
    assert rule_id in text
    assert RULES[rule_id].text in text
    assert RULES[rule_id].check.__doc__
