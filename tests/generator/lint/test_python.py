"""What the linter reads of a ``model.py`` without running it, and what it leaves open."""

from __future__ import annotations

from pathlib import Path

import pytest
from generator.lint.cases import MODEL_PY, PYTHON, X, Y, write_model
from generator.lint.python_cases import FP32, completing, parameter, python_file

from tritonforge_generator.lint import lint_model
from tritonforge_generator.lint.model import Model, model_from_directory
from tritonforge_generator.lint.repositories import roots_of

EXECUTE = "    def execute(self, requests): return []\n"


def rules(directory: Path, *, strict: bool = False) -> list[str]:
    return [found.rule for found in lint_model(directory, strict=strict)]


def read(directory: Path) -> Model:
    return model_from_directory(directory, strict=False, roots=roots_of(directory.parent))


def test_a_slip_has_its_place_in_the_python_file(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON, {"1/model.py": "import os\n\nx = = 1\n"})
    (found,) = lint_model(tmp_path / "m")
    assert (found.rule, found.file, found.line, found.column) == ("D3", str(tmp_path / "m/1/model.py"), 3, 5)
    assert found.text == "SyntaxError: invalid syntax (model.py, line 3)"


def test_a_refused_completion_has_its_place_in_the_python_file(tmp_path: Path) -> None:
    files = completing("# what it takes", "config.set_max_batch_size(4)", "return config")
    write_model(tmp_path / "m", PYTHON + "max_batch_size: 8", files)
    (found,) = lint_model(tmp_path / "m")
    assert (found.rule, found.file, found.line, found.column) == ("Y9", str(tmp_path / "m/1/model.py"), 7, 9)


def test_a_python_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    write_model(tmp_path / "gone", PYTHON, {"1/weights.bin": ""})
    write_model(tmp_path / "renamed", PYTHON + 'default_model_filename: "net.py"', {"1/net.py": MODEL_PY})
    (found,) = lint_model(tmp_path / "gone")
    assert (found.rule, found.text) == ("Y5", f"Python model file not found in '{tmp_path}/gone/1/model.py'")
    assert rules(tmp_path / "renamed") == []


def test_a_batching_strategy_that_is_missing_is_an_error(tmp_path: Path) -> None:
    for name, path in (("gone", f"{tmp_path}/none.so"), ("there", f"{tmp_path}/x.so"), ("foreign", "/none/x.so")):
        write_model(tmp_path / name, parameter("TRITON_BATCH_STRATEGY_PATH", path), {"1/model.py": MODEL_PY})
    (tmp_path / "x.so").write_bytes(b"")
    (found,) = lint_model(tmp_path / "gone")
    assert (found.rule, found.text) == ("M10", f"Batching library path not found: {tmp_path}/none.so")
    assert rules(tmp_path / "there") == rules(tmp_path / "foreign") == []


def test_an_optional_input_of_a_plan_is_an_error(tmp_path: Path) -> None:
    config = 'backend: "tensorrt"\n' + X.replace("dims", "optional: true dims") + Y
    write_model(tmp_path / "plan", config, {"1/model.plan": b""})
    write_model(tmp_path / "python", config.replace("tensorrt", "python"), {"1/model.py": MODEL_PY})
    assert "I15" in rules(tmp_path / "plan")
    assert rules(tmp_path / "python") == []


