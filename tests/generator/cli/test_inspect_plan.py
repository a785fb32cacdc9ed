"""``tritonforge inspect`` of a plan: the header alone, with the stand-in TensorRT, and with a prefix in front."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.stand_in_plans import stand_in_tensorrt, write_plan

from tritonforge_generator.cli.main import group
from tritonforge_generator.errors import SourceError
from tritonforge_generator.plan.header import plan_header_from_path

METADATA = {"description": "yolo", "names": {"0": "cat", "1": "dog"}, "stride": 32}


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(group, ["inspect", *map(str, arguments)])


def facts_of(path: Path) -> dict[str, Any]:
    result = inspect(path, "--json")
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_plan(
        tmp_path / "model.plan",
        tensors=[("x", "float32", [-1, 4]), ("y", "float32", [-1, 4])],
        outputs={"y": ["negative", "x"]},
        profiles=[{"x": ([1, 4], [2, 4], [8, 4])}, {"x": ([9, 4], [16, 4], [32, 4])}],
    )


@pytest.fixture
def prefixed(plan: Path) -> Path:
    text = json.dumps(METADATA).encode()
    path = plan.with_name("model.engine")
    path.write_bytes(struct.pack("<I", len(text)) + text + plan.read_bytes())
    return path


def test_header_needs_no_tensorrt(plan: Path) -> None:
    facts = facts_of(plan)
    assert (facts["tensorrt_version"], facts["size_bytes"]) == ("10.16.1.11", plan.stat().st_size)
    assert facts["engine"] is None
    assert "pip install 'tritonforge[tensorrt]'" in facts["not_loaded"]
    text = inspect(plan).stdout
    assert "a plan of TensorRT 10.16.1.11" in text
    assert "may load in 26.01 to 26.05, whose TensorRT is known in part" in text
    assert "tensors, profiles, memory and layers need TensorRT" in text


def test_tensorrt_shows_the_rest(plan: Path) -> None:
    with stand_in_tensorrt():
        engine = facts_of(plan)["engine"]
        text = inspect(plan).stdout
    assert [(one["name"], one["is_input"], one["datatype"], one["shape"]) for one in engine["tensors"]] == [
        ("x", True, "FP32", [-1, 4]),
        ("y", False, "FP32", [-1, 4]),
    ]
    assert engine["profiles"][1] == {"x": {"min": [9, 4], "opt": [16, 4], "max": [32, 4]}}
    assert engine["device_memory_bytes"] == [1000, 1001]
    assert engine["layer_count"] == 0
    assert "1,001" in text
    assert "[32, 4]" in text


def test_plan_of_another_tensorrt_is_not_loaded(plan: Path) -> None:
    with stand_in_tensorrt("11.4.0.106"):
        facts = facts_of(plan)
    assert facts["engine"] is None
    assert "the plan was built by another TensorRT version" in facts["not_loaded"]
    assert "one of 10.16.1.11" in facts["not_loaded"]


def test_cut_off_plan_is_not_loaded(plan: Path) -> None:
    plan.write_bytes(plan.read_bytes()[:-10])
    with stand_in_tensorrt():
        assert "the plan is cut off or damaged" in facts_of(plan)["not_loaded"]


def test_prefix_is_shown(prefixed: Path) -> None:
    facts = facts_of(prefixed)
    assert facts["metadata"] == METADATA
    assert facts["prefix_bytes"] == 4 + len(json.dumps(METADATA))
    with stand_in_tensorrt():
        text = inspect(prefixed).stdout
    assert "Triton refuses it; remove them with --strip-prefix" in text
    assert "metadata    stride: 32" in text
    assert "TensorRT does not load it with its prefix" in text


def test_prefix_is_removed_on_request(plan: Path, prefixed: Path) -> None:
    bare = plan.with_name("bare.plan")
    with stand_in_tensorrt():
        result = inspect(prefixed, "--strip-prefix", bare)
    assert result.exit_code == 0, result.output
    assert bare.read_bytes() == plan.read_bytes()
    assert f"{bare}: a plan of TensorRT 10.16.1.11" in result.stdout
    assert "optimisation profiles" in result.stdout


def test_nothing_is_stripped_where_nothing_is_in_front(plan: Path) -> None:
    bare = plan.with_name("bare.plan")
    result = inspect(plan, "--strip-prefix", bare)
    assert isinstance(result.exception, SourceError)
    assert "has no prefix" in str(result.exception)
    assert not bare.exists()


def test_no_file_is_overwritten(plan: Path, prefixed: Path) -> None:
    before = plan.read_bytes()
    assert isinstance(inspect(prefixed, "--strip-prefix", plan).exception, FileExistsError)
    assert plan.read_bytes() == before


def test_plan_is_known_by_its_content(plan: Path) -> None:
    assert facts_of(plan.rename(plan.with_name("served")))["kind"] == "plan"


@pytest.mark.parametrize("kept_bytes", [10, 30, 90])
def test_cut_off_prefix_is_no_plan(prefixed: Path, kept_bytes: int) -> None:
    prefixed.write_bytes(prefixed.read_bytes()[:kept_bytes])
    with pytest.raises(SourceError, match="is no TensorRT plan"):
        plan_header_from_path(prefixed)


def test_prefix_without_a_plan_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(struct.pack("<I", 2) + b"{}" + b"\x08\x0aonnx" * 10)
    with pytest.raises(SourceError, match="is no TensorRT plan behind its prefix"):
        plan_header_from_path(path)


def test_unknown_layout_is_refused(plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[4] = 1
    plan.write_bytes(content)
    with pytest.raises(SourceError, match="expected layout 0, got 1"):
        plan_header_from_path(plan)
