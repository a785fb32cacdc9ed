"""What a runner refuses, and what it gives back; with the stand-in TensorRT and CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.stand_in_plans import write_plan

from tritonforge_generator.errors import PlanError
from tritonforge_generator.plan import Engine, Runner
from tritonforge_generator.plan.cuda import cudart

pytestmark = pytest.mark.usefixtures("tensorrt")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """``y = -x`` on 1 to 8 rows."""
    return write_plan(
        tmp_path / "model.plan",
        tensors=[("x", "float32", [-1, 4]), ("y", "float32", [-1, 4])],
        outputs={"y": ["negative", "x"]},
        profiles=[{"x": ([1, 4], [4, 4], [8, 4])}],
    )


def ones(rows: int, dtype: type = np.float32, name: str = "x") -> Mapping[str, npt.NDArray[Any]]:
    return {name: np.ones((rows, 4), dtype)}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (ones(9), r"no optimisation profile .*: expected x \[1, 4\] to \[8, 4\], got x \[9, 4\]"),
        (ones(0), "no optimisation profile"),
        ({"x": np.ones(4, np.float32)}, "no optimisation profile"),
        (ones(1, np.float64), "input 'x' has the wrong dtype: expected float32, got float64"),
        (ones(1, name="z"), "the inputs are not those of the plan: expected x, got z"),
        ({}, "expected x, got none"),
    ],
)
def test_wrong_inputs_are_refused_and_the_next_run_works(
    plan: Path, inputs: Mapping[str, npt.NDArray[Any]], words: str
) -> None:
    with Engine(plan) as engine, Runner(engine) as runner:
        with pytest.raises(PlanError, match=words):
            runner.infer(inputs)
        np.testing.assert_array_equal(runner.infer(ones(2))["y"], -np.ones((2, 4)))


def test_outputs_are_arrays_of_their_own(plan: Path) -> None:
    with Engine(plan) as engine, Runner(engine) as runner:
        first = runner.infer(ones(1))["y"]
        runner.infer({"x": np.full((1, 4), 5, np.float32)})
    np.testing.assert_array_equal(first, -np.ones((1, 4)))


def test_large_inputs_arrive_whole_whatever_their_layout(tmp_path: Path) -> None:
    """From 12 MiB on an input is staged in pieces by several threads."""
    rows = 900_001
    plan = write_plan(
        tmp_path / "large.plan",
        tensors=[("x", "float32", [-1, 4]), ("y", "float32", [-1, 4])],
        outputs={"y": ["negative", "x"]},
        profiles=[{"x": ([1, 4], [4, 4], [rows, 4])}],
    )
    x = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    with Engine(plan) as engine, Runner(engine) as runner:
        np.testing.assert_array_equal(runner.infer({"x": x})["y"], -x)
        np.testing.assert_array_equal(runner.infer({"x": np.asfortranarray(x)})["y"], -x)
        np.testing.assert_array_equal(runner.infer({"x": x[::2]})["y"], -x[::2])


def test_every_run_is_timed(plan: Path) -> None:
    with Engine(plan) as engine, Runner(engine) as runner:
        times = runner.measure(ones(8), runs=5, warmup=1)
    assert len(times) == 5
    assert all(time >= 0 for time in times)


def test_all_memory_is_given_back(plan: Path) -> None:
    with Engine(plan) as engine:
        with Runner(engine) as runner:
            for _ in range(3):  # with a CUDA graph
                runner.infer(ones(1))
            assert cudart().allocations
        assert cudart().allocations == {}
        assert cudart().streams == {}


def test_memory_that_does_not_suffice_is_told_and_none_is_kept(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = cudart()

    def full(size_bytes: int, flags: int) -> tuple[Any, int]:
        return runtime.cudaError_t.cudaErrorMemoryAllocation, 0

    monkeypatch.setattr(runtime, "cudaHostAlloc", full)
    with Engine(plan) as engine:
        with pytest.raises(PlanError, match=r"cudaHostAlloc failed on the GPU: .*Free GPU memory"):
            Runner(engine)
        assert runtime.allocations == {}


def test_an_output_whose_size_depends_on_the_data_is_refused(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(plan) as engine:
        kind = type(engine.handle.create_execution_context())
        monkeypatch.setattr(kind, "get_tensor_shape", lambda self, name: (-1, 4))
        with pytest.raises(PlanError, match="the size of output 'y' depends on the data"):
            Runner(engine)


def test_a_runner_of_one_profile_takes_no_others_shapes(tmp_path: Path) -> None:
    path = write_plan(
        tmp_path / "model.plan",
        tensors=[("x", "float32", [-1, 1]), ("number", "float32", [-1, 1])],
        outputs={"number": ["profile", "x"]},
        profiles=[{"x": ([1, 1], [8, 1], [8, 1])}, {"x": ([1, 1], [2, 1], [2, 1])}],
    )
    one = {"x": np.ones((1, 1), np.float32)}
    with Engine(path) as engine:
        with Runner(engine) as both:
            assert both.infer(one)["number"].item() == 1  # the tightest
        with Runner(engine, profiles=(0,)) as first:
            assert first.infer(one)["number"].item() == 0
        with (
            Runner(engine, profiles=(1,)) as second,
            pytest.raises(PlanError, match=r"expected x \[1, 1\] to \[2, 1\]"),
        ):
            second.infer({"x": np.ones((3, 1), np.float32)})
