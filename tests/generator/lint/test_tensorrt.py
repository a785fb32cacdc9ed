"""TensorRT models: every rule, from whatever source the plan's tensors are known."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from generator.lint.cases import Case, X, Y, write_model
from generator.lint.plan_cases import (
    BATCHING,
    COPY,
    HEADER,
    MODEL,
    PLAN_CASES,
    PLAN_RULES,
    PLAN_WARNINGS,
    STATIC,
    TENSORRT,
    TWO,
    VECTORISED,
    W,
    devices,
    parameter,
    plan_files,
    shaped,
    tensor,
)
from google.protobuf import text_format
from support.stand_in_plans import stand_in_tensorrt, write_plan

from tritonforge_generator.lint import lint_model, lint_repository, open_repositories
from tritonforge_generator.lint.fixing import mend_repositories
from tritonforge_generator.lint.host import Host
from tritonforge_generator.lint.model import Model, model_from_directory
from tritonforge_generator.lint.repositories import roots_of
from tritonforge_generator.lint.rule import RULES


def found(directory: Path, *, strict: bool = False) -> list[str]:
    return [finding.rule for finding in lint_model(directory, strict=strict)]


def completing(directory: Path) -> Model:
    return model_from_directory(directory, strict=False, roots=roots_of(directory.parent))


@pytest.mark.parametrize("case", PLAN_CASES, ids=lambda case: case.rule)
def test_the_broken_rule_comes_first_and_the_neighbour_is_clean(tmp_path: Path, case: Case) -> None:
    case.write(tmp_path, "broken", broken=True)
    case.write(tmp_path, "valid", broken=False)

    broken = [one for one in lint_model(tmp_path / "broken", strict=not case.completing) if one.severity == "error"]
    assert [finding.rule for finding in broken][:1] == [case.rule]
    if case.field is not None:
        assert broken[0].field == case.field
    assert "{" not in broken[0].text
    assert broken[0].fix != ""

    valid = lint_model(tmp_path / "valid", strict=not case.completing)
    assert [finding.rule for finding in valid if finding.severity == "error"] == []


@pytest.mark.parametrize("case", PLAN_WARNINGS, ids=lambda case: case.rule)
def test_a_warning_is_the_only_finding(tmp_path: Path, case: Case) -> None:
    case.write(tmp_path, "broken", broken=True)
    case.write(tmp_path, "valid", broken=False)
    (finding,) = lint_model(tmp_path / "broken", strict=not case.completing)
    assert (finding.rule, finding.severity) == (case.rule, "warning")
    assert found(tmp_path / "valid", strict=not case.completing) == []


def test_every_rule_of_the_back_end_is_tried() -> None:
    tried = PLAN_RULES | {case.rule for case in PLAN_WARNINGS}
    assert {rule for rule in RULES if rule[0] == "T"} | {"N6", "I13", "I14"} == tried


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            MODEL.replace("8", "32"),
            "configuration specified max-batch 32 but TensorRT engine only supports max-batch 8",
        ),
        (
            MODEL.replace("[4]", "[-1, 4]"),
            "configuration specified max-batch 8 but TensorRT engine only supports max-batch 0",
        ),
    ],
)
def test_a_batch_that_is_too_large_is_told_with_the_plans(tmp_path: Path, config: str, text: str) -> None:
    write_model(tmp_path / "m", config, COPY)
    assert lint_model(tmp_path / "m")[0].text == f"autofill failed for model 'm': {text}"


def test_texts_name_the_instance_as_the_server_does(tmp_path: Path) -> None:
    write_model(tmp_path / "m", MODEL + X.replace('"x"', '"z"'), TWO)
    write_model(tmp_path / "n", MODEL + 'instance_group { name: "fast" kind: KIND_GPU }', TWO)
    write_model(tmp_path / "o", MODEL + X.replace('"x"', '"z"') + "instance_group { kind: KIND_GPU }", TWO)
    assert lint_model(tmp_path / "m", strict=True)[0].text == "expected configuration for output 'w' for m_0"
    assert lint_model(tmp_path / "o", strict=True)[0].text == "expected configuration for output 'w' for o_0_0"
    assert [one.text for one in lint_model(tmp_path / "n", strict=True)] == [
        "failed to specify the dimensions of all input tensors or values of all input shape tensors",
        "expected configuration for output 'w' for fast_0",
    ]


def test_the_field_is_the_one_that_says_what_is_compared(tmp_path: Path) -> None:
    reshaped = MODEL.replace("[4]", "[2, 2] reshape { shape: [4, 1] }", 1)
    write_model(tmp_path / "reshaped", reshaped, COPY)
    counted = 'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "z" data_type: TYPE_INT32 source_input: "x" }\n'
    write_model(tmp_path / "counted", BATCHING + X + Y + W + counted, TWO)
    found = {one.model: (one.rule, one.field) for one in lint_repository(tmp_path, strict=True)}
    assert found == {"reshaped": ("T38", "input[0].reshape"), "counted": ("T35", "batch_input[0].data_type")}
    # Which of two shapes is wrong is for the owner to decide.
    repositories, directories = open_repositories(tmp_path, models=["reshaped"], strict=True)
    assert mend_repositories(repositories, directories) == []


def test_only_the_profiles_that_a_group_names_are_in_use(tmp_path: Path) -> None:
    ranges = [{"x": ([1, 4], [high, 4])} for high in (8, 32)]
    files = plan_files([tensor("x", [-1, 4]), tensor("y", [-1, 4], output=True)], *ranges)
    config = MODEL.replace("8", "32")
    write_model(tmp_path / "first", config, files)
    write_model(tmp_path / "both", config + 'instance_group { kind: KIND_GPU profile: ["0", "1"] }', files)
    assert found(tmp_path / "first") == ["T8"]
    assert found(tmp_path / "both") == []


def test_without_anything_that_tells_a_plan_is_not_compared(tmp_path: Path) -> None:
    damaged = {**COPY, "1/manifest.json": "[]"}
    changed = {**COPY, "1/model.plan": HEADER + b"other"}
    for name, files in (("none", {"1/model.plan": HEADER}), ("damaged", damaged), ("changed", changed)):
        write_model(tmp_path / name, MODEL.replace("[4]", "[5]"), files)
        assert found(tmp_path / name) == []
        assert found(tmp_path / name, strict=True) == []


def test_a_manifest_that_leads_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_bytes(str(COPY["1/manifest.json"]).encode())
    write_model(tmp_path / "repo" / "m", MODEL.replace("[4]", "[5]"), {"1/model.plan": HEADER})
    (tmp_path / "repo" / "m" / "1" / "manifest.json").symlink_to(tmp_path / "elsewhere.json")
    assert found(tmp_path / "repo" / "m") == []


@pytest.mark.parametrize(
    "facts",
    [
        "{}",
        '{"tensors": 1}',
        '{"tensors": [{"name": "x"}], "profiles": []}',
        '{"tensors": [{"name": "x", "is_input": true, "datatype": "FP32", "shape": [1e400]}], "profiles": []}',
        '{"tensors": [{"name": "x", "is_input": true, "datatype": "FP32", "shape": [-2]}], "profiles": [{}]}',
        '{"tensors": [{"name": "x", "is_input": true, "datatype": "FP32", "shape": [4]}], "profiles": []}',
        (
            '{"tensors": [{"name": "x", "is_input": true, "datatype": "FP32", "shape": [4]}], '
            '"profiles": [{"x": {"min": [4], "max": [4, 4]}}]}'
        ),
    ],
)
def test_a_manifest_that_makes_no_sense_tells_nothing(tmp_path: Path, facts: str) -> None:
    manifest = json.loads(str(COPY["1/manifest.json"]))
    plan = manifest["made"]["plan"]
    manifest["made"]["plan"] = {**json.loads(facts), "sha256": plan["sha256"], "size_bytes": plan["size_bytes"]}
    write_model(tmp_path / "m", MODEL.replace("[4]", "[5]"), {**COPY, "1/manifest.json": json.dumps(manifest)})
    assert found(tmp_path / "m") == []


def test_files_that_are_no_files_do_not_hang_it(tmp_path: Path) -> None:
    write_model(tmp_path / "m", MODEL, {"1/": ""})
    os.mkfifo(tmp_path / "m" / "1" / "model.plan")
    assert found(tmp_path / "m", strict=True) == []
    write_model(tmp_path / "n", MODEL, {"1/model.plan": HEADER})
    os.mkfifo(tmp_path / "n" / "1" / "manifest.json")
    assert found(tmp_path / "n", strict=True) == []
    write_model(tmp_path / "o", MODEL, {"1/model.plan/": ""})
    assert found(tmp_path / "o", strict=True) == ["T4"]


@pytest.mark.parametrize(
    "facts",
    [
        b"[" * 100_000,
        b'{"made": {"plan": 1}}',
        b"\xff",
    ],
)
def test_a_manifest_that_is_none_tells_nothing(tmp_path: Path, facts: bytes) -> None:
    write_model(tmp_path / "m", MODEL.replace("[4]", "[5]"), {**COPY, "1/manifest.json": facts})
    assert found(tmp_path / "m") == []


def test_an_old_plan_and_one_of_an_unknown_layout_may_load(tmp_path: Path) -> None:
    for name, start in (("old", b"ptrt"), ("layout", b"ftrt\x09")):
        write_model(tmp_path / name, MODEL, {"1/model.plan": start.ljust(64, b"\0")})
        assert found(tmp_path / name) == []


BY_GPU = 'cc_model_filenames { key: "9.0" value: "h100.plan" }'


def test_the_file_that_a_gpu_chooses_is_not_looked_for(tmp_path: Path) -> None:
    write_model(tmp_path / "m", MODEL + BY_GPU, {"1/": ""})
    assert found(tmp_path / "m", strict=True) == []
    assert lint_repository(tmp_path, strict=True, host=Host(release="26.04", gpus=1)) == []


@pytest.mark.parametrize("gpus", [1, None])
def test_the_file_that_a_declared_gpu_chooses_is_judged(tmp_path: Path, gpus: int | None) -> None:
    write_model(tmp_path / "m", MODEL + BY_GPU, {"1/model.plan": HEADER})
    hosts = {minor: Host(gpus=gpus, compute_capability=(9, minor)) for minor in (0, 1)}
    (completed,) = lint_repository(tmp_path, host=hosts[0])
    assert (completed.rule, Path(completed.file).name) == ("T3", "h100.plan")
    (finding,) = lint_repository(tmp_path, strict=True, host=hosts[0])
    assert (finding.rule, finding.field) == ("T2", 'cc_model_filenames["9.0"]')
    assert lint_repository(tmp_path, strict=True, host=hosts[1]) == []
    (tmp_path / "m" / "1" / "h100.plan").write_bytes(b"no plan")
    assert [one.rule for one in lint_repository(tmp_path, strict=True, host=hosts[0])] == ["T4"]


@pytest.mark.parametrize(
    ("release", "rules"),
    [("26.04", []), ("25.03", ["T3"]), ("23.10", ["T3"]), ("26.07", [])],
)
def test_a_declared_server_has_a_tensorrt(tmp_path: Path, release: str, rules: list[str]) -> None:
    # Built by 10.16.1; a version-compatible plan of it loads in 11.
    write_model(tmp_path / "m", MODEL, COPY)
    assert [one.rule for one in lint_repository(tmp_path, host=Host(release=release, gpus=1))] == rules


@pytest.mark.parametrize(
    ("capability", "level", "rules"),
    [
        ((9, 0), "NONE", []),
        ((8, 0), "NONE", ["T3"]),
        ((8, 0), "SAME_COMPUTE_CAPABILITY", ["T3"]),
        ((8, 0), "AMPERE_PLUS", []),
        (None, "NONE", []),
    ],
)
def test_a_plan_is_for_the_gpu_that_built_it(
    tmp_path: Path, capability: tuple[int, int] | None, level: str, rules: list[str]
) -> None:
    manifest = json.loads(str(COPY["1/manifest.json"]))
    manifest["made"]["plan"]["gpu"] = {"compute_capability": "9.0"}
    manifest["options"] = {"tensorrt": {"hardware_compatibility_level": level}}
    write_model(tmp_path / "m", MODEL, {**COPY, "1/manifest.json": json.dumps(manifest)})
    findings = lint_repository(tmp_path, host=Host(gpus=1, compute_capability=capability))
    assert [one.rule for one in findings] == rules
    assert all("capability 9.0, the host's have 8.0" in one.fix for one in findings)


def test_a_declared_host_has_gpus(tmp_path: Path) -> None:
    write_model(tmp_path / "auto", MODEL, COPY)
    write_model(tmp_path / "several", devices("0,1"), COPY)

    def errors(gpus: int, release: str = "") -> list[tuple[str, str]]:
        findings = lint_repository(tmp_path, host=Host(release=release, gpus=gpus))
        return [(one.model, one.rule) for one in findings if one.severity == "error"]

    assert errors(2) == []
    assert errors(1) == [("several", "T14")]
    assert errors(0) == [("auto", "T1"), ("several", "T14"), ("several", "T14")]
    # Servers of that time know of one GPU an engine only.
    assert errors(2, "24.10") == [("auto", "T3"), ("several", "T1"), ("several", "T4")]


@pytest.mark.parametrize(
    ("config", "files", "served"),
    [
        (
            TENSORRT,
            COPY,
            (
                "max_batch_size: 8 dynamic_batching { } input { name: 'x' data_type: TYPE_FP32 dims: 4 } "
                "output { name: 'y' data_type: TYPE_FP32 dims: 4 }"
            ),
        ),
        (
            TENSORRT + "input { name: 'x' dims: [-1, 4] }",
            COPY,
            (
                "input { name: 'x' data_type: TYPE_FP32 dims: [-1, 4] } "
                "output { name: 'y' data_type: TYPE_FP32 dims: [-1, 4] }"
            ),
        ),
        (
            TENSORRT + "max_batch_size: 1 " + X + Y,
            COPY,
            "max_batch_size: 1 dynamic_batching { } " + X + Y,
        ),
        (
            TENSORRT + "sequence_batching { } output { name: 'y' }",
            COPY,
            "max_batch_size: 8 sequence_batching { } " + X + "output { name: 'y' data_type: TYPE_FP32 dims: 4 }",
        ),
        (
            BATCHING,
            VECTORISED,
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: 8 } "
            "input { name: 'x' data_type: TYPE_FP32 dims: [3, 8, 8] is_non_linear_format_io: true } " + Y,
        ),
        (
            TENSORRT,
            plan_files([tensor("x", [3, 2]), tensor("y", [3], output=True)], {"x": ([3, 2], [3, 2])}),
            (
                "max_batch_size: 3 dynamic_batching { } input { name: 'x' data_type: TYPE_FP32 dims: 2 } "
                "output { name: 'y' data_type: TYPE_FP32 dims: 1 reshape { } }"
            ),
        ),
    ],
)
def test_the_config_is_completed_as_the_back_end_does(
    tmp_path: Path, config: str, files: dict[str, str | bytes], served: str
) -> None:
    write_model(tmp_path / "m", config, files)
    model = completing(tmp_path / "m")
    assert model.served is not None
    expected = type(model.config)()
    text_format.Parse(served, expected)
    for message in (expected, model.served):
        for name in ("name", "backend", "platform", "default_model_filename", "version_policy"):
            message.ClearField(name)
    assert model.served == expected


def test_what_is_not_known_is_not_completed(tmp_path: Path) -> None:
    write_model(tmp_path / "none", TENSORRT, {"1/model.plan": HEADER})
    write_model(tmp_path / "shape", TENSORRT, shaped())
    write_model(tmp_path / "cpu", TENSORRT + "instance_group { kind: KIND_CPU }", COPY)
    assert completing(tmp_path / "none").served is None
    # The batch is then in the values of the shape tensor.
    assert completing(tmp_path / "shape").served is None
    cpu = completing(tmp_path / "cpu")
    assert cpu.served == cpu.config


def test_every_version_that_is_served_is_compared(tmp_path: Path) -> None:
    second = {path.replace("1/", "2/"): content for path, content in STATIC.items()}
    config = MODEL + X.replace('"x"', '"z"') + Y.replace('"y"', '"w"') + "version_policy { all { } }"
    write_model(tmp_path / "m", config, {**COPY, **second})
    assert set(found(tmp_path / "m", strict=True)) == {"T23", "I13", "I14"}


def test_tensorrt_is_asked_where_it_is(tmp_path: Path) -> None:
    write_model(tmp_path / "m", MODEL.replace("[4]", "[5]"), {"1/": ""})
    path = tmp_path / "m" / "1" / "model.plan"
    write_plan(
        path,
        tensors=[("x", "float32", [-1, 4]), ("y", "float32", [-1, 4])],
        outputs={"y": ["negative", "x"]},
        profiles=[{"x": ([1, 4], [4, 4], [8, 4])}],
    )
    assert found(tmp_path / "m", strict=True) == []
    with stand_in_tensorrt():
        assert found(tmp_path / "m", strict=True) == ["T38", "T38"]
        facts = json.loads(path.read_bytes()[28:])
        facts["tensors"][0]["format"] = "CHW4"
        path.write_bytes(path.read_bytes()[:28] + json.dumps(facts).encode())
        assert found(tmp_path / "m", strict=True) == ["T27", "T38", "T38"]
        path.write_bytes(path.read_bytes()[:40])
        assert found(tmp_path / "m", strict=True) == []  # no reason that every TensorRT would have
    with stand_in_tensorrt("8.6.0"):
        assert found(tmp_path / "m", strict=True) == []


def test_parameters_of_other_back_ends_mean_nothing(tmp_path: Path) -> None:
    config = 'backend: "other"\n' + X + Y + parameter("enable_multi_device", "true")
    write_model(tmp_path / "m", config, {"1/": ""})
    assert found(tmp_path / "m", strict=True) == []
