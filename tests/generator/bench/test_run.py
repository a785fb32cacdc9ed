"""Whole comparisons with the runtime that is everywhere: ONNX Runtime on the CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import graphs

from tritonforge_generator.bench.options import BenchOptions
from tritonforge_generator.bench.run import BenchRun, run_bench
from tritonforge_generator.bench.runtimes import Interpreter
from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph import SampleOptions
from tritonforge_generator.report import bench_from_json

from .conftest import SAMPLES, WRONG_LABELS

QUICK: dict[str, Any] = {"seconds": 0.02, "repeats": 2, "runtimes": ("onnxruntime-cpu",), "precisions": ("FP32",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def done(network: Path, samples: Path, folder: Path) -> BenchRun:
    options = BenchOptions(
        **{**QUICK, "precisions": ("FP32", "FP16", "INT8")},
        batch_sizes=(4, 1, 4),
        samples=SampleOptions(path=samples),
        labels="labels",
        folder=folder,
        baseline="onnxruntime-cpu:INT8",
    )
    return run_bench(network, options)


def test_every_entry_is_timed_in_every_batch_size(done: BenchRun) -> None:
    assert [entry.name for entry in done.bench.entries] == ["ONNX Runtime CPU FP32", "ONNX Runtime CPU INT8"]
    for entry in done.bench.entries:
        assert [row.batch_size for row in entry.rows] == [1, 4]
        assert entry.on_gpu is False
        for row in entry.rows:
            assert 0 < row.compute.p50_ms <= row.compute.p90_ms <= row.compute.p99_ms
            assert row.compute == row.total, "there are no copies to leave out"
            assert row.rows_per_s == pytest.approx(row.batch_size / row.compute.p50_ms * 1e3)
            assert row.gpu is None
    assert {"reference", "INT8 graph", "ONNX Runtime CPU FP32"} <= set(done.stage_s)


def test_speedups_are_over_the_baseline_at_the_same_batch_size(done: BenchRun) -> None:
    plain, quantised = done.bench.entries
    assert done.bench.baseline == quantised.name
    assert [row.speedup for row in quantised.rows] == [1.0, 1.0]
    for row, base in zip(plain.rows, quantised.rows, strict=True):
        assert row.speedup == pytest.approx(base.compute.p50_ms / row.compute.p50_ms)
    assert done.bench.drift is not None
    assert done.bench.drift > 0


def test_answers_of_the_timed_runs_are_judged(done: BenchRun) -> None:
    plain, quantised = done.bench.entries
    assert plain.relative_error is not None
    assert plain.relative_error < 1e-6
    assert quantised.relative_error is not None
    assert 1e-4 < quantised.relative_error < 0.1
    assert all(row.relative_error is not None and row.relative_error > 1e-4 for row in quantised.rows)
    assert plain.accurate
    assert quantised.accurate


def test_labels_show_what_is_right_beside_what_is_fast(done: BenchRun) -> None:
    right = (SAMPLES - WRONG_LABELS) / SAMPLES
    assert done.bench.labelled == SAMPLES
    assert done.bench.reference_correct_share == pytest.approx(right)
    assert done.bench.entries[0].correct_share == pytest.approx(right)
    assert done.bench.entries[1].correct_share == pytest.approx(right, abs=0.1)


def test_precisions_that_a_runtime_lacks_are_left_out_by_name(done: BenchRun) -> None:
    """ONNX Runtime's CPU would compute FP16 in FP32 and so hide its overflows."""
    assert [one.name for one in done.bench.left_out] == ["ONNX Runtime CPU FP16"]
    assert "compute in FP32 and INT8" in done.bench.left_out[0].reason


def test_drawn_ranges_are_noted(done: BenchRun) -> None:
    assert any("--calibration" in note for note in done.bench.notes)


def test_graphs_are_kept_where_asked(done: BenchRun, folder: Path) -> None:
    (path,) = (folder / "int8").glob("*.onnx")
    operators = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert not (folder / "answers.npz").exists()


def test_json_says_everything(done: BenchRun) -> None:
    data = json.loads(json.dumps(done.bench.to_json(), allow_nan=False))
    assert bench_from_json(data) == done.bench
    row = data["entries"][1]["rows"][0]
    assert row["rows_per_s"] == done.bench.entries[1].rows[0].rows_per_s
    assert {"batch_size", "compute", "total", "speedup", "relative_error", "steady", "gpu"} <= set(row)


