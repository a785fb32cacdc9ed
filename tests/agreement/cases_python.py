"""Python models that load: neighbours of what the back-end checks in ``model.py`` and in its settings."""

from __future__ import annotations

from collections.abc import Iterator

from agreement.case import Case, Files, in_both_modes
from generator.lint.cases import BATCHING, MODEL_PY, PYTHON, X

_HEAD = 'backend: "python"\n'
_CLASS = """
import json
import triton_python_backend_utils as utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        {completion}
        return config

    def execute(self, requests):
        return []
"""


def _completing(*lines: str) -> Files:
    return {"1/model.py": _CLASS.format(completion="\n        ".join(lines) or "pass")}


def _parameter(name: str, value: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n'


def _source(text: str) -> Files:
    return {"1/model.py": text}


_IN = "config.add_input({'name': 'x', 'data_type': 'TYPE_FP32', 'dims': [4]})"
_OUT = "config.add_output({'name': 'y', 'data_type': 'TYPE_FP32', 'dims': [4]})"
_VALID: tuple[tuple[str, str | None, Files], ...] = (
    ("Y1", PYTHON + _parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "no"), _source(MODEL_PY)),
    ("Y6", PYTHON + 'default_model_filename: "net.py"', {"1/net.py": MODEL_PY}),
    ("D4", PYTHON, _source(MODEL_PY + "\nclass Other(TritonPythonModel):\n    pass\n")),
    ("D5", PYTHON, _source(MODEL_PY + "\n    def initialize(self, args):\n        self.args = args\n")),
    ("D7", PYTHON, _completing()),
    ("Y9", BATCHING, _completing("config.set_max_batch_size(8)")),
    ("Y9", PYTHON, _completing("config.set_max_batch_size(4)")),
    ("Y10", PYTHON, _completing("config.set_max_batch_size(4)", "config.set_dynamic_batching()")),
    ("Y11", _HEAD, _completing(_IN, _OUT)),
    ("Y12", _HEAD + X, _completing(_OUT)),
    ("Y13", PYTHON, _completing(_IN, _OUT)),
    ("Y15", PYTHON, _completing("config.set_model_transaction_policy({'decoupled': True})")),
    ("Y8", None, _completing(_IN, _OUT)),
    (
        "Y14",
        _HEAD,
        _completing("config.set_max_batch_size(2)", _IN.replace("'dims'", "'optional': True, 'dims'"), _OUT),
    ),
)


def python_cases() -> Iterator[Case]:
    """Yield models that load, beside those of the tables; what a ``model.py`` completes shows in the served config."""
    for number, (rule, config, files) in enumerate(_VALID):
        yield from in_both_modes(rule, 1000 + number, "neighbour", config, files)
