"""Models of the Python back-end: what their ``model.py`` and its settings can get wrong."""

from __future__ import annotations

import textwrap

from generator.lint.cases import BATCHING, INITIAL, MODEL_PY, PYTHON, START, Case, X, sequence, state

FP32 = "'data_type': 'TYPE_FP32'"


def python_file(methods: str = "", *, execute: str = "return []") -> dict[str, str | bytes]:
    """Write a model.py whose class has more methods."""
    body = f"    def execute(self, requests):\n        {execute}\n" + textwrap.indent(methods, "    ")
    return {"1/model.py": f"class TritonPythonModel:\n{body}"}


def completing(*statements: str, given: str = "config") -> dict[str, str | bytes]:
    """Write a model.py with an ``auto_complete_config`` of these statements."""
    lines = textwrap.indent("\n".join(statements), "    ")
    return python_file(f"@staticmethod\ndef auto_complete_config({given}):\n{lines}\n")


def parameter(name: str, value: str, config: str = PYTHON) -> str:
    return config + f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n'


def environment(path: str) -> str:
    return parameter("EXECUTION_ENV_PATH", path)


GIVEN = completing("return config")
POLICY = PYTHON + "model_transaction_policy { decoupled: true }\n"


def completed(rule: str, *statements: str, config: str = PYTHON, valid: str | None = None) -> Case:
    """A case whose neighbour has the same config and keeps it as it is, or another config and the same file."""
    files = completing(*statements, "return config")
    if valid is not None:
        return Case(rule, config, valid, files=files, completing=True)
    return Case(rule, config, config, files=GIVEN, broken_files=files, completing=True)


