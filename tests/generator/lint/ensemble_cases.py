"""Ensembles broken alone, over three small composing models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from generator.lint.cases import MODEL_PY, write_model

_FP32 = "data_type: TYPE_FP32 dims: [4]"
_STEPS = """\
step { model_name: "first" model_version: -1 input_map { key: "x" value: "a" } output_map { key: "y" value: "t" } }
step { model_name: "second" model_version: -1 input_map { key: "x" value: "t" } output_map { key: "y" value: "b" } }"""
_IO = f'input {{ name: "a" {_FP32} }}\noutput {{ name: "b" {_FP32} }}\n'
_HEAD = 'platform: "ensemble" max_batch_size: 4\n'


def ensemble(steps: str = _STEPS, *, io: str = _IO, head: str = _HEAD) -> str:
    return f"{head}{io}ensemble_scheduling {{\n{steps}\n}}\n"


VALID = ensemble()


@dataclass(frozen=True)
class EnsembleCase:
    """See ``Case``."""

    rule: str
    broken: str
    field: str | None = None
    valid: str = VALID

    def write(self, repository: Path, name: str, *, broken: bool) -> None:
        # An ensemble needs a version directory, which may be empty.
        write_model(repository / name, (self.broken if broken else self.valid).replace("SELF", name), {"1/": ""})


def write_repository(repository: Path) -> None:
    """Write the composing models: two alike, the others off in one thing each."""
    fp32 = f'input {{ name: "x" {_FP32} }}'
    models = {
        "first": (fp32, _FP32),
        "second": (fp32, _FP32),
        "other": ('input { name: "x" data_type: TYPE_INT32 dims: [4] }', _FP32),
        "longer": (fp32, "data_type: TYPE_FP32 dims: [5]"),
        "pair": (fp32 + f' input {{ name: "z" {_FP32} }}', _FP32),
    }
    for name, (inputs, output) in models.items():
        config = f'backend: "python" max_batch_size: 4 {inputs} output {{ name: "y" {output} }}'
        write_model(repository / name, config, {"1/model.py": MODEL_PY})


_FIRST, _SECOND = _STEPS.split("\n")
ENSEMBLES = [
    EnsembleCase("E1", ensemble(head='backend: "python" max_batch_size: 4\n')),
    EnsembleCase("E2", ensemble(head=_HEAD + "instance_group { kind: KIND_CPU }\n"), "instance_group"),
    EnsembleCase("E3", ensemble(head=_HEAD + "optimization { }\n"), "optimization"),
    EnsembleCase("E4", ensemble(head=_HEAD + 'model_warmup { name: "w" }\n'), "model_warmup"),
    EnsembleCase("E5", ensemble(""), "ensemble_scheduling"),
    EnsembleCase("E6", ensemble(_STEPS.replace('model_name: "second"', "")), "ensemble_scheduling.step[1]"),
    EnsembleCase("E7", ensemble(_STEPS.replace('input_map { key: "x" value: "a" }', ""))),
    EnsembleCase("E8", ensemble(_STEPS.replace('output_map { key: "y" value: "b" }', ""))),
    EnsembleCase("E9", ensemble(_STEPS.replace('"b"', '"t"'))),
    EnsembleCase("E10", ensemble(io=_IO + f'input {{ name: "c" {_FP32} }}\n'), "input[1].name"),
    EnsembleCase("E11", ensemble(io=_IO + f'output {{ name: "c" {_FP32} }}\n'), "output[1].name"),
    # A step that waits for its own output: nothing else is missing.
    EnsembleCase("E12", ensemble(_STEPS.replace('key: "x" value: "t"', 'key: "x" value: "b"'))),
    EnsembleCase("E13", ensemble(_STEPS.replace('key: "x" value: "t"', 'key: "x" value: "lost"'))),
    EnsembleCase("E13", ensemble(_STEPS.replace('key: "x" value: "t"', 'key: "x" value: ""'))),
    EnsembleCase(
        "E14",
        ensemble(
            _STEPS.replace(
                'output_map { key: "y" value: "t" }', 'output_map [{ key: "y" value: "t" }, { key: "z" value: "q" }]'
            )
        ),
    ),
    EnsembleCase("C13", _HEAD + _IO, "platform"),
    EnsembleCase("X1", ensemble(_STEPS.replace('"second"', '"third"')), "ensemble_scheduling.step[1].model_name"),
    EnsembleCase("X2", ensemble(_STEPS.replace('"second"', '"SELF"'))),
    EnsembleCase("X6", VALID.replace("max_batch_size: 4", "max_batch_size: 8"), "max_batch_size"),
    EnsembleCase("X7", ensemble(_STEPS.replace('key: "x" value: "t"', 'key: "q" value: "t"'))),
    EnsembleCase(
        "X8",
        ensemble(_FIRST.replace('"first"', '"pair"') + "\n" + _SECOND),
    ),
    EnsembleCase("X10", ensemble(_STEPS.replace('key: "y" value: "t"', 'key: "q" value: "t"'))),
    EnsembleCase("X12", ensemble(_STEPS.replace('"second"', '"other"'))),
    EnsembleCase("X13", ensemble(_STEPS.replace('"first"', '"longer"'))),
]
