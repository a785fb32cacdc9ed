"""PyTorch as a runtime, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tritonforge_generator.bench.child import run_job
from tritonforge_generator.bench.runtimes import Interpreter
from tritonforge_generator.errors import BenchError

torch = pytest.importorskip("torch")

MODULE = """
import torch
from torch import nn
from tritonforge_generator.source import TorchModel

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.5, 2.0, 3.0]))
        self.dropout = nn.Dropout(0.9)

    def forward(self, x, indices):
        return {"y": self.dropout(x * self.scale), "plain": [indices + 1]}

def factory():
    return TorchModel(module=Scaled().train(), inputs={"x": torch.zeros(2, 3), "indices": torch.zeros(2).long()})

def exported():
    model = factory()
    program = torch.export.export(model.module.eval(), tuple(model.inputs.values()))
    return TorchModel(module=program, inputs=model.inputs, batched=False)
"""
X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
INDICES = np.array([7, 8], np.int64)
INPUTS: dict[str, np.ndarray[Any, Any]] = {"input/x": X, "input/indices": INDICES}


def measured(folder: Path, **changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    (folder / "nets.py").write_text(MODULE)
    np.savez(folder / "samples.npz", **INPUTS)
    request = {
        "job": "measure",
        "runtime": "pytorch",
        "precision": "FP32",
        "torch": "torch:nets:factory",
        "device_id": 0,
        "inputs": ["x", "indices"],
        "outputs": ["y", "plain"],
        "samples": str(folder / "samples.npz"),
        "answers": str(folder / "answers.npz"),
        "batched": True,
        "batch_sizes": [2],
        "seconds": 0.01,
        "repeats": 1,
        **changes,
    }
    run_job(request, Interpreter(variables=(("PYTHONPATH", str(folder)),)))
    with np.load(folder / "answers.npz") as answers:
        return dict(answers)


@pytest.mark.parametrize(("precision", "rtol"), [("FP32", 1e-6), ("FP16", 1e-3), ("BF16", 1e-2)])
def test_a_module_answers_in_evaluation_mode(precision: str, rtol: float, tmp_path: Path) -> None:
    answers = measured(tmp_path, precision=precision)
    assert answers["all/y"].dtype == np.float32
    np.testing.assert_allclose(answers["all/y"], X * [0.5, 2, 3], rtol=rtol)
    np.testing.assert_array_equal(answers["all/plain"], INDICES + 1)


def test_an_exported_program_answers_too(tmp_path: Path) -> None:
    answers = measured(tmp_path, torch="torch:nets:exported")
    np.testing.assert_allclose(answers["2/y"], X * [0.5, 2, 3])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has TF32")
def test_a_cpu_has_no_tf32(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="TF32 on GPUs only"):
        measured(tmp_path, precision="TF32")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"torch": "torch:nets:nothing"}, "torch:nets:nothing does not work"),
        ({"outputs": ["y", "plain", "more"]}, "does not give what the graph gives: .*got 2 tensors"),
    ],
)
def test_a_module_that_is_not_the_graph(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=problem):
        measured(tmp_path, **changes)
