"""``tritonforge bench`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.networks import residual_network

from tritonforge_generator.cli.main import main
from tritonforge_generator.report import bench_from_json

QUICK = ["--runtimes", "onnxruntime-cpu", "--batch-sizes", "1,2", "--seconds", "0.02", "--repeats", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return residual_network(tmp_path_factory.mktemp("network") / "residual.onnx")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_help_names_every_runtime(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Of onnxruntime-cpu, onnxruntime-cuda, pytorch, pytorch-compile, tensorrt." in text
    assert "--python pytorch=/opt/torch/bin/python3" in text


def test_a_comparison_is_shown_and_reported(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "bench.html"
    assert run(model, *QUICK, "--precision", "FP32,FP16,INT8", "--html", page) == 0
    shown = capsys.readouterr()
    assert "residual.onnx: speed-ups over ONNX Runtime CPU FP32" in shown.out
    assert "ONNX Runtime CPU INT8" in shown.out
    assert "left out: ONNX Runtime CPU FP16: ONNX Runtime's CPU kernels" in shown.out
    assert "with copies" not in shown.out
    assert f"report {page}" in shown.out
    assert shown.err.splitlines().count("bench: ONNX Runtime CPU FP32") == 1, "one line a step where nobody watches"
    assert "ONNX Runtime CPU INT8" in page.read_text(encoding="utf-8")


def test_json_is_all_that_is_printed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, *QUICK, "--precision", "FP32", "--json") == 0
    shown = capsys.readouterr()
    bench = bench_from_json(json.loads(shown.out))
    assert bench.model == "residual.onnx"
    assert [row.batch_size for row in bench.entries[0].rows] == [1, 2]
    assert shown.err == ""


def test_a_comparison_of_nothing_fails(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, *QUICK, "--python", "onnxruntime-cpu=/no/python") == 1
    assert "left out: ONNX Runtime CPU: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--runtimes", "onnx"], "error: --runtimes has an unknown name: expected onnxruntime-cpu"),
        (["--precision", "fp16"], "error: --precision has an unknown name: expected FP32"),
        (["--batch-sizes", "1,two"], "expected whole numbers separated by commas, got '1,two'"),
        (["--batch-sizes", "0"], "error: --batch-sizes cannot be measured"),
        (["--python", "pytorch"], "error: --python cannot be read: expected RUNTIME=PATH"),
        (["--env", "pytorch:HOME"], "error: --env cannot be read: expected RUNTIME:NAME=VALUE"),
        (["--env", "torch:HOME=/"], "error: --python or --env has an unknown name"),
        (["--tensorrt", "{workspace: 1}"], "workspace"),
        (["--labels", "labels"], "error: --labels names an array of no file"),
        (["--shapes", "{pictures: [3, 16, 16]}"], "pictures"),
        (["--calibration-method", "Mean"], "'Mean' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_must_change(
    model: Path, flags: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, *QUICK, *flags) == 2
    assert problem in capsys.readouterr().err


def test_samples_that_must_change(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "samples.npz"
    np.savez(path, images=np.zeros((4, 3, 8, 8), np.float32), labels=np.zeros(3, np.int64))
    assert run(model, *QUICK, "--samples", path) == 2
    assert "images" in capsys.readouterr().err
    np.savez(path, images=np.zeros((4, 3, 16, 16), np.float32), labels=np.zeros(3, np.int64))
    assert run(model, *QUICK, "--samples", path, "--labels", "labels") == 2
    assert "expected integers of shape (4,), got int64 (3,)" in capsys.readouterr().err