UNDECIDED = {
    "imported": "from implementation import TritonPythonModel",
    "imported with everything": "from implementation import *",
    "made": "TritonPythonModel = make()",
    "captured": "match make():\n  case [*_, TritonPythonModel]: ...\n  case [*TritonPythonModel]: ...",
    "made by condition": f"if fast:\n  class TritonPythonModel:\n{EXECUTE}else:\n  from slow import TritonPythonModel",
    "made out of sight": "globals()['TritonPythonModel'] = make()",
    "inherited": "class TritonPythonModel(Base):\n    def finalize(self): ...",
    "decorated": "@complete\nclass TritonPythonModel:\n    def initialize(self): ...",
    "patched": "class TritonPythonModel: ...\nTritonPythonModel.execute = run",
    "patched by name": "class TritonPythonModel: ...\nsetattr(TritonPythonModel, 'execute', run)",
    "patched by another name": "class TritonPythonModel: ...\nModel = TritonPythonModel\nModel.execute = run",
    "given to the instance": "class TritonPythonModel:\n    def initialize(self, args): self.execute = run",
    "made when it is asked for": "from implementation import __getattr__",
    "methods made when asked for": "class TritonPythonModel:\n    def __getattribute__(self, name): return run",
    "put into the module": "import sys\nsys.modules[__name__] = implementation",
    "made by builtins": "import builtins\nbuiltins.globals()['TritonPythonModel'] = make()",
    "assigned": "class TritonPythonModel:\n    execute = run\n    initialize = run",
    "decorated method": f"class TritonPythonModel:\n{EXECUTE}    @tracing\n    def initialize(self): ...",
    "conditional method": f"class TritonPythonModel:\n    if fast:\n    {EXECUTE}",
    "newer syntax": f"type Number = int\nclass TritonPythonModel:\n{EXECUTE}",
    "defined twice": f"class TritonPythonModel:\n{EXECUTE}    def initialize(self): ...\n    initialize = run",
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("source", UNDECIDED.values(), ids=UNDECIDED)
def test_what_only_running_it_would_tell_is_left_open(tmp_path: Path, source: str, strict: bool) -> None:
    write_model(tmp_path / "m", PYTHON, {"1/model.py": source})
    assert rules(tmp_path / "m", strict=strict) == []


@pytest.mark.parametrize(
    "statements",
    [
        ["config.set_max_batch_size(size())", "return config"],
        ["config.set_max_batch_size('many')", "return config"],
        ["config.add_input(tensor)", "return config"],
        ["config.add_input({'shape': [4]})", "return config"],
        [f"config.add_input({{'name': 'w', {FP32}, 'dims': ['N']}})", "return config"],
        ["config.add_input({'name': 'z', 'data_type': 'FP32', 'dims': [4]})", "return config"],
        ["config.as_dict()['input'].append({'name': 'z'})", "return config"],
        [f"config.set_max_batch_size({10**30})", "return config"],
        ["config.as_dict()['instance_group'][0]['count'] = 2", "return config"],
        ["while config: config.set_max_batch_size(1)", "return config"],
        ["if 'parameters' in config.as_dict(): return None", "return config"],
        ["config = other(config)", "return config"],
        ["yield config"],
        ["return complete(config)"],
        ["items = [1]", "for item in items: items.append(item)", "return config"],
        ["a = [0] * 1000", "return config"],
        ["return config if config else None"],
    ],
    ids=str,
)
def test_a_completion_that_is_not_made_of_literals_is_left_open(tmp_path: Path, statements: list[str]) -> None:
    write_model(tmp_path / "m", X + 'input { name: "w" } output { name: "y" }', completing(*statements))
    assert rules(tmp_path / "m") == []
    assert read(tmp_path / "m").served is None


@pytest.mark.parametrize("call", ["self.model.eval()", "request.exec()", "self.model.modules()", "self.vars.locals"])
def test_methods_of_other_objects_hide_nothing(tmp_path: Path, call: str) -> None:
    body = f"    def initialize(self, args):\n        {call}\n"
    write_model(tmp_path / "m", PYTHON, {"1/model.py": f"class TritonPythonModel:\n{body}"})
    assert rules(tmp_path / "m") == ["Y7"]
    write_model(tmp_path / "n", PYTHON, {"1/model.py": f"class Model:\n{body}"})
    assert rules(tmp_path / "n") == ["D4"]


def test_a_tensor_may_become_optional_when_it_is_added_again(tmp_path: Path) -> None:
    added = f"config.add_input({{'name': 'z', {FP32}, 'dims': [4]}})"
    files = completing(added, added.replace("})", ", 'optional': True})"), "return config")
    write_model(tmp_path / "m", PYTHON, files)
    assert rules(tmp_path / "m") == []
    served = read(tmp_path / "m").served
    assert served is not None
    assert [(tensor.name, tensor.optional) for tensor in served.input] == [("x", False), ("z", True)]


def test_a_completion_of_many_steps_ends(tmp_path: Path) -> None:
    loops = "".join(f"{'    ' * depth}for a{depth} in tens:\n" for depth in range(9)) + "    " * 9 + "pass"
    files = completing("tens = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", loops, "return config")
    write_model(tmp_path / "m", PYTHON, files)
    assert read(tmp_path / "m").served is None


def test_what_a_completion_of_literals_makes_is_known(tmp_path: Path) -> None:
    files = completing(
        '"""Complete."""',
        f"inputs = [{{'name': 'x', {FP32}, 'dims': [-1, 4]}}, dict(name='z', data_type='TYPE_STRING', dims=[1])]",
        "known: list = []",
        "for tensor in config.as_dict()['input']:",
        "    known.append(tensor['name'])",
        "for tensor in inputs:",
        "    if tensor['name'] not in known:",
        "        config.add_input(tensor)",
        "    elif tensor['name'] == 'x':",
        "        config.add_input(tensor)",
        f"config.add_output({{'name': 'y', {FP32}, 'dims': [4]}})",
        "config.set_max_batch_size(16)",
        "config.set_dynamic_batching()",
        "config.set_model_transaction_policy(dict(decoupled=False))",
        "return config",
    )
    write_model(tmp_path / "m", 'input { name: "x" } max_batch_size: 2', files)

    model = read(tmp_path / "m")

    assert rules(tmp_path / "m") == []
    served = model.served
    assert served is not None
    assert [(tensor.name, list(tensor.dims)) for tensor in served.input] == [("x", [-1, 4]), ("z", [1])]
    assert [(tensor.name, list(tensor.dims)) for tensor in served.output] == [("y", [4])]
    assert served.max_batch_size == 16
    assert list(served.dynamic_batching.preferred_batch_size) == [16]
    assert served.HasField("model_transaction_policy")
    assert not served.model_transaction_policy.decoupled
    assert model.config.max_batch_size == 2


def test_with_completion_off_nothing_is_completed(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON, completing("config.set_max_batch_size(8)", "return None"))
    assert rules(tmp_path / "m") == ["Y8"]
    assert rules(tmp_path / "m", strict=True) == []


def test_every_version_that_is_loaded_is_read(tmp_path: Path) -> None:
    broken = python_file("def initialize(self): ...\n")["1/model.py"]
    write_model(tmp_path / "m", PYTHON, {"1/model.py": broken, "2/model.py": MODEL_PY})
    assert rules(tmp_path / "m") == []
    (tmp_path / "m" / "config.pbtxt").write_text(PYTHON + "version_policy { all { } }")
    assert rules(tmp_path / "m") == ["D5"]
