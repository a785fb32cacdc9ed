from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from generator.lint.cases import (
    BATCHED,
    FIXED,
    MODEL_PY,
    ONNX,
    ONNX_BATCHING,
    PYTHON,
    Case,
    X,
    Y,
    model_bytes,
    onnx_files,
    onnx_tensors,
    write_model,
)
from generator.lint.plan_cases import HEADER as PLAN_HEADER
from generator.lint.table import CASES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonforge_generator.errors import RepositoryError, SpecError
from tritonforge_generator.lint import explain, lint_model, lint_repository

PYTHON_FILES: dict[str, str | bytes] = {"1/model.py": MODEL_PY}


def test_a_finding_says_where_and_how(tmp_path: Path) -> None:
    config = PYTHON + "max_batch_size: 4\ndynamic_batching {\n  preferred_batch_size: [ 4,\n    9 ]\n}\n"
    write_model(tmp_path / "m", config, PYTHON_FILES)

    (finding,) = lint_repository(tmp_path)

    assert json.loads(json.dumps(finding.to_json())) == {
        "repository": str(tmp_path),
        "model": "m",
        "rule": "C6",
        "severity": "error",
        "text": "dynamic batching preferred size must be <= max batch size for m",
        "file": str(tmp_path / "m" / "config.pbtxt"),
        "line": 7,
        "column": 5,
        "field": "dynamic_batching.preferred_batch_size[1]",
        "fix": "Lower 9 to max_batch_size (4) or raise max_batch_size.",
    }


def test_a_syntax_slip_has_its_place_and_the_parsers_reason(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON + "  inputs { }\n", PYTHON_FILES)

    (finding,) = lint_model(tmp_path / "m")

    assert (finding.rule, finding.line, finding.column) == ("P1", 4, 3)
    assert 'no field named "inputs"' in finding.fix


def test_an_escape_sequence_that_the_server_refuses_has_its_place(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON + 'parameters { key: "a\\\\\\y" }\n', PYTHON_FILES)
    (finding,) = lint_model(tmp_path / "m")
    assert (finding.rule, finding.line, finding.column) == ("P1", 4, 23)
    assert "Invalid escape sequence" in finding.fix


def test_a_number_that_no_enum_holds_has_its_place(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON + "instance_group {\n kind: 9999999999 }\n", PYTHON_FILES)
    (finding,) = lint_model(tmp_path / "m")
    assert (finding.rule, finding.line, finding.column) == ("P1", 5, 2)


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("max_batch_size:\u00a08", 16, "takes no character U+00A0 there."),
        ("\u3000max_batch_size: 8", 1, "takes no character U+3000 there."),
        ("max_batch_size: 1_0", 17, '"1_0" is no number for the server.'),
        ("max_batch_size: 0b1", 17, '"0b1" is no number for the server.'),
        ("max_batch_size: +8", 17, '"+8" is no number for the server.'),
        ("max_batch_size: \u0668", 17, "takes no character U+0668 there."),
        ("# a\x00b", 4, "takes no character U+0000 there."),
        ('parameters { key: "a\x00b" }', 21, "takes no character U+0000 there."),
        ('parameters { key: "a\\\\\\\u00e9" }', 23, "Invalid escape sequence"),
    ],
)
def test_what_only_pythons_parser_takes_is_refused(tmp_path: Path, text: str, column: int, reason: str) -> None:
    write_model(tmp_path / "m", PYTHON + text + "\n", PYTHON_FILES)
    (finding,) = lint_model(tmp_path / "m")
    assert (finding.rule, finding.line, finding.column) == ("P1", 4, column)
    assert reason in finding.fix


@pytest.mark.parametrize(
    "text",
    [
        "# a\u00a0b + 1_0",
        'parameters { key: "1_0\u00a0+0b1" value { string_value: "+1" } }',
        "max_batch_size: 010",
        "version_policy { specific { versions: [1, - 7] } }",
        "\v\fmax_batch_size: 0x8 # 1_0",
        "sequence_batching { direct { minimum_slot_utilization: 1e-1 } } # +",
        "sequence_batching { direct { minimum_slot_utilization: .5f } } # +",
        "sequence_batching { direct { minimum_slot_utilization: 1.E+0 } }",
    ],
)
def test_what_the_servers_parser_takes_is_not_refused(tmp_path: Path, text: str) -> None:
    write_model(tmp_path / "m", PYTHON + text + "\n", PYTHON_FILES)
    assert [finding.rule for finding in lint_model(tmp_path / "m") if finding.severity == "error"] == []