def test_runtimes_that_are_missing_are_left_out_with_what_to_do(network: Path) -> None:
    options = BenchOptions(
        **{**QUICK, "runtimes": ("tensorrt", "onnxruntime-cuda", "pytorch", "onnxruntime-cpu")},
        batch_sizes=(1,),
        interpreters={"tensorrt": Interpreter(python="/no/python")},
        baseline="tensorrt:FP32",
    )
    bench = run_bench(network, options).bench
    assert [entry.runtime for entry in bench.entries] == ["onnxruntime-cpu"]
    assert bench.baseline == "ONNX Runtime CPU FP32", "the one asked for is not there"
    assert bench.drift is None, "with a single entry nothing is compared"
    missing = {one.name: one for one in bench.left_out}
    assert "/no/python" in missing["TensorRT"].reason
    assert "pip install onnxruntime-gpu" in missing["ONNX Runtime CUDA"].action
    assert missing["PyTorch"].action == "Name it with --torch torch:package.module:factory."


def test_a_worker_that_fails_is_left_out_and_the_others_go_on(network: Path, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 3\n")
    script.chmod(0o755)
    options = BenchOptions(**QUICK, batch_sizes=(1,), interpreters={"onnxruntime-cpu": Interpreter(python=str(script))})
    bench = run_bench(network, options).bench
    assert bench.entries == ()
    assert bench.baseline == ""
    assert bench.left_out[0].reason.endswith("crashed: exit code 3 | out of luck")


def test_a_model_without_a_batch_axis_is_called_with_one_sample(tmp_path: Path) -> None:
    bench = run_bench(graphs.linear(tmp_path / "model.onnx", batch=2), BenchOptions(**QUICK)).bench
    assert [row.batch_size for row in bench.entries[0].rows] == [1]
    assert bench.entries[0].relative_error == 0
    assert any(note.startswith("Calls are of one sample, because") for note in bench.notes)


def test_strings_are_refused(tmp_path: Path) -> None:
    model = graphs.identity(tmp_path / "model.onnx", onnx.TensorProto.STRING)
    with pytest.raises(SpecError, match="takes strings"):
        run_bench(model, BenchOptions(**QUICK))


def labelled(samples: Path, folder: Path, **arrays: np.ndarray[Any, Any]) -> BenchOptions:
    with np.load(samples) as archive:
        np.savez(folder / "samples.npz", **{**archive, **arrays})
    return BenchOptions(**QUICK, samples=SampleOptions(path=folder / "samples.npz"), labels="labels")


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (np.zeros(SAMPLES - 1, np.int64), rf"integers of shape \({SAMPLES},\), got int64 \({SAMPLES - 1},\)"),
        (np.zeros(SAMPLES, np.float32), rf"integers of shape .* got float32 \({SAMPLES},\)"),
        (np.arange(SAMPLES) % 10 + 1, "classes from 0 to 9, got labels from 1 to 10"),
        (np.full(SAMPLES, -1), "classes from 0 to 9, got labels from -1 to -1"),
    ],
    ids=["too few", "no classes", "counted from one", "below zero"],
)
def test_labels_that_do_not_fit(
    network: Path, samples: Path, tmp_path: Path, labels: np.ndarray[Any, Any], problem: str
) -> None:
    with pytest.raises(SpecError, match=problem):
        run_bench(network, labelled(samples, tmp_path, labels=labels))


def test_labels_that_are_not_there(network: Path, samples: Path) -> None:
    options = BenchOptions(**QUICK, samples=SampleOptions(path=samples), labels="classes")
    with pytest.raises(SpecError, match=r"lacks the labels: expected an array 'classes', got images, labels"):
        run_bench(network, options)


def test_samples_that_do_not_fit(network: Path, samples: Path, tmp_path: Path) -> None:
    small = labelled(samples, tmp_path, images=np.zeros((SAMPLES, 3, 16), np.float32))
    with pytest.raises(SpecError, match="images"):
        run_bench(network, replace(small, labels=None))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"runtimes": ("onnxruntime",)},
            r"--runtimes has an unknown name: expected onnxruntime-cpu, .*got onnxruntime",
        ),
        ({"precisions": ("FP64",)}, "--precision has an unknown name"),
        ({"skip": ("tensorrt:FP32",)}, "--skip has an unknown name"),
        ({"baseline": "pytorch:FP32"}, "--baseline has an unknown name"),
        ({"interpreters": {"jax": Interpreter()}}, "--python or --env has an unknown name"),
        ({"labels": "labels"}, "--labels names an array of no file"),
        ({"batch_sizes": ()}, "--batch-sizes cannot be measured"),
        ({"batch_sizes": (8, 0)}, "--batch-sizes cannot be measured"),
        ({"repeats": 0}, "--repeats cannot be measured"),
        ({"seconds": 0.0}, "--seconds cannot be measured"),
    ],
)
def test_options_that_cannot_be_measured(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        BenchOptions(**{**QUICK, **changes})
