"""Warnings: what the server accepts although it is almost surely not meant. No such model has an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from generator.lint.cases import (
    BATCHED,
    BATCHING,
    INITIAL,
    MODEL_PY,
    ONNX,
    ONNX_BATCHING,
    PYTHON,
    START,
    Case,
    X,
    Y,
    dynamic,
    onnx_setting,
    sequence,
    state,
    tensor,
    warmup,
)
from generator.lint.ensemble_cases import VALID, write_repository
from generator.lint.plan_cases import PLAN_WARNINGS
from generator.lint.python_cases import PYTHON_WARNINGS

from tritonforge_generator.lint import lint_model
from tritonforge_generator.lint.rule import RULES

_ACCELERATED = (
    ONNX_BATCHING + 'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }\n'
)
_IMAGE = 'name: "x" data_type: TYPE_FP32 dims: '
WARNINGS = [
    Case("V1", PYTHON, PYTHON, broken_files={"1/model.py": MODEL_PY, "02/model.py": MODEL_PY}),
    Case("V2", PYTHON, PYTHON, broken_files={"1/model.py": MODEL_PY, "latest/model.py": MODEL_PY}),
    Case(
        "V3",
        PYTHON + "version_policy { specific { versions: [1, 7] } }",
        PYTHON + "version_policy { specific { versions: [1] } }",
        "version_policy.specific.versions[1]",
    ),
    Case("W5", warmup("dims: [4] zero_data: true", sample='name: "w"'), warmup("dims: [4] zero_data: true")),
    Case(
        "S23",
        sequence(START + state("use_growable_memory: true")),
        sequence(START + state("use_growable_memory: true use_same_buffer_for_input_output: true")),
    ),
    Case(
        "S25",
        sequence(START + state("") + state("").replace('"o"', '"p"')),
        sequence(START + state("") + state("").replace('"o"', '"p"').replace('"i"', '"j"')),
    ),
    Case(
        "S26",
        sequence(START + state("") + state("").replace('"i"', '"j"')),
        sequence(START + state("", INITIAL)),
    ),
    Case(
        "L1",
        PYTHON + Y,
        PYTHON + Y.replace('"y"', '"x"'),
        "output[1].name",
    ),
    Case("L2", VALID.replace("model_version: -1", "", 1), VALID, "ensemble_scheduling.step[0]", {"1/": ""}),
    Case("L2", VALID.replace("model_version: -1", "", 1), VALID.replace("version: -1", "version: 0"), files={"1/": ""}),
    Case("L4", PYTHON, PYTHON, broken_files={"1abc/model.py": MODEL_PY, "2/model.py": MODEL_PY}),
    *PYTHON_WARNINGS,
    Case("L5", ONNX_BATCHING.replace("dynamic_batching { }", ""), ONNX_BATCHING, "max_batch_size", BATCHED),
    Case("L6", PYTHON + "max_batch_size: 1 dynamic_batching { }", BATCHING + "dynamic_batching { }"),
    Case(
        "L6",
        PYTHON + "dynamic_batching { max_queue_delay_microseconds: 9 }",
        PYTHON + "dynamic_batching { default_queue_policy { max_queue_size: 9 } }",
    ),
    Case(
        "L6",
        PYTHON + "dynamic_batching { }",
        PYTHON + "dynamic_batching { priority_levels: 2 default_priority_level: 1 }",
    ),
    Case(
        "L6",
        PYTHON + "max_batch_size: 1 dynamic_batching { }",
        PYTHON + "max_batch_size: 1 dynamic_batching { preserve_ordering: true }",
    ),
    Case("L7", dynamic("preferred_batch_size: [2, 4]"), dynamic("preferred_batch_size: [2, 8]")),
    Case("L8", PYTHON + "optimization { cuda { graphs: true } }", PYTHON + "optimization { }", "optimization.cuda"),
    Case(
        "L9",
        PYTHON + "instance_group { kind: KIND_CPU count: 0 }",
        PYTHON + "instance_group { kind: KIND_CPU }",
        "instance_group[0].count",
    ),
    Case("L10", tensor(_IMAGE + "[3, 8, 8] format: FORMAT_NCHW"), tensor(_IMAGE + "[3, 8, 8] format: FORMAT_NONE")),
    Case("L11", onnx_setting("intra_op_threads_count", "2"), onnx_setting("my_own_note", "2"), files=BATCHED),
    Case("L12", PYTHON, PYTHON, broken_files={"1/model.py": MODEL_PY, "1/config.pbtxt": PYTHON}),
    Case(
        "L14",
        X + Y,
        PYTHON,
        files={"1/model.py": MODEL_PY, ".cache/model.py": MODEL_PY},
    ),
    Case(
        "L15",
        dynamic("default_queue_policy { allow_timeout_override: true }"),
        dynamic("default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 1000 }"),
    ),
    Case(
        "L17",
        tensor(_IMAGE + "[1, 3, 8, 8]", more="max_batch_size: 8 "),
        tensor(_IMAGE + "[1, 3, 8, 8]"),
        "input[0].dims",
    ),
    Case(
        "L18",
        _ACCELERATED + "instance_group { kind: KIND_CPU }",
        _ACCELERATED + "instance_group { kind: KIND_GPU }",
        files=BATCHED,
    ),
]


@pytest.mark.parametrize("case", WARNINGS, ids=lambda case: case.rule)
def test_the_model_is_warned_of_and_its_neighbour_is_not(tmp_path: Path, case: Case) -> None:
    write_repository(tmp_path)
    case.write(tmp_path, "broken", broken=True)
    case.write(tmp_path, "valid", broken=False)

    found = {finding.rule: finding for finding in lint_model(tmp_path / "broken")}
    assert {finding.severity for finding in found.values()} == {"warning"}
    assert case.rule in found
    if case.field is not None:
        assert found[case.rule].field == case.field
    assert case.rule not in {finding.rule for finding in lint_model(tmp_path / "valid")}


def test_every_warning_has_a_case() -> None:
    without_host = {rule.id for rule in RULES.values() if rule.severity == "warning" and rule.needs != "host"}
    assert {case.rule for case in (*WARNINGS, *PLAN_WARNINGS)} == without_host


def test_what_only_a_gpu_decides_is_a_warning_where_the_host_decides(tmp_path: Path) -> None:
    config = ONNX + X + Y + 'optimization { execution_accelerators { gpu_execution_accelerator { name: "trt" } } }\n'
    for kind, severities in (("KIND_GPU", ["error"]), ("KIND_AUTO", ["warning"]), ("KIND_CPU", [])):
        case = Case("O5", config + f"instance_group {{ kind: {kind} }}", "", files=BATCHED)
        case.write(tmp_path, kind, broken=True)
        assert [finding.severity for finding in lint_model(tmp_path / kind) if finding.rule == "O5"] == severities