def test_errors_come_in_the_servers_order_and_warnings_last(tmp_path: Path) -> None:
    config = (
        'name: "other"\nbackend: "python"\nmax_batch_size: -1\n'
        "instance_group { kind: KIND_CPU gpus: 0 count: 0 }\n"
        'output { name: "y" dims: 0 data_type: TYPE_FP32 }\ninput { name: "x" }\n'
    )
    write_model(tmp_path / "m", config, PYTHON_FILES)

    completing = [finding.rule for finding in lint_model(tmp_path / "m")]
    strict = [finding.rule for finding in lint_model(tmp_path / "m", strict=True)]

    assert completing == ["C4", "R1", "G7", "I2", "I3", "I5", "L9"]
    assert strict == ["C4", "I2", "I3", "I5", "R1", "G7", "L9"]


def test_models_come_in_alphabetical_order_and_can_be_chosen(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_model(tmp_path / name, PYTHON + "max_batch_size: -1", PYTHON_FILES)
    assert [finding.model for finding in lint_repository(tmp_path)] == ["a", "b", "c"]
    assert [finding.model for finding in lint_repository(tmp_path, models=["c", "a"])] == ["a", "c"]


def test_a_model_by_itself_is_not_judged_by_its_neighbours(tmp_path: Path) -> None:
    step = 'step { model_name: "gone" model_version: -1 input_map { key: "i" value: "x" } '
    config = f'platform: "ensemble"\n{X}{Y}ensemble_scheduling {{ {step} output_map {{ key: "o" value: "y" }} }} }}'
    write_model(tmp_path / "e", config, {"1/": ""})
    assert lint_model(tmp_path / "e") == []
    assert [finding.rule for finding in lint_repository(tmp_path)] == ["X1"]


def test_what_is_no_repository_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(RepositoryError, match="Give the folder that holds the models"):
            lint_repository(path)
        with pytest.raises(RepositoryError, match="Give the model's folder"):
            lint_model(path)
    write_model(tmp_path / "m", PYTHON, PYTHON_FILES)
    with pytest.raises(RepositoryError, match="got a model\\. Give the folder that holds the models"):
        lint_repository(tmp_path / "m")
    with pytest.raises(RepositoryError, match="has no model 'n'"):
        lint_repository(tmp_path, models=["n"])
    with pytest.raises(SpecError, match="one of C6"):
        explain("C66")


def test_a_repository_that_cannot_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionError):
        lint_repository(tmp_path)


def test_a_config_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "m" / "config.pbtxt").mkdir(parents=True)
    (finding,) = lint_model(tmp_path / "m")
    assert finding.rule == "P2"
    assert finding.text.endswith(f"{tmp_path}/m/config.pbtxt: Is a directory")


def test_what_a_back_end_completes_is_not_missing(tmp_path: Path) -> None:
    completing = MODEL_PY + "\n    @staticmethod\n    def auto_complete_config(config): return completed(config)\n"
    write_model(tmp_path / "python", 'input { name: "x" }', {"1/model.py": completing})
    write_model(tmp_path / "plan", 'backend: "tensorrt" input { name: "x" }', {"1/model.plan": PLAN_HEADER})
    write_model(tmp_path / "onnx", None, BATCHED)
    write_model(tmp_path / "outputs", ONNX + X, BATCHED)
    assert lint_repository(tmp_path) == []
    strict = {finding.model: finding.rule for finding in reversed(lint_repository(tmp_path, strict=True))}
    assert strict == {"python": "I2", "plan": "I2", "onnx": "P2", "outputs": "O10"} | strict


def test_every_version_that_is_served_is_compared(tmp_path: Path) -> None:
    files = {"1/model.onnx": FIXED["1/model.onnx"], "2/model.onnx": BATCHED["1/model.onnx"]}
    write_model(tmp_path / "latest", ONNX_BATCHING, files)
    write_model(tmp_path / "all", ONNX_BATCHING + "version_policy { all { } }", files)
    found = lint_repository(tmp_path)
    assert {finding.model for finding in found} == {"all"}
    assert [finding.rule for finding in found] == ["O20", "O20"]


