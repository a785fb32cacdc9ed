"""``docs/plans.md`` says what the code does."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from tritonforge_generator.plan.containers import TENSORRT_BY_RELEASE
from tritonforge_generator.plan.diagnosis import _KNOWN
from tritonforge_generator.plan.network import NEWEST_OPSET
from tritonforge_generator.spec import TensorRTOptions, forge_spec_from_file

TEXT = (Path(__file__).parents[3] / "docs" / "plans.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_every_option_has_a_line() -> None:
    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE) == list(TensorRTOptions.model_fields)


def test_the_containers_are_those_of_the_code() -> None:
    expected = []
    for tensorrt, group in groupby(TENSORRT_BY_RELEASE, key=lambda release: TENSORRT_BY_RELEASE[release]):
        releases = list(group)
        name = releases[0] if len(releases) == 1 else f"{releases[0]} to {releases[-1]}"
        expected.append((name, tensorrt))
    assert re.findall(r"^\| (\d\d\.\d\d[^|]*) \| ([\d.]+) \|$", TEXT, re.MULTILINE) == expected


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_are_valid_specs(tmp_path: Path, number: int) -> None:
    path = tmp_path / "tritonforge.yaml"
    path.write_text(EXAMPLES[number], "utf-8")
    (model,) = forge_spec_from_file(path).models
    assert model.platform == "tensorrt"


def test_meanings_and_opsets_are_those_of_the_code() -> None:
    opsets = ", ".join(f"{NEWEST_OPSET[major]} for {name}" for major, name in ((8, "8.6"), (10, "10"), (11, "11")))
    assert opsets in TEXT
    for meaning in ("memory does not suffice", "no kernel fits", "cut off or damaged", "does not begin like a plan"):
        assert meaning in TEXT
        assert any(meaning in one.meaning for _, one in _KNOWN)
