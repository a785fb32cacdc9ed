"""The linter against the real server: the same verdict, the same first text, and the same config where it loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from agreement.case import Case
from agreement.cases import all_cases, write_cases
from agreement.comparison import EMBEDDED, compare
from agreement.drawing import drawn_cases
from agreement.grammar import python_models
from agreement.known import NOT_COVERED
from agreement.report import Report
from agreement.server import unwrapped

from tritonforge_generator.lint import lint_repository
from tritonforge_generator.lint.rule import RULES

_REPORT = Path("build") / "agreement.json"
_SAMPLE = 40
_SLOW = 4


def check(report: Report) -> None:
    """Show the report and fail at any difference whose reason is not known."""
    report.show()
    assert report.unexplained == []
    assert report.wrong_configs == []
    assert report.verdict_share == 1.0


def sample(cases: Sequence[Case]) -> list[Case]:
    """Choose cases all over: of every group, of both modes, mostly those that load fast."""
    fast = [case for case in cases if case.strict and case.origin != "neighbour"]
    slow = [case for case in cases if not case.strict and case.group in {"O", "Y", "X"}]
    return [*fast[:: len(fast) // (_SAMPLE - _SLOW)], *slow[:: len(slow) // _SLOW]]


@pytest.mark.triton
def test_a_sample_of_the_cases_agrees(tmp_path: Path) -> None:
    chosen = sample(all_cases())
    assert len(chosen) >= _SAMPLE
    check(compare(chosen, tmp_path))


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_lint_agrees_with_the_server(tmp_path: Path) -> None:
    report = compare(all_cases(), tmp_path)
    report.write(_REPORT)
    check(report)
    assert len(report.counted) >= 400
    assert report.text_share >= 0.98


def test_every_rule_that_the_embedded_server_enforces_is_broken_alone() -> None:
    broken = {case.rule for case in all_cases() if case.origin == "broken"}
    errors = {rule.id for rule in RULES.values() if rule.severity == "error"}
    assert errors - broken == {rule for rule in errors if rule in NOT_COVERED or rule[0] == "T"}


def test_each_rule_is_what_its_case_breaks_first(tmp_path: Path) -> None:
    """In one mode at least, and unless the embedded server's host hides it: without a GPU it does not come that far."""
    firsts: dict[tuple[str, str], set[str]] = {}
    for strict in (False, True):
        repository = tmp_path / str(strict)
        repository.mkdir()
        broken = [case for case in all_cases() if case.origin == "broken" and case.strict == strict]
        write_cases(repository, broken)
        for host in (EMBEDDED, None):
            found = lint_repository(repository, strict=strict, host=host)
            first = {one.model: one.rule for one in reversed(found) if one.severity == "error"}
            for case in broken:
                firsts.setdefault((case.name.rpartition("_")[0], case.rule), set()).add(first.get(case.name, ""))
    unbroken = {name for (name, rule), found in firsts.items() if rule not in found}
    assert unbroken == set()


def test_names_differ_and_random_cases_are_the_same_each_time() -> None:
    names = [case.name for case in all_cases()]
    assert len(set(names)) == len(names)
    assert drawn_cases("python", python_models(), 20) == drawn_cases("python", python_models(), 20)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("load failed for model 'm': version 1 is at UNAVAILABLE state: Invalid argument: no;\n", "no"),
        ("Internal: TritonModelException: no\n\nAt:\n  model.py(1): refuse\n", "no"),
        ("version 1 is at UNAVAILABLE state: Internal: a;version 2 is at UNAVAILABLE state: Internal: b;\n", "a"),
        ("[request id: <id_unknown>] a;\n", "a"),
        ("Invalid argument: a; b", "a; b"),
    ],
)
def test_what_the_server_wraps_around_a_text_is_taken_off(said: str, text: str) -> None:
    assert unwrapped(said) == text
