"""``--diff`` and ``--frozen`` of models that are no ONNX files: Python's and PyTorch's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stand_in_plans import stand_in_tensorrt

from tritonforge_generator.pipeline import generate
from tritonforge_generator.preview import Preview, preview
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_flags


def compared(spec: ForgeSpec) -> tuple[Preview, Preview]:
    """By ``--diff`` and by ``--frozen``."""
    (shown,), (frozen,) = preview(spec), preview(spec, frozen=True)
    return shown, frozen


# ---- Python ----

CODE = """
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
COMPLETING = """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        return config
"""


def python_spec(folder: Path, **options: Any) -> ForgeSpec:
    flags = {"name": "m", "source": str(folder / "mine.py"), "platform": "python", **options}
    flags.setdefault("files", [str(folder / "factor.json")])
    return forge_spec_from_flags(flags, repository=folder / "repo")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE + COMPLETING)
    (tmp_path / "factor.json").write_text("2")
    generate(python_spec(tmp_path), serve_check=False)
    return tmp_path


def test_a_first_python_model_is_all_new(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE + COMPLETING)
    (tmp_path / "factor.json").write_text("2")
    for one in compared(python_spec(tmp_path)):
        assert dict(one.files) == {"1/model.py": "added", "1/factor.json": "added"}
        assert '+backend: "python"' in one.diff()
    assert not (tmp_path / "repo").exists()


def test_a_python_model_is_compared_with_what_is_there(python: Path) -> None:
    for one in compared(python_spec(python)):
        assert (one.changed, one.version, one.diff(), dict(one.files)) == (False, 1, "", {})


def test_changed_code_is_seen(python: Path) -> None:
    (python / "mine.py").write_text(CODE + COMPLETING + "# faster\n")
    for one in compared(python_spec(python)):
        assert (one.version, one.diff(), dict(one.files)) == (2, "", {"2/model.py": "replaced"})
        assert one.inputs is not None
        assert [sentence.partition(":")[0] for sentence in one.inputs] == ["source"]


def test_a_changed_file_beside_the_code_is_seen(python: Path) -> None:
    (python / "factor.json").write_text("3")
    for one in compared(python_spec(python)):
        assert dict(one.files) == {"2/factor.json": "replaced"}
        assert one.inputs is not None
        assert [sentence.partition(":")[0] for sentence in one.inputs] == ["spec files[0]"]
    for one in compared(python_spec(python, files=[])):
        assert dict(one.files) == {"2/factor.json": "removed"}


def test_a_changed_completion_is_a_diff_of_the_configuration(python: Path) -> None:
    (python / "mine.py").write_text(CODE + COMPLETING.replace("set_max_batch_size(8)", "set_max_batch_size(4)"))
    for one in compared(python_spec(python)):
        assert "\n+max_batch_size: 4" in one.diff()


def test_what_is_shown_of_a_python_model_is_what_is_generated(python: Path) -> None:
    spec = python_spec(python, max_batch_size=2, instance_group=[{"kind": "KIND_CPU", "count": 3}])
    shown, _ = compared(spec)
    (generated,) = generate(spec, serve_check=False)
    assert (shown.after, shown.version) == (generated.config.text, generated.version.version)
    assert [one.changed for one in compared(spec)] == [False, False]


# ---- PyTorch ----

MODULE = """
import torch
from torch import nn
from tritonforge_generator.source import TorchModel


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4) * (2 + SEED))

    def forward(self, x):
        return torch.relu(x @ self.weight)


NETWORK = Network()


def network():
    return TorchModel(module=NETWORK, inputs={"x": torch.ones(2, 4)}, outputs=("y",))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of a user on the path."""
    pytest.importorskip("torch")
    write_module(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    sys.modules.pop("user_network", None)


def write_module(folder: Path, seed: int = 0) -> None:
    sys.modules.pop("user_network", None)
    (folder / "user_network.py").write_text(MODULE.replace("SEED", str(seed)) + "#" * seed)


def torch_spec(folder: Path, **options: Any) -> ForgeSpec:
    flags = {"name": "m", "source": "torch:user_network:network", "max_batch_size": 4, **options}
    return forge_spec_from_flags(flags, repository=folder / "repo")


@pytest.mark.parametrize("options", [{}, {"precision": "FP16"}, {"platform": "tensorrt"}])
def test_a_function_is_exported_and_compared(module: Path, options: dict[str, Any]) -> None:
    spec = torch_spec(module, **options)
    with stand_in_tensorrt():
        generate(spec, serve_check=False)
    for one in compared(spec):
        assert (one.changed, one.version, one.inputs) == (False, 1, ()), one.diff()
    write_module(module, seed=1)
    for one in compared(spec):
        assert one.changed
        assert set(one.files.values()) == {"unknown before a build" if options else "replaced"}
        assert one.inputs == ("source: torch:user_network:network exports another graph, or none is recorded",)