PYTHON_MODELS = [
    Case("Y1", parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "YES"), parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "no")),
    Case("Y2", environment("env.tar.gz"), PYTHON, 'parameters["EXECUTION_ENV_PATH"].value.string_value'),
    Case("Y2", environment("$$TRITON_MODEL_DIRECTORY/env.tar.gz"), environment("")),
    Case(
        "Y3",
        environment("$$TRITON_MODEL_DIRECTORY/env"),
        environment("$$TRITON_MODEL_DIRECTORY/env"),
        files={"1/model.py": MODEL_PY, "env/bin/activate": ""},
        broken_files={"1/model.py": MODEL_PY, "env/": ""},
    ),
    Case(
        "D6",
        environment("$$TRITON_MODEL_DIRECTORY/env.tar.gz"),
        PYTHON,
        files={"1/model.py": MODEL_PY, "env.tar.gz": "version https://git-lfs.github.com/spec/v1"},
    ),
    Case(
        "Y4",
        PYTHON + 'instance_group { name: "a#b" kind: KIND_CPU }',
        PYTHON + 'instance_group { name: "a-b.c_d" kind: KIND_CPU }',
        "instance_group[0].name",
    ),
    Case(
        "Y6",
        PYTHON + 'default_model_filename: "net.txt"',
        PYTHON + 'default_model_filename: "net.py"',
        "default_model_filename",
        files={"1/net.txt": MODEL_PY, "1/net.py": MODEL_PY},
    ),
    Case("D3", PYTHON, PYTHON, broken_files={"1/model.py": MODEL_PY + "    def execute(self, requests)\n"}),
    Case("D3", PYTHON, PYTHON, broken_files={"1/model.py": MODEL_PY + "\tx = 1\n"}, completing=True),
    Case("D3", PYTHON, PYTHON, broken_files={"1/model.py": MODEL_PY + "return 1\n"}),
    Case("D3", PYTHON, PYTHON, broken_files={"1/model.py": MODEL_PY + "# \0\n"}),
    Case("D4", PYTHON, PYTHON, broken_files={"1/model.py": MODEL_PY.replace("Triton", "My")}),
    Case("D4", PYTHON, PYTHON, broken_files={"1/model.py": ""}, completing=True),
    Case(
        "D4",
        PYTHON,
        PYTHON,
        files={"1/model.py": "from types import SimpleNamespace as TritonPythonModel\n"},
        broken_files={"1/model.py": "from types import SimpleNamespace\n"},
    ),
    Case(
        "D5",
        PYTHON,
        PYTHON,
        files=python_file("def initialize(self, args, *more, flag=1): ...\n"),
        broken_files=python_file("def initialize(self): ...\n"),
    ),
    Case("D5", PYTHON, PYTHON, broken_files=python_file("def initialize(self, a, b, c, d): ...\n")),
    Case("D5", PYTHON, PYTHON, broken_files=python_file("def initialize(self, a, b, c=1): ...\n")),
    Case("D5", PYTHON, PYTHON, broken_files=python_file("def initialize(self, a, *, b, c): ...\n")),
    Case("D5", PYTHON, PYTHON, broken_files=python_file("def initialize(): ...\n")),
    Case("D5", PYTHON, PYTHON, broken_files=python_file("@staticmethod\ndef initialize(): ...\n"), completing=True),
    Case("D5", PYTHON, PYTHON, broken_files=python_file("@classmethod\ndef initialize(cls, a, b): ...\n")),
    Case("D5", PYTHON, PYTHON, broken_files=python_file("def __init__(self, args): ...\n")),
    Case(
        "D7",
        PYTHON,
        PYTHON,
        files=python_file("def auto_complete_config(config):\n    return config\n"),
        broken_files=python_file("def auto_complete_config(self, config):\n    return config\n"),
        completing=True,
    ),
    Case("Y8", PYTHON, PYTHON, files=GIVEN, broken_files=completing("config.as_dict()"), completing=True),
    Case("Y8", PYTHON, PYTHON, files=GIVEN, broken_files=completing("return None"), completing=True),
    completed("Y9", "config.set_max_batch_size(4)", config=BATCHING, valid=PYTHON),
    completed("Y10", "config.set_dynamic_batching()", config=sequence(START), valid=BATCHING),
    completed("Y11", f"config.add_input({{'name': 'x', 'dims': [4], {FP32}, 'shape': [4]}})"),
    completed("Y11", f"config.add_output({{'name': 'y', 'dims': [4], {FP32}, 'optional': True}})"),
    completed("Y12", "config.add_input({'dims': [4]})"),
    completed("Y12", "config.add_input({'name': 'x', 'dims': [4]})"),
    completed("Y12", f"config.add_output({{'name': 'y', {FP32}}})"),
    completed("Y13", "config.add_input({'name': 'x', 'data_type': 'TYPE_INT8', 'dims': [4]})"),
    completed("Y13", "config.add_output({'name': 'y', 'data_type': 'TYPE_INT8', 'dims': [4]})"),
    completed("Y14", f"config.add_input({{'name': 'x', {FP32}, 'dims': [5]}})"),
    completed("Y14", f"config.add_output({{'name': 'y', {FP32}, 'dims': (4,)}})"),
    completed("Y14", f"config.add_input({{'name': 'x', {FP32}, 'dims': [4], 'optional': True}})"),
    completed("Y15", "config.set_model_transaction_policy({'decouple': True})"),
    completed("Y16", "config.set_model_transaction_policy(dict(decoupled=False))", config=POLICY, valid=PYTHON),
    # What the model completes is checked like what is written.
    completed("I2", "pass", config=PYTHON + 'output { name: "z" dims: [4] }', valid=PYTHON),
    completed("I5", f"config.add_input({{'name': 'z', {FP32}, 'dims': [0]}})"),
    completed(
        "I3",
        f"inputs = [{{'name': 'x', {FP32}, 'dims': [4]}}, {{'name': 'z', {FP32}, 'dims': []}}]",
        "names = []",
        "for known in config.as_dict()['input']:",
        "    names.append(known['name'])",
        "for tensor in inputs:",
        "    if tensor['name'] not in names:",
        "        config.add_input(tensor)",
    ),
    Case(
        "M13",
        'backend: "python"\n' + X + 2 * 'output { name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "l.txt" }\n',
        'backend: "python"\n' + X + 'output { name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "l.txt" }\n',
        "output[1].label_filename",
        files={"1/model.py": MODEL_PY, "l.txt": "a\nb\n"},
    ),
    Case("M10", parameter("TRITON_BATCH_STRATEGY_PATH", ""), PYTHON),
    Case("M10", parameter("TRITON_BATCH_STRATEGY_PATH", "strategy.so"), PYTHON),
    Case(
        "S27",
        parameter("TRITON_BATCH_STRATEGY_PATH", "/none.so", sequence(START)),
        sequence(START),
        'parameters["TRITON_BATCH_STRATEGY_PATH"].value.string_value',
    ),
]
_REQUEST = "pb_utils.InferenceRequest(model_name='m')"
PYTHON_WARNINGS = [
    Case(
        "Y7",
        PYTHON,
        PYTHON,
        broken_files={"1/model.py": "class TritonPythonModel:\n    def initialize(self, args): ...\n"},
    ),
    Case("L19", PYTHON, PYTHON, broken_files=python_file("def finalize(self, args): ...\n")),
    Case("L19", PYTHON, PYTHON, broken_files={"1/model.py": "class TritonPythonModel:\n    def execute(self): ...\n"}),
    Case(
        "L20", PYTHON, PYTHON, broken_files=python_file("def initialize(self, args):\n    InferenceRequest().exec()\n")
    ),
    Case("L20", PYTHON, PYTHON, broken_files=python_file(f"def finalize(self):\n    r = {_REQUEST}\n    r.exec()\n")),
    Case(
        "L20",
        PYTHON,
        PYTHON,
        files=python_file(execute=f"{_REQUEST}.exec()"),
        broken_files=python_file(f"def finalize(self):\n    {_REQUEST}.exec()\n"),
    ),
    Case("Y17", POLICY, PYTHON, files=python_file()),
    Case("Y17", POLICY, POLICY, files=python_file(execute="return None"), broken_files=python_file()),
    Case(
        "S24",
        sequence(START + state("use_growable_memory: true use_same_buffer_for_input_output: true", INITIAL))
        + "instance_group { kind: KIND_CPU }",
        sequence(START + state("use_same_buffer_for_input_output: true", INITIAL))
        + "instance_group { kind: KIND_CPU }",
        "sequence_batching.state[0].use_growable_memory",
    ),
]
