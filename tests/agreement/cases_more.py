"""What the tables leave out: hosts, labels, and ensembles of ensembles, of versions and of what does not load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agreement.case import Case, Files, Origin, in_both_modes, write_model
from generator.lint.cases import (
    BATCHED,
    BATCHING,
    MODEL_PY,
    ONNX_BATCHING,
    PYTHON,
    START,
    X,
    Y,
    sequence,
)
from generator.lint.ensemble_cases import VALID, ensemble

_PYTHON_FILES: Files = {"1/model.py": MODEL_PY}
_LABELLED = 'output { name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "l.txt" }\n'
_STRATEGY = 'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "%s" } }\n'
_FIRST = 'model_name: "first" model_version: -1'
_BROKEN: tuple[tuple[str, str, Files], ...] = (
    ("G4", PYTHON + "instance_group { kind: KIND_GPU }", _PYTHON_FILES),
    ("G6", ONNX_BATCHING + "instance_group [{ kind: KIND_CPU }, { kind: KIND_GPU gpus: 0 }]", BATCHED),
    ("M5", 'backend: "openvino"\n' + X + Y, _PYTHON_FILES),
    ("M5", 'backend: "tensorrt_plan"\n' + X + Y, _PYTHON_FILES),
    ("M6", PYTHON + 'runtime: "libtriton_other.so"', _PYTHON_FILES),
    ("M6", 'backend: "openvino" runtime: "libtriton_openvino.so"\n' + X + Y, _PYTHON_FILES),
    ("M8", PYTHON + 'runtime: "model.py"', _PYTHON_FILES),
    ("M10", PYTHON + _STRATEGY % "REPOSITORY/none.so", _PYTHON_FILES),
    ("P3", PYTHON, {**_PYTHON_FILES, "notes": "-> nowhere"}),
    ("C12", VALID + "model_transaction_policy { decoupled: true } response_cache { enable: true }", {"1/": ""}),
    ("C12", VALID.replace('"first"', '"streaming"') + "response_cache { enable: true }", {"1/": ""}),
    ("E1", VALID.replace('platform: "ensemble"', ""), {"1/model.py": MODEL_PY}),
    ("M13", 'backend: "python"\n' + X + _LABELLED + _LABELLED, {**_PYTHON_FILES, "l.txt": "cat\n"}),
    ("S27", sequence(START) + _STRATEGY % "/none.so", _PYTHON_FILES),
    ("X4", VALID.replace('"second"', '"unloadable"'), {"1/": ""}),
    ("X3", VALID.replace('"second"', '"misfit"'), {"1/": ""}),
    ("X5", VALID.replace(_FIRST, 'model_name: "first" model_version: 7'), {"1/": ""}),
    ("X5", VALID.replace(_FIRST, 'model_name: "first"'), {"1/": ""}),
    (
        "X5",
        VALID.replace('"second"', '"first"').replace("model_version: -1", "model_version: 7", 1).replace("-1", "9"),
        {"1/": ""},
    ),
    ("X1", VALID.replace('"second"', '"unparsable"'), {"1/": ""}),
    ("X1", VALID.replace('"first"', '"nowhere"').replace('"second"', '"gone"'), {"1/": ""}),
    (
        "X14",
        VALID.replace('"first"', '"streaming"')
        .replace('"second"', '"pair"')
        .replace('input_map { key: "x" value: "t" }', 'input_map [{ key: "x" value: "t" }, { key: "z" value: "a" }]'),
        {"1/": ""},
    ),
    ("X8", VALID.replace('"second"', '"pair"'), {"1/": ""}),
    ("X12", VALID.replace("TYPE_FP32", "TYPE_INT32", 1), {"1/": ""}),
    ("X13", VALID.replace("dims: [4]", "dims: [5]", 1), {"1/": ""}),
    ("X13", VALID.replace("dims: [4]", "dims: [4] reshape { shape: [2, 2] }", 1), {"1/": ""}),
    ("X6", VALID.replace("max_batch_size: 4", "max_batch_size: 5"), {"1/": ""}),
    ("C2", VALID + 'backend: "python"', {"1/": ""}),
    ("V4", VALID, {"0x/": ""}),
    ("V4", PYTHON, {"0001/model.py": MODEL_PY, "v2/model.py": MODEL_PY}),
    ("V4", PYTHON + "version_policy { latest { } }", _PYTHON_FILES),
    ("A1", X + Y, {"1/": ""}),
    ("C1", 'platform: "tensorflow"\n' + X + Y, _PYTHON_FILES),
    ("C1", 'platform: "custom"\n' + X + Y, _PYTHON_FILES),
    ("C3", 'backend: "pytorch" platform: "onnxruntime_onnx"\n' + X + Y, _PYTHON_FILES),
)
_VALID: tuple[tuple[str, str, Files], ...] = (
    ("G4", PYTHON + "instance_group { kind: KIND_AUTO }", _PYTHON_FILES),
    ("G4", PYTHON + "instance_group { gpus: [0] }", _PYTHON_FILES),
    ("M13", 'backend: "python"\n' + X + _LABELLED, {**_PYTHON_FILES, "l.txt": "cat\n"}),
    ("X3", VALID.replace('"second"', '"inner"'), {"1/": ""}),
    ("X5", VALID.replace(_FIRST, 'model_name: "first" model_version: 1'), {"1/": ""}),
    ("X8", VALID.replace('"second"', '"lenient"'), {"1/": ""}),
    ("X13", VALID.replace("dims: [4]", "dims: [-1]", 1), {"1/": ""}),
    ("X14", VALID.replace('"first"', '"streaming"'), {"1/": ""}),
    ("M10", PYTHON + _STRATEGY % "", _PYTHON_FILES),
    ("X6", VALID.replace("max_batch_size: 4", "max_batch_size: 2"), {"1/": ""}),
    (
        "X6",
        ensemble(
            head='platform: "ensemble"\n',
            io=VALID.split("ensemble_scheduling")[0].split("\n", 1)[1].replace("dims: [4]", "dims: [-1, 4]"),
        ),
        {"1/": ""},
    ),
    ("E1", VALID, {"3/": "", "1/": ""}),
    ("V4", PYTHON, {"0/model.py": MODEL_PY}),
    (
        "V4",
        PYTHON + "version_policy { specific { versions: [2, 9] } }",
        {"1/model.py": MODEL_PY, "2/model.py": MODEL_PY},
    ),
    ("C3", PYTHON + 'platform: "pytorch_libtorch"', _PYTHON_FILES),
    ("C6", BATCHING + "dynamic_batching { preferred_batch_size: [8, 8, 1] }", _PYTHON_FILES),
    (
        "I9",
        'backend: "python"\n' + Y + 'input { name: "x" data_type: TYPE_FP32 dims: [-1, 3, 4] format: FORMAT_NCHW }',
        _PYTHON_FILES,
    ),
)


def more_cases() -> Iterator[Case]:
    """Yield them in both modes; what an ensemble is made of is in ``write_composing``."""
    origins: tuple[tuple[Origin, tuple[tuple[str, str, Files], ...]], ...] = (
        ("broken", _BROKEN),
        ("neighbour", _VALID),
    )
    for origin, cases in origins:
        for number, (rule, config, files) in enumerate(cases):
            yield from in_both_modes(rule, 2000 + number, origin, config, files)


def write_composing(repository: Path) -> None:
    """Write models that the ensembles of this module are made of, beside those of the ensembles' table."""
    optional = 'input { name: "z" data_type: TYPE_FP32 dims: [4] optional: true }\n'
    inner = VALID.replace('name: "a"', 'name: "x"').replace('"a"', '"x"').replace('"b"', '"y"')
    models: dict[str, tuple[str, Files]] = {
        "unloadable": (PYTHON + "instance_group { kind: KIND_CPU gpus: 0 } max_batch_size: 4", _PYTHON_FILES),
        "unparsable": (PYTHON + "max_batch: 4", _PYTHON_FILES),
        "streaming": (PYTHON + "max_batch_size: 4 model_transaction_policy { decoupled: true }", _PYTHON_FILES),
        "lenient": (PYTHON + "max_batch_size: 4\n" + optional, _PYTHON_FILES),
        "inner": (inner, {"1/": ""}),
        "misfit": (inner.replace("max_batch_size: 4", "max_batch_size: 5"), {"1/": ""}),
    }
    for name, (config, files) in models.items():
        write_model(repository / name, config, files)
