"""Real plans: built, examined, run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from support.networks import residual_network, transformer

from tritonforge_generator.errors import PlanBuildError, PlanError, SourceError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.plan import Engine, KnownPlan, Plan, Runner, plan_from_onnx, tensorrt_api
from tritonforge_generator.plan.network import newest_opset
from tritonforge_generator.precision import PrecisionStage, calibration_from_text
from tritonforge_generator.spec import PrecisionOptions, PrecisionType, ProfileShapes, TensorRTOptions, VerifyOptions
from tritonforge_generator.verify import reference_from_path

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

IMAGES = {"images": ProfileShapes(min=(1, 3, 16, 16), opt=(8, 3, 16, 16), max=(8, 3, 16, 16))}


def _plan(path: Path, folder: Path, precision: PrecisionType = "TF32", **options: Any) -> Plan:
    return plan_from_onnx(
        path, folder / "model.plan", TensorRTOptions(**options), precision=precision, profiles=[IMAGES]
    )


def _typed(path: Path, folder: Path, precision: PrecisionType) -> Path:
    reference = reference_from_path(path, VerifyOptions(), batched=True)
    calibration = calibration_from_text(None, OnnxSession(path).inputs, reference.samples, batched=True)
    target = folder / precision
    target.mkdir()
    return PrecisionStage(path, PrecisionOptions(type=precision), calibration, batched=True).typed_graph(target).path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return residual_network(tmp_path_factory.mktemp("network") / "residual.onnx", blocks=3)


@pytest.fixture(scope="module")
def plan(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return _plan(network, tmp_path_factory.mktemp("plan"))


def _images(rows: int, seed: int = 0) -> Mapping[str, npt.NDArray[Any]]:
    return {"images": np.random.default_rng(seed).standard_normal((rows, 3, 16, 16)).astype(np.float32)}


def test_a_plan_answers_like_onnx_runtime(network: Path, plan: Plan) -> None:
    session = OnnxSession(network)
    with Engine(plan.path) as engine, Runner(engine) as runner:
        for rows in (1, 2, 8, 1, 2, 8, 2):  # a shape that comes again runs as a CUDA graph
            inputs = _images(rows, seed=rows)
            expected = session.run(inputs)["logits"]
            assert np.allclose(runner.infer(inputs)["logits"], expected, rtol=1e-2, atol=1e-2)


def test_cuda_graphs_change_nothing(plan: Plan) -> None:
    for seed in range(4):
        inputs = _images(4, seed)
        with Engine(plan.path) as first, Runner(first) as graphs, Engine(plan.path) as second:
            found = [graphs.infer(inputs)["logits"] for _ in range(3)]
            with Runner(second, cuda_graphs=False) as plain:
                assert np.array_equal(found[-1], plain.infer(inputs)["logits"])


def test_a_profile_belongs_to_one_runner_before_tensorrt_10(plan: Plan) -> None:
    if tensorrt_api.shares_profiles():
        pytest.skip("this TensorRT shares profiles")
    with Engine(plan.path) as engine, Runner(engine), pytest.raises(PlanError, match=r"profile 0 .* is in use"):
        Runner(engine)


def test_times_are_measured(plan: Plan) -> None:
    with Engine(plan.path) as engine, Runner(engine) as runner:
        times = runner.measure(_images(8), runs=20)
    assert len(times) == 20
    assert all(0 < time < 100 for time in times)


def test_facts_of_a_plan(plan: Plan) -> None:
    assert plan.tensorrt_version == tensorrt_api.version()
    assert [(one.name, one.is_input, one.datatype, one.shape) for one in plan.tensors] == [
        ("images", True, "FP32", (-1, 3, 16, 16)),
        ("logits", False, "FP32", (-1, 10)),
    ]
    assert plan.profiles[0]["images"].max == (8, 3, 16, 16)
    assert any("stem/Conv" in layer.nodes and "stem/Relu" in layer.nodes for layer in plan.layers)
    assert sum(layer.flops for layer in plan.layers) > 0
    assert "FP16" not in plan.proof.flop_share


@pytest.mark.parametrize(("precision", "limit"), [("FP16", 2e-2), ("INT8", 0.2)])
def test_precision_is_proven(network: Path, tmp_path: Path, precision: PrecisionType, limit: float) -> None:
    plan = _plan(_typed(network, tmp_path, precision), tmp_path, precision)
    assert plan.proof.passed, plan.proof
    assert plan.proof.flop_share[precision] > 0.5
    expected = OnnxSession(network).run(_images(8))["logits"]
    with Engine(plan.path) as engine, Runner(engine) as runner:
        found = runner.infer(_images(8))["logits"]
    assert np.linalg.norm(found - expected) < limit * np.linalg.norm(expected)


def test_an_fp32_build_fails_the_proof_of_fp16(network: Path, tmp_path: Path) -> None:
    plan = _plan(network, tmp_path, "FP16")  # the graph was not typed, so every layer is pinned to FP32
    assert not plan.proof.passed


def test_the_timing_cache_is_used_again(network: Path, tmp_path: Path) -> None:
    typed = _typed(network, tmp_path, "FP16")
    first = _plan(typed, tmp_path, "FP16", timing_cache=tmp_path / "cache")
    second = _plan(typed, tmp_path, "FP16", timing_cache=tmp_path / "cache")
    assert first.timing_cache.read_bytes == 0
    assert second.timing_cache.read_bytes == first.timing_cache.written_bytes > 0
    assert second.build_s < first.build_s


def test_several_profiles(network: Path, tmp_path: Path) -> None:
    small = {"images": ProfileShapes(min=(1, 3, 16, 16), opt=(1, 3, 16, 16), max=(2, 3, 16, 16))}
    plan = plan_from_onnx(
        network, tmp_path / "model.plan", TensorRTOptions(), precision="TF32", profiles=[small, IMAGES]
    )
    assert len(plan.profiles) == len(plan.device_memory_bytes) == 2
    session = OnnxSession(network)
    with Engine(plan.path) as engine, Runner(engine) as runner:
        for rows in (1, 2, 5, 1):
            expected = session.run(_images(rows))["logits"]
            assert np.allclose(runner.infer(_images(rows))["logits"], expected, rtol=1e-2, atol=1e-2)


def test_int64_inputs(tmp_path: Path) -> None:
    path = transformer(tmp_path / "transformer.onnx", layers=1)
    tokens = {"tokens": ProfileShapes(min=(1, 8), opt=(4, 8), max=(4, 8))}
    plan = plan_from_onnx(path, tmp_path / "model.plan", TensorRTOptions(), precision="TF32", profiles=[tokens])
    expected = "INT32" if tensorrt_api.major_version() == 8 else "INT64"
    assert plan.tensors[0].datatype == expected


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"images": np.zeros((9, 3, 16, 16), np.float32)}, "no optimisation profile"),
        ({"images": np.zeros((1, 3, 16, 16), np.float64)}, "wrong dtype"),
        ({"pictures": np.zeros((1, 3, 16, 16), np.float32)}, "not those of the plan"),
        ({"images": np.zeros((0, 3, 16, 16), np.float32)}, "no optimisation profile"),
    ],
)
def test_wrong_inputs(plan: Plan, inputs: Mapping[str, npt.NDArray[Any]], words: str) -> None:
    with Engine(plan.path) as engine, Runner(engine) as runner, pytest.raises(PlanError, match=words):
        runner.infer(inputs)


def _odd(path: Path, operator: str, *, opset: int, shape: list[int | str], outs: list[int | str]) -> Path:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], name="odd_one")],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outs)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return path


def test_an_operator_that_tensorrt_lacks(tmp_path: Path) -> None:
    path = _odd(tmp_path / "det.onnx", "Det", opset=17, shape=["batch", 4, 4], outs=["batch"])
    shapes = {"x": ProfileShapes(min=(1, 4, 4), opt=(1, 4, 4), max=(1, 4, 4))}
    with pytest.raises(PlanBuildError, match=r"no operator Det \(node 'odd_one'\)"):
        plan_from_onnx(path, tmp_path / "model.plan", TensorRTOptions(), precision="TF32", profiles=[shapes])
    assert not (tmp_path / "model.plan").exists()


def test_a_part_of_a_shape_is_read_rightly(tmp_path: Path) -> None:
    """TensorRT 8.6 ignores the bounds of Shape, and ended the process over what came of it."""
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], name="rows", start=0, end=1),
        helper.make_node("Concat", ["rows", "two"], ["full"], name="full", axis=0),
        helper.make_node("Expand", ["one", "full"], ["ones"], name="ones"),
        helper.make_node("Add", ["x", "ones"], ["y"], name="y"),
    ]
    values = [
        helper.make_tensor("two", TensorProto.INT64, [1], [2]),
        helper.make_tensor("one", TensorProto.FLOAT, [1, 1], [1.0]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "rows", ends[:1], ends[1:], values)
    path = tmp_path / "rows.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    shapes = {"x": ProfileShapes(min=(1, 2), opt=(4, 2), max=(8, 2))}
    plan = plan_from_onnx(path, tmp_path / "model.plan", TensorRTOptions(), precision="TF32", profiles=[shapes])
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    with Engine(plan.path) as engine, Runner(engine) as runner:
        np.testing.assert_array_equal(runner.infer({"x": x})["y"], x + 1)


def test_a_known_plan_of_the_same_recipe_is_taken(network: Path, plan: Plan, tmp_path: Path) -> None:
    known = {plan.recipe_sha256: KnownPlan(path=plan.path, sha256=plan.sha256)}
    again = plan_from_onnx(
        network, tmp_path / "model.plan", TensorRTOptions(), precision="TF32", profiles=[IMAGES], known=known
    )
    assert not again.newly_built
    assert (again.sha256, again.layers) == (plan.sha256, plan.layers)


def test_an_opset_that_is_too_new(tmp_path: Path) -> None:
    opset = newest_opset() + 1
    path = _odd(tmp_path / "new.onnx", "Relu", opset=opset, shape=["batch", 4], outs=["batch", 4])
    shapes = {"x": ProfileShapes(min=(1, 4), opt=(1, 4), max=(1, 4))}
    with pytest.raises(PlanBuildError, match=f"got {opset}"):
        plan_from_onnx(path, tmp_path / "model.plan", TensorRTOptions(), precision="TF32", profiles=[shapes])


def test_a_build_that_takes_too_long(network: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanBuildError, match="longer than allowed"):
        _plan(network, tmp_path, time_budget_s=0.5)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_was_cut_off(plan: Plan, tmp_path: Path) -> None:
    cut = tmp_path / "model.plan"
    cut.write_bytes(plan.path.read_bytes()[:-1000])
    with pytest.raises(SourceError, match="is cut off"):
        Engine(cut)
