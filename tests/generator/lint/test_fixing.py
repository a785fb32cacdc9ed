"""``--fix``: what it mends, what it leaves, and that it never makes anything worse."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from generator.lint.cases import (
    BATCHED,
    BATCHING,
    FIXED,
    FLAT,
    MODEL_PY,
    ONNX_BATCHING,
    PYTHON,
    SCALAR,
    START,
    Case,
    X,
    Y,
    onnx_bytes,
    onnx_files,
    onnx_tensors,
    write_model,
)
from generator.lint.ensemble_cases import ENSEMBLES, VALID, EnsembleCase, write_repository
from generator.lint.table import CASES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.lint import Finding, lint_repository, open_repositories
from tritonforge_generator.lint.fixing import Mended, mend_repositories
from tritonforge_generator.lint.mending import MENDS
from tritonforge_generator.lint.rule import RULES

FP32 = "data_type: TYPE_FP32 dims: "
ENSEMBLE_FILES: dict[str, str | bytes] = {"1/": ""}


def mended(repository: Path, *, strict: bool = False) -> list[Mended]:
    return mend_repositories(*open_repositories(repository, strict=strict))


def errors(findings: list[Finding]) -> Counter[tuple[str, str]]:
    return Counter((finding.model, finding.rule) for finding in findings if finding.severity == "error")


# Rule, config, what is cut out, what stands in its place.
REPLACED: list[tuple[str, str, str, str, Mapping[str, str | bytes]]] = [
    ("C1", 'platform: "python" # mine\n' + X + Y, "platform:", "backend:", {"1/model.py": MODEL_PY}),
    ("C2", 'backend: "python"\n' + VALID, 'backend: "python"\n', "", ENSEMBLE_FILES),
    ("C3", ONNX_BATCHING + 'platform: "tensorrt_plan"\n', 'platform: "tensorrt_plan"\n', "", BATCHED),
    ("C3", 'platform: "libtorch", backend: "pytorch"', 'platform: "libtorch", ', "", {"1/model.pt": b""}),
    ("C5", BATCHING + "dynamic_batching { preferred_batch_size: [ 0, 8 ] }", "0, ", "", {"1/model.py": MODEL_PY}),
    ("C6", BATCHING + "dynamic_batching { preferred_batch_size: [ 8, 9 ] }", ", 9", "", {"1/model.py": MODEL_PY}),
    (
        "C6",
        BATCHING + "dynamic_batching { preferred_batch_size: 9 max_queue_delay_microseconds: 1 }",
        "preferred_batch_size: 9 ",
        "",
        {"1/model.py": MODEL_PY},
    ),
    (
        "C6",
        BATCHING + "dynamic_batching { preferred_batch_size: 8; preferred_batch_size: 9; }",
        "preferred_batch_size: 9; ",
        "",
        {"1/model.py": MODEL_PY},
    ),
    (
        "C6",
        BATCHING + "dynamic_batching {\n  preferred_batch_size: [\n    8, # eight\n    9  # nine\n  ]\n}\n",
        ", # eight\n    9 ",
        " # eight\n     ",
        {"1/model.py": MODEL_PY},
    ),
    (
        "C6",
        BATCHING + "dynamic_batching {\n  preferred_batch_size: [\n    8 # a, b\n    ,9 # c, d\n  ]\n}\n",
        "    ,9 # c",
        "     # c",
        {"1/model.py": MODEL_PY},
    ),
    (
        "C11",
        BATCHING + f"response_cache {{ enable: true }}\nsequence_batching {{ {START} }}\n",
        "response_cache { enable: true }\n",
        "",
        {"1/model.py": MODEL_PY},
    ),
    (
        "S11",
        BATCHING + "sequence_batching { oldest { preferred_batch_size: [ -1 ] } }",
        "preferred_batch_size: [ -1 ] ",
        "",
        {"1/model.py": MODEL_PY},
    ),
    (
        "S12",
        BATCHING + "sequence_batching { oldest { preferred_batch_size: [ 4,9,8 ] } }",
        "9,",
        "",
        {"1/model.py": MODEL_PY},
    ),
    ("E2", VALID + "instance_group { kind: KIND_CPU }\n", "instance_group { kind: KIND_CPU }\n", "", ENSEMBLE_FILES),
    ("E2", VALID + "instance_group [ { }, { } ] # two\n", "instance_group [ { }, { } ] ", "", ENSEMBLE_FILES),
    ("E3", VALID + "optimization { }", "optimization { }", "", ENSEMBLE_FILES),
    ("E4", VALID + 'model_warmup { name: "w" }\n', 'model_warmup { name: "w" }\n', "", ENSEMBLE_FILES),
    ("R1", 'name: "other" # note\n' + PYTHON, '"other"', '"m"', {"1/model.py": MODEL_PY}),
    ("G9", PYTHON + 'instance_group { profile: [ "0", "1" ] count: 1 }', 'profile: [ "0", "1" ] ', "", {"1/": b""}),
    (
        "I10",
        PYTHON.replace("dims: [4] }\n", "dims: [4] is_shape_tensor: true }\n", 1),
        "is_shape_tensor: true ",
        "",
        {"1/model.py": MODEL_PY},
    ),
    (
        "I11",
        PYTHON.replace("[4]", "[1, 2, 4]").replace("4] }\n", "4] is_non_linear_format_io: true }\n", 1),
        "is_non_linear_format_io: true ",
        "",
        {"1/model.py": MODEL_PY},
    ),
    ("O16", ONNX_BATCHING.replace("TYPE_FP32", "TYPE_INT8", 1), "TYPE_INT8", "TYPE_FP32", BATCHED),
    (
        "O17",
        onnx_tensors(FP32 + "[4]", "data_type: TYPE_INT8 dims: [4]"),
        "TYPE_INT8",
        "TYPE_FP32",
        BATCHED,
    ),
    ("O19", onnx_tensors(FP32 + "[4]", FP32 + "[1]", batch=0), "4", "1", SCALAR),
    ("O21", onnx_tensors(FP32 + "[ 5 ]", FP32 + "4"), "5", "4", BATCHED),
    ("O21", onnx_tensors(FP32 + "[ 1, 4 ]", FP32 + "4"), "1, 4", "4", BATCHED),
    ("O21", onnx_tensors(FP32 + "[ 1, # one\n 4, 4 ]", FP32 + "4"), "1, # one\n 4, 4", "4 # one\n ", BATCHED),
    ("O22", onnx_tensors(FP32 + "4", FP32 + "[ 2, 4 ]", batch=0), "dims: 4", "dims: [ 2, 4 ]", FIXED),
    ("O22", onnx_tensors(FP32 + "[ 4 ]", FP32 + "[ 2, 4 ]", batch=0), "[ 4 ]", "[ 2, 4 ]", FIXED),
    ("O22", onnx_tensors(FP32 + "5", FP32 + "[ 5 ]", batch=0), "[ 5 ]", "[ -1 ]", FLAT),
    (
        "L2",
        VALID.replace(" model_version: -1", "", 1),
        'model_name: "first"',
        'model_name: "first" model_version: -1',
        ENSEMBLE_FILES,
    ),
    (
        "L2",
        VALID.replace('step { model_name: "first" model_version: -1', 'step {\r\n  model_name: "first",\r\n ', 1),
        'model_name: "first",',
        'model_name: "first",\r\n  model_version: -1',
        ENSEMBLE_FILES,
    ),
    ("L8", PYTHON + "optimization { cuda { graphs: true } }", "cuda { graphs: true } ", "", {"1/model.py": MODEL_PY}),
    ("L9", PYTHON + "instance_group { count: 0 }", "count: 0 ", "", {"1/model.py": MODEL_PY}),
]


@pytest.mark.parametrize(("rule", "config", "old", "new", "files"), REPLACED)
def test_a_broken_place_is_mended_and_nothing_else_is_touched(
    tmp_path: Path, rule: str, config: str, old: str, new: str, files: Mapping[str, str | bytes]
) -> None:
    write_repository(tmp_path)
    assert config.count(old) >= 1
    write_model(tmp_path / "m", config, files)
    assert rule in {finding.rule for finding in lint_repository(tmp_path, models=["m"], strict=True)}

    (change,) = mended(tmp_path, strict=True)

    assert change.rules == (rule,)
    assert change.after == config.replace(old, new, 1)
    change.write()
    assert (tmp_path / "m" / "config.pbtxt").read_bytes() == change.after.encode()
    assert rule not in {finding.rule for finding in lint_repository(tmp_path, models=["m"], strict=True)}
    assert mended(tmp_path, strict=True) == []


def test_every_mend_is_tested_and_belongs_to_a_rule() -> None:
    of_plans = {"T35", "T36", "T38", "T39"}
    assert set(MENDS) == {rule for rule, *_ in REPLACED} | of_plans
    assert set(MENDS) <= set(RULES)


@pytest.mark.parametrize(
    ("config", "files"),
    [
        # The owner decides whether to batch, which group or name is meant, which of two shapes is wrong.
        (ONNX_BATCHING.replace("dynamic_batching { }", ""), BATCHED),
        (PYTHON + "instance_group { kind: KIND_CPU gpus: 0 }", {"1/model.py": MODEL_PY}),
        (ONNX_BATCHING.replace('"x"', '"X"'), BATCHED),
        (onnx_tensors(FP32 + "[4] reshape { shape: [1, 4] }", FP32 + "[4]"), BATCHED),
        (PYTHON + "dynamic_batching { }", {"1/model.py": MODEL_PY}),
        ('platform: "custom"', {"1/model.py": MODEL_PY}),
        # A batch dimension of one value has no shape that `dims` could say.
        (
            onnx_tensors(FP32 + "[1]", FP32 + "[1]"),
            onnx_files(onnx_bytes({"x": ("FLOAT", ["N"])}, {"y": ("FLOAT", ["N"])})),
        ),
        (BATCHING.replace("dims: [4]", 'dims: [4] label_filename: "none"'), {"1/model.py": MODEL_PY}),
    ],
)
def test_what_the_owner_must_decide_is_left(tmp_path: Path, config: str, files: Mapping[str, str | bytes]) -> None:
    write_model(tmp_path / "m", config, files)
    assert lint_repository(tmp_path) != []
    assert mended(tmp_path) == []


def test_several_mends_lead_to_a_model_that_loads(tmp_path: Path) -> None:
    config = (
        '# Kept.\nname: "other"  # kept too\nplatform: "onnxruntime"\nmax_batch_size: 8\n\n'
        'input [\n  {\n    name: "x"\n    data_type: TYPE_INT32  # why\n    dims: [ 3, 4 ]\n  }\n]\n'
        'output { name: "y" data_type: TYPE_FP32 dims: 5 }\n'
        "dynamic_batching {\n  preferred_batch_size: [ 4, # four\n    9, 8, 16 ]\n}\n"
    )
    write_model(tmp_path / "m", config, BATCHED)

    (change,) = mended(tmp_path)

    assert change.after == (
        '# Kept.\nname: "m"  # kept too\nbackend: "onnxruntime"\nmax_batch_size: 8\n\n'
        'input [\n  {\n    name: "x"\n    data_type: TYPE_FP32  # why\n    dims: [ 4 ]\n  }\n]\n'
        'output { name: "y" data_type: TYPE_FP32 dims: 4 }\n'
        "dynamic_batching {\n  preferred_batch_size: [ 4, # four\n    8 ]\n}\n"
    )
    change.write()
    assert lint_repository(tmp_path) == []
    assert "-platform" in change.diff()
    assert "+backend" in change.diff()


def test_what_would_uncover_an_error_is_not_done(tmp_path: Path) -> None:
    write_model(tmp_path / "m", 'name: "n" platform: "onnxruntime"\n' + X + Y, {"1/": ""})
    (change,) = mended(tmp_path)
    # As `backend` it would be told that there is no model.onnx.
    assert change.rules == ("R1",)
    assert "platform" in change.after


def test_an_ensemble_that_would_break_keeps_its_models_as_they_are(tmp_path: Path) -> None:
    maps = 'input_map { key: "x" value: "a" } output_map { key: "y" value: "b" }'
    step = f'step {{ model_name: "m" model_version: -1 {maps} }}'
    integers = 'input { name: "a" data_type: TYPE_INT32 dims: [4] } output { name: "b" data_type: TYPE_FP32 dims: [4] }'
    config = f'platform: "ensemble" max_batch_size: 8 {integers} ensemble_scheduling {{ {step} }}'
    write_model(tmp_path / "e", config, {"1/": ""})
    write_model(tmp_path / "m", ONNX_BATCHING.replace("TYPE_FP32", "TYPE_INT32", 1), BATCHED)
    write_model(tmp_path / "other", ONNX_BATCHING.replace("TYPE_FP32", "TYPE_INT32", 1), BATCHED)
    # The type of the graph would be right for the model and wrong for the ensemble, whose owner has to decide.
    assert [change.path.parent.name for change in mended(tmp_path)] == ["other"]


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    write_model(tmp_path / "m", 'name: "n"\n' + PYTHON, {"1/model.py": MODEL_PY})
    (change,) = mended(tmp_path)
    (tmp_path / "m" / "config.pbtxt").write_text("# edited\n")
    with pytest.raises(RepositoryError, match="has changed meanwhile"):
        change.write()
    assert (tmp_path / "m" / "config.pbtxt").read_text() == "# edited\n"
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"1", "config.pbtxt"}


def test_links_and_modes_stay(tmp_path: Path) -> None:
    write_model(tmp_path / "m", None, {"1/model.py": MODEL_PY, "shared": 'name: "n"\n' + PYTHON})
    (tmp_path / "m" / "shared").chmod(0o640)
    (tmp_path / "m" / "config.pbtxt").symlink_to("shared")
    (change,) = mended(tmp_path)
    change.write()
    assert (tmp_path / "m" / "config.pbtxt").is_symlink()
    assert (tmp_path / "m" / "shared").read_text() == 'name: "m"\n' + PYTHON
    assert (tmp_path / "m" / "shared").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("config", "after"),
    [
        (
            'instance_group [\r\n  {\r\n    # two at night\r\n    count: 2 # "#"\r\n  }\r\n]\r\n# end\r\n',
            '# two at night\r\n# "#"\r\n# end\r\n',
        ),
        ("instance_group { count: 2 # why\n } optimization { } # both\n", "# why\n# both\n"),
        ("  model_warmup { name: '# none' # one\n  } # two", "# one\n# two"),
    ],
)
def test_comments_inside_of_what_goes_stay(tmp_path: Path, config: str, after: str) -> None:
    write_repository(tmp_path)
    write_model(tmp_path / "m", VALID + config, ENSEMBLE_FILES)
    (change,) = mended(tmp_path)
    kept = change.after.removeprefix(VALID)
    assert [line.strip() for line in kept.splitlines()] == after.splitlines()
    assert kept.count("\r\n") == after.count("\r\n")


def test_a_step_keeps_a_version_0_that_is_there(tmp_path: Path) -> None:
    write_repository(tmp_path)
    (tmp_path / "first" / "1").rename(tmp_path / "first" / "0")
    write_model(tmp_path / "m", VALID.replace(" model_version: -1", ""), ENSEMBLE_FILES)
    (change,) = mended(tmp_path)
    assert change.after == VALID.replace(" model_version: -1", "", 1)


def test_a_config_that_models_share_is_left(tmp_path: Path) -> None:
    shared: dict[str, str | bytes] = {"1/model.py": MODEL_PY}
    write_model(tmp_path / "a", 'name: "a"\n' + PYTHON, shared)
    for name in ("b", "c", "alone"):
        write_model(tmp_path / name, None, shared)
    (tmp_path / "b" / "config.pbtxt").symlink_to("../a/config.pbtxt")
    (tmp_path / "c" / "config.pbtxt").hardlink_to(tmp_path / "a" / "config.pbtxt")
    (tmp_path / "alone" / "config.pbtxt").write_text('name: "other"\n' + PYTHON)
    assert [change.path.parent.name for change in mended(tmp_path)] == ["alone"]


def test_a_protected_file_is_not_replaced(tmp_path: Path) -> None:
    write_model(tmp_path / "m", 'name: "n"\n' + PYTHON, {"1/model.py": MODEL_PY})
    (tmp_path / "m" / "config.pbtxt").chmod(0o444)
    (change,) = mended(tmp_path)
    with pytest.raises(RepositoryError, match="is write-protected"):
        change.write()
    assert (tmp_path / "m" / "config.pbtxt").read_text() == change.before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    write_model(tmp_path / "m", 'name: "n"\n' + PYTHON, {"1/model.py": MODEL_PY})
    os.chown(tmp_path / "m" / "config.pbtxt", 12345, 54321)
    (change,) = mended(tmp_path)
    change.write()
    known = (tmp_path / "m" / "config.pbtxt").stat()
    assert (known.st_uid, known.st_gid) == (12345, 54321)


@pytest.mark.parametrize("folder", ["repo", "my models"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_diff_can_be_applied(tmp_path: Path, end: str, folder: str) -> None:
    # A form feed and a line separator end lines for Python alone.
    config = f'# \f \u2028 {end}name: "n"{end}' + PYTHON.replace("\n", end)
    write_model(tmp_path / folder / "m", config, {"1/model.py": MODEL_PY})
    (change,) = mended(tmp_path / folder)
    diff = change.diff().replace(f"{tmp_path}/", "")
    subprocess.run(["patch", "-p0", "--quiet"], cwd=tmp_path, input=diff.encode(), check=True)
    assert (tmp_path / folder / "m" / "config.pbtxt").read_bytes() == change.after.encode()


def test_what_is_not_text_or_does_not_parse_is_left(tmp_path: Path) -> None:
    write_model(
        tmp_path / "bytes", None, {"1/model.py": MODEL_PY, "config.pbtxt": b'name: "n" # \xff\n' + PYTHON.encode()}
    )
    write_model(tmp_path / "slip", 'name: "n" inputs { }\n' + PYTHON, {"1/model.py": MODEL_PY})
    assert mended(tmp_path) == []


def test_a_last_line_without_an_end_is_shown_as_such(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON + 'name: "n"', {"1/model.py": MODEL_PY})
    (change,) = mended(tmp_path)
    assert change.diff().endswith(
        '-name: "n"\n\\ No newline at end of file\n+name: "m"\n\\ No newline at end of file\n'
    )


_MAPS = 'input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }'
_FRAGMENTS = [
    *(f'name: "{name}"\n' for name in ("a", "other")),
    *(f'platform: "{name}"\n' for name in ("onnxruntime", "tensorrt_plan", "ensemble", "python", "libtorch")),
    *(f'backend: "{name}"\n' for name in ("onnxruntime", "python", "pytorch")),
    *(
        "max_batch_size: 8\n",
        "max_batch_size: 1 # one\n",
        "# a note\n",
        X,
        Y,
        "optimization { cuda { graphs: true } }\n",
    ),
    'input { name: "x" data_type: TYPE_INT32 dims: [ 3, # three\n 4 ] }\n',
    'output [ { name: "y" data_type: TYPE_INT8 dims: 1 dims: 4 is_shape_tensor: true } ] # out\n',
    "dynamic_batching { preferred_batch_size: [ 0, 4, 16 ] preferred_batch_size: 9 } # batch\n",
    "sequence_batching { oldest { preferred_batch_size: [ -1 ] # none\n } }\n",
    "instance_group [ { count: 0 profile: '0' }, { kind: KIND_CPU count: -1, } ]\n",
    f'ensemble_scheduling {{ step [ {{ model_name: "b" # which\n {_MAPS} }} ] }}\n',
    "response_cache < enable: true > # cached\n",
    'model_warmup { name: "w" # inside\n }\n',
    "optimization { # inside\n graph { level: 1 } } # behind\n",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mending_never_adds_an_error_and_keeps_every_comment(tmp_path: Path, data: st.DataObject) -> None:
    cases: list[Case | EnsembleCase] = [*CASES, *ENSEMBLES]
    texts = st.sampled_from([case.broken for case in cases if case.broken is not None])
    fragments = st.lists(st.sampled_from(_FRAGMENTS), unique=True, max_size=7).map("".join)
    for name in ("a", "b"):
        (tmp_path / name / "1").mkdir(parents=True, exist_ok=True)
        text = data.draw(fragments | texts | st.tuples(texts, fragments).map("\n".join))
        (tmp_path / name / "config.pbtxt").write_bytes(text.encode())
        files: dict[str, str | bytes] = data.draw(
            st.sampled_from([{}, BATCHED, FLAT, {"1/model.py": MODEL_PY.encode()}])
        )
        for file in ("model.onnx", "model.py"):
            content = files.get(f"1/{file}")
            (tmp_path / name / "1" / file).unlink(missing_ok=True)
            if isinstance(content, bytes):
                (tmp_path / name / "1" / file).write_bytes(content)
    strict = data.draw(st.booleans())
    before = lint_repository(tmp_path, strict=strict)

    for change in mended(tmp_path, strict=strict):
        assert change.after.count("#") == change.before.count("#")
        change.write()

    after = lint_repository(tmp_path, strict=strict)
    assert errors(after) <= errors(before)
    assert not {finding.rule for finding in after} & {"P1"} - {finding.rule for finding in before}
    assert mended(tmp_path, strict=strict) == []
