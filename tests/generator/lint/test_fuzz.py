"""A little of ``make fuzz``, and that its watch works."""

from __future__ import annotations

from pathlib import Path

import pytest
from generator.lint.cases import BATCHING, PYTHON
from generator.lint.fuzz import fuzz_configs, fuzz_graphs, judge, prepare, watched


def test_mutated_configs_are_judged_without_failing_or_looking_outside(tmp_path: Path) -> None:
    fuzz_configs(prepare(tmp_path), 300, seed=1)


def test_mutated_graphs_are_judged_without_failing_or_looking_outside(tmp_path: Path) -> None:
    fuzz_graphs(prepare(tmp_path), 60, seed=1)


def test_the_watch_notices_what_is_opened_outside(tmp_path: Path) -> None:
    repository = prepare(tmp_path)
    with pytest.raises(AssertionError, match="secret"), watched(repository):
        (repository / "m" / "link").read_text()
    with watched(repository):
        (repository / "m" / "1" / "model.py").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "instance_group { kind: 9999999999 } " + "a { " * 20_000,
        "input { " * 3_000,
        PYTHON + "instance_group { count: 0 }\n" * 500,
        BATCHING + f"dynamic_batching {{ preferred_batch_size: [ {', '.join(['9'] * 300)} ] }}",
        PYTHON + 'runtime: "' + "long" * 100 + '"',
        PYTHON.replace("dims: [4] }\noutput", 'dims: [4] }\noutput { label_filename: "a\\000b" name: "z" }\noutput'),
    ],
    ids=["deep", "nested", "many groups", "many sizes", "long name", "NUL"],
)
def test_unusual_configs_are_judged_and_mended_in_time(tmp_path: Path, text: str) -> None:
    repository = prepare(tmp_path)
    (repository / "m" / "config.pbtxt").write_text(text)
    for strict in (False, True):
        judge(repository, strict=strict, mend=True)