@pytest.mark.parametrize(("dims", "rules"), [("[16]", []), ("[4]", ["O21"]), ("[-1]", ["O21"])])
def test_an_output_shape_is_inferred_when_the_graph_does_not_declare_it(
    tmp_path: Path, dims: str, rules: list[str]
) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "x", "x", "x"], ["y"], axis=1)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "M"])],
    )
    config = onnx_tensors("data_type: TYPE_FP32 dims: [4]", f"data_type: TYPE_FP32 dims: {dims}")
    write_model(tmp_path / "m", config, onnx_files(model_bytes(graph)))
    assert [finding.rule for finding in lint_model(tmp_path / "m")] == rules


@pytest.mark.parametrize(("dims", "rules"), [("[4]", []), ("[3]", ["O21"])])
def test_onnx_runtime_is_asked_about_what_only_its_optimiser_knows(tmp_path: Path, dims: str, rules: list[str]) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Sqrt", ["sixteen"], ["root"]),
            helper.make_node("Cast", ["root"], ["width"], to=TensorProto.INT64),
            helper.make_node("Concat", ["any", "width"], ["shape"], axis=0),
            helper.make_node("Reshape", ["x", "shape"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N2", "W"])],
        [
            helper.make_tensor("sixteen", TensorProto.FLOAT, [1], [16.0]),
            helper.make_tensor("any", TensorProto.INT64, [1], [-1]),
        ],
    )
    config = onnx_tensors("data_type: TYPE_FP32 dims: [4]", f"data_type: TYPE_FP32 dims: {dims}")
    write_model(tmp_path / "m", config, onnx_files(model_bytes(graph)))
    assert [finding.rule for finding in lint_model(tmp_path / "m")] == rules


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_configs_never_crash_it(tmp_path: Path, data: st.DataObject) -> None:
    case: Case = data.draw(st.sampled_from([case for case in CASES if case.broken is not None]))
    text = (case.broken or "").encode()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    mutated = text[:start] + data.draw(st.binary(max_size=8) | st.just(b"-1") | st.just(b"99999999")) + text[end:]
    directory = tmp_path / "m"
    directory.mkdir(exist_ok=True)
    (directory / "config.pbtxt").write_bytes(mutated)
    for path in ("1", "02", "x"):
        (directory / path).mkdir(exist_ok=True)
    (directory / "1" / "model.onnx").write_bytes(data.draw(st.binary(max_size=40)))
    for strict in (False, True):
        for finding in lint_model(directory, strict=strict):
            assert finding.text != ""


def test_two_hundred_models_take_well_under_four_seconds(tmp_path: Path) -> None:
    for number in range(200):
        write_model(tmp_path / f"m{number:03}", ONNX_BATCHING, BATCHED)
    lint_model(tmp_path / "m000")  # imports are paid once
    started = time.perf_counter()
    assert lint_repository(tmp_path) == []
    assert time.perf_counter() - started < 4.0


def test_importing_it_needs_no_heavy_package() -> None:
    code = (
        "import sys, tritonforge_generator.lint;"
        "print([m for m in ('onnx', 'onnxruntime', 'tritonclient', 'google.protobuf') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ.copy()
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_fewer_needs_find_nothing_that_all_do_not(tmp_path: Path, case: Case) -> None:
    case.write(tmp_path, "broken", broken=True)
    for strict in (False, True):
        whole = lint_repository(tmp_path, strict=strict)
        for kind in ("text", "dir", "file"):
            assert set(lint_repository(tmp_path, strict=strict, needs={kind})) <= set(whole)
        assert {*lint_repository(tmp_path, strict=strict, needs={"text", "dir", "file"})} == set(whole)


def test_without_the_need_no_model_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "onnx", ONNX, BATCHED)
    write_model(tmp_path / "python", PYTHON, PYTHON_FILES)
    opened: list[Path | None] = []
    for reader in ("graph_from_file", "python_from_file"):
        monkeypatch.setattr(f"tritonforge_generator.lint.model.{reader}", opened.append)
    lint_repository(tmp_path, needs={"text", "dir", "repo", "host"})
    assert set(opened) <= {None}
