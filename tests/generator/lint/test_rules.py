"""Every rule: its broken config is found first, its neighbour is not found at all."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from generator.lint.cases import BATCHING, MODEL_PY, PYTHON, Case, tensor, write_model
from generator.lint.ensemble_cases import ENSEMBLES, EnsembleCase, write_repository
from generator.lint.host_cases import HOST_CASES
from generator.lint.plan_cases import PLAN_RULES
from generator.lint.table import CASES

from tritonforge_generator.lint import Finding, explain, lint_model, lint_repository
from tritonforge_generator.lint.host import Host
from tritonforge_generator.lint.order import server_order
from tritonforge_generator.lint.rule import RULES

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "linting.md"


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


_TOO_MANY = 'model_warmup { name: "w" batch_size: 9 inputs { key: "x" value { data_type: TYPE_FP32 %s } } }\n'


@pytest.mark.parametrize(
    "config",
    [
        # Passive instances are not warmed up.
        BATCHING + _TOO_MANY % "dims: [-1]" + "instance_group { kind: KIND_CPU passive: true }",
        # Whether this back-end counts is not known.
        BATCHING.replace("python", "own") + _TOO_MANY % "dims: [4] zero_data: true",
        tensor('name: "x" data_type: TYPE_FP32 dims: [4] format: 7'),
    ],
)
def test_what_the_server_does_not_check_is_no_error(tmp_path: Path, config: str) -> None:
    write_model(tmp_path / "m", config, {"1/model.py": MODEL_PY})
    assert errors(lint_model(tmp_path / "m", strict=True)) == []


@pytest.mark.parametrize(
    ("key", "ends_the_server"),
    # As seen with server 2.51.
    [("team", False), ("9_lives", False), ("", False), ("a b", True), ("a-b", True), ("_team", True), ("\u00e4", True)],
)
def test_a_metric_tag_that_is_no_label_ends_the_server(tmp_path: Path, key: str, ends_the_server: bool) -> None:
    write_model(tmp_path / "m", PYTHON + f'metric_tags {{ key: "{key}" value: "7" }}', {"1/model.py": MODEL_PY})
    found = lint_model(tmp_path / "m")
    assert [(one.rule, one.field) for one in found] == ([("C22", f'metric_tags["{key}"]')] if ends_the_server else [])
    assert [one.rule for one in lint_repository(tmp_path, host=Host(without=frozenset({"metrics"})))] == []


def test_a_label_is_made_after_the_config_was_checked(tmp_path: Path) -> None:
    config = 'metric_tags { key: "a-b" value: "7" }\n' + PYTHON
    for name, wrong in (("checked", "max_batch_size: -1"), ("run", "")):
        write_model(tmp_path / name, config + wrong, {"1/model.py": "def ("})
    assert [lint_model(tmp_path / name, strict=True)[0].rule for name in ("checked", "run")] == ["C4", "C22"]
    assert lint_model(tmp_path / "run")[0].rule == "D3"


def test_only_ascii_digits_make_a_version(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON, {"1/model.py": MODEL_PY, "\u0662/model.py": MODEL_PY})
    assert [(found.rule, Path(found.file).name) for found in lint_model(tmp_path / "m")] == [("V2", "\u0662")]


# Rules about links, several repositories or what keeps the server waiting or ends it have tests of their own.
ELSEWHERE = {"C22", "I15", "P3", "R2", "X14", "X3", "X4", "X5", "Y5"}


def test_every_error_rule_has_a_case() -> None:
    covered = {case.rule for case in CASES} | {case.rule for case in ENSEMBLES} | {case.rule for case in HOST_CASES}
    assert covered | PLAN_RULES | ELSEWHERE == {rule.id for rule in RULES.values() if rule.severity == "error"}


def test_the_order_names_every_rule_once() -> None:
    for strict, onnx, plan in itertools.product((False, True), repeat=3):
        ids = [one for block in server_order(strict=strict, completes_onnx=onnx, completes_plan=plan) for one in block]
        assert sorted(ids) == sorted(RULES)


@pytest.mark.parametrize("rule_id", sorted(RULES))
def test_every_rule_can_be_explained(rule_id: str) -> None:
    text = explain(rule_id)
    assert rule_id in text
    assert RULES[rule_id].text in text
    assert RULES[rule_id].check.__doc__


def test_what_the_documentation_leaves_to_the_server_is_no_rule() -> None:
    section = DOCUMENTATION.read_text(encoding="utf-8").partition("## Rules that only a running server can decide")[2]
    listed: set[str] = set()
    for row in re.findall(r"^\| ([A-Z]\d+[^|]*) \|", section, re.MULTILINE):
        for part in row.split(", "):
            first, _, last = part.partition(" to ")
            letter, numbers = first[0], range(int(first[1:]), int((last or first)[1:]) + 1)
            listed |= {f"{letter}{number}" for number in numbers}
    assert len(listed) > 40
    assert listed & set(RULES) == set()
