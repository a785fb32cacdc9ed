"""The whole way from ONNX to running plans on each TensorRT, with stand-ins that have exactly its names.

What a version lacks is an ``AttributeError`` in the stand-in as in the real bindings; ``tests/peer`` compares their
names.
What real TensorRT builds and computes is tested in ``tests/gpu``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.networks import residual_network
from support.stand_in_graphs import negation, product, saved

from tritonforge_generator.errors import PlanBuildError, PlanError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.plan import Engine, Plan, Runner, tensorrt_api
from tritonforge_generator.plan.build import BuildRequest, build_plan
from tritonforge_generator.plan.profiles import Profile
from tritonforge_generator.plan.progress import OnProgress
from tritonforge_generator.spec import PrecisionType, ProfileShapes, TensorRTOptions

ROWS = {"x": ProfileShapes(min=(1, 4), opt=(2, 4), max=(8, 4))}
IMAGES = {"images": ProfileShapes(min=(1, 3, 16, 16), opt=(2, 3, 16, 16), max=(4, 3, 16, 16))}


def built(
    network: Path,
    precision: PrecisionType = "TF32",
    *,
    profiles: tuple[Profile, ...] = (ROWS,),
    on_progress: OnProgress = lambda *_: None,
    **options: Any,
) -> Plan:
    """Build in this process, so that a name that is missing is seen where it is used."""
    request = BuildRequest(
        network=network,
        destination=network.with_suffix(".plan"),
        precision=precision,
        profiles=profiles,
        options=TensorRTOptions(**options),
    )
    return build_plan(request, on_progress)


def test_a_network_is_built_examined_and_run(version: str, tmp_path: Path) -> None:
    network = residual_network(tmp_path / "residual.onnx")
    plan = built(network, profiles=(IMAGES,))
    assert plan.tensorrt_version == version
    assert [(one.name, one.is_input, one.datatype, one.shape) for one in plan.tensors] == [
        ("images", True, "FP32", (-1, 3, 16, 16)),
        ("logits", False, "FP32", (-1, 10)),
    ]
    assert plan.profiles[0]["images"].max == (4, 3, 16, 16)
    assert plan.device_memory_bytes == (1000,)
    stem = next(layer for layer in plan.layers if "stem/Conv" in layer.nodes)
    assert stem.nodes == ("stem/Conv", "stem/Relu")
    assert stem.flops == 2 * 2 * 8 * 16 * 16 * 3 * 3 * 3
    session = OnnxSession(network)
    with Engine(plan.path) as engine, Runner(engine) as runner:
        for rows in (1, 4, 1, 4, 1, 4):  # a shape that comes for the third time runs as a CUDA graph
            images = np.random.default_rng(rows).standard_normal((rows, 3, 16, 16)).astype(np.float32)
            expected = session.run({"images": images})["logits"]
            np.testing.assert_allclose(runner.infer({"images": images})["logits"], expected, rtol=1e-4, atol=1e-4)


def test_an_fp16_graph_is_built_in_fp16(version: str, tmp_path: Path) -> None:
    plan = built(product(tmp_path / "half.onnx", half=True), "FP16")
    assert plan.proof.flop_share == {"FP16": 1.0}
    assert plan.proof.passed


def test_an_fp32_graph_stays_in_fp32_and_fails_the_proof_of_fp16(version: str, tmp_path: Path) -> None:
    plan = built(product(tmp_path / "single.onnx", half=False), "FP16")
    assert plan.proof.flop_share == {"FP32": 1.0}
    assert not plan.proof.passed


@pytest.mark.parametrize("precision", ["BF16", "FP8"])
def test_a_precision_that_a_version_lacks_is_named(version: str, tmp_path: Path, precision: PrecisionType) -> None:
    network = negation(tmp_path / "neg.onnx")
    if version.startswith("8."):
        with pytest.raises(PlanError, match=rf"precision {precision} needs another TensorRT: .*got 8\.6\.0"):
            built(network, precision)
    else:
        assert built(network, precision).precision == precision


@pytest.mark.parametrize(
    "options",
    [
        {"workspace_bytes": 1 << 20},
        {"builder_optimization_level": 5},
        {"avg_timing_iterations": 4},
        {"max_aux_streams": 0},
        {"sparse_weights": True},
        {"version_compatible": True, "exclude_lean_runtime": True},
        {"hardware_compatibility_level": "AMPERE_PLUS"},
        {"refit": True},
        {"memory_pool_bytes": {"TACTIC_DRAM": 1 << 20}},
        {"dla_core": 0},
        {"dla_core": 1, "gpu_fallback": False},
        {"timing_cache": False},
    ],
    ids=str,
)
def test_options_that_every_version_has(version: str, tmp_path: Path, options: dict[str, Any]) -> None:
    assert built(negation(tmp_path / "neg.onnx"), **options).size_bytes > 0


@pytest.mark.parametrize(
    ("options", "having", "option"),
    [
        ({"max_num_tactics": 5}, "10 11", "max_num_tactics"),
        ({"tiling_optimization_level": "FULL"}, "10 11", "tiling_optimization_level"),
        ({"l2_limit_for_tiling": 1 << 20}, "10 11", "l2_limit_for_tiling"),
        (
            {"hardware_compatibility_level": "SAME_COMPUTE_CAPABILITY"},
            "10 11",
            "hardware_compatibility_level SAME_COMPUTE_CAPABILITY",
        ),
        ({"strip_plan": True}, "10 11", "strip_plan"),
        ({"distributive_independence": True}, "10 11", "distributive_independence"),
        ({"error_on_timing_cache_miss": True}, "10 11", "error_on_timing_cache_miss"),
        ({"disable_compilation_cache": True}, "10 11", "disable_compilation_cache"),
        ({"memory_pool_bytes": {"TACTIC_SHARED_MEMORY": 1 << 16}}, "10 11", "memory_pool_bytes TACTIC_SHARED_MEMORY"),
        ({"tactic_sources": ["CUBLAS"]}, "8 10", "tactic_sources CUBLAS"),
        ({"preview_features": {"PROFILE_SHARING_0806": True}}, "8 10", "preview_features PROFILE_SHARING_0806"),
        ({"preview_features": {"ALIASED_PLUGIN_IO_10_03": False}}, "10 11", "preview_features ALIASED_PLUGIN_IO_10_03"),
    ],
    ids=str,
)
def test_options_that_a_version_lacks_are_named(
    version: str, tmp_path: Path, options: dict[str, Any], having: str, option: str
) -> None:
    network = negation(tmp_path / "neg.onnx")
    if version.partition(".")[0] in having.split():
        assert built(network, **options).size_bytes > 0
        return
    with pytest.raises(PlanError, match=rf"tensorrt\.{option} needs another TensorRT: .*got {version}"):
        built(network, **options)
    assert not network.with_suffix(".plan").exists()


def test_several_profiles_are_built_and_the_tightest_runs(version: str, tmp_path: Path) -> None:
    small = {"x": ProfileShapes(min=(1, 4), opt=(1, 4), max=(1, 4))}
    plan = built(negation(tmp_path / "neg.onnx"), profiles=(small, ROWS))
    assert [profile["x"].max for profile in plan.profiles] == [(1, 4), (8, 4)]
    with Engine(plan.path) as engine, Runner(engine) as runner:
        for rows in (1, 5):
            x = np.random.default_rng(rows).random((rows, 4), np.float32)
            np.testing.assert_array_equal(runner.infer({"x": x})["y"], -x)


def test_a_profile_is_shared_from_tensorrt_10_on(version: str, tmp_path: Path) -> None:
    plan = built(negation(tmp_path / "neg.onnx"))
    x = np.ones((1, 4), np.float32)
    with Engine(plan.path) as engine:
        with Runner(engine) as first:
            if version.startswith("8."):
                with pytest.raises(PlanError, match=r"profile 0 .* is in use"):
                    Runner(engine)
            else:
                with Runner(engine) as second:
                    np.testing.assert_array_equal(second.infer({"x": x})["y"], -x)
            np.testing.assert_array_equal(first.infer({"x": x})["y"], -x)
        with Runner(engine) as again:  # the first one gave its profile back
            np.testing.assert_array_equal(again.infer({"x": x})["y"], -x)


def test_int64_inputs_are_int32_in_8_6(version: str, tmp_path: Path) -> None:
    plan = built(negation(tmp_path / "neg.onnx", dtype=TensorProto.INT64))
    assert {one.datatype for one in plan.tensors} == {"INT32" if version.startswith("8.") else "INT64"}


def test_double_is_refused_before_tensorrt_makes_float_of_it(version: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"tensor 'x' has a type that TensorRT does not have: .*got DOUBLE"):
        built(negation(tmp_path / "neg.onnx", dtype=TensorProto.DOUBLE))


def test_an_operator_that_tensorrt_lacks_is_named_with_its_node(version: str, tmp_path: Path) -> None:
    network = saved(tmp_path / "odd.onnx", [helper.make_node("Erf", ["x"], ["y"], name="odd_one")])
    with pytest.raises(PlanBuildError, match=r"has no operator Erf \(node 'odd_one'\)"):
        built(network)


def test_an_opset_that_a_version_does_not_know(version: str, tmp_path: Path) -> None:
    newest = {"8": 17, "10": 20, "11": 25}[version.partition(".")[0]]
    assert built(negation(tmp_path / "newest.onnx", opset=newest)).size_bytes > 0
    with pytest.raises(PlanBuildError, match=rf"expected opset {newest} at most, got {newest + 1}"):
        built(negation(tmp_path / "new.onnx", opset=newest + 1))


def test_the_builder_says_how_far_it_is(version: str, tmp_path: Path) -> None:
    heard: list[tuple[float | None, str]] = []
    built(negation(tmp_path / "neg.onnx"), on_progress=lambda *one: heard.append(one))
    assert heard[0] == (None, "reading the network")
    assert heard[-1] == (1.0, "examining the plan")
    if version.startswith("8."):  # read off the log
        assert heard[1:-1] == [(0.99, "timing neg")]
    else:
        assert heard[1:-1] == [(None, "Timing"), (0.5, "Building")]


def test_the_timing_cache_is_kept_and_read_again(version: str, tmp_path: Path) -> None:
    network, folder = negation(tmp_path / "neg.onnx"), tmp_path / "cache"
    first = built(network, timing_cache=folder).timing_cache
    second = built(network, timing_cache=folder).timing_cache
    assert first.path is not None
    assert first.path.endswith(f"sm90-tensorrt-{version}.cache")
    assert (first.read_bytes, second.read_bytes) == (0, first.written_bytes)
    assert first.written_bytes > 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("Error Code 10: Could not find any implementation for node conv1", "no kernel fits a layer"),
        ("Cuda Error in allocate: 2 (out of memory)", "the GPU's memory does not suffice"),
        ("something new", "finds no plan for fault.onnx: got something new"),
    ],
)
def test_a_builder_that_refuses_says_why(version: str, tmp_path: Path, fault: str, words: str) -> None:
    network = negation(tmp_path / "fault.onnx", name=f"fault: {fault}")
    with pytest.raises(PlanBuildError, match=words) as caught:
        built(network)
    assert fault in str(caught.value)
    assert not network.with_suffix(".plan").exists()


def test_a_plan_of_another_version_does_not_load(version: str, tmp_path: Path) -> None:
    plan = built(negation(tmp_path / "neg.onnx"))
    content = bytearray(plan.path.read_bytes())
    content[24:28] = bytes([10, 3, 0, 26])
    plan.path.write_bytes(content)
    with pytest.raises(PlanError, match=r"built by another TensorRT version: .*got one of 10\.3\.0\.26"):
        Engine(plan.path)


def test_a_plan_that_was_cut_off_does_not_load(version: str, tmp_path: Path) -> None:
    plan = built(negation(tmp_path / "neg.onnx"))
    plan.path.write_bytes(plan.path.read_bytes()[:-10])
    with pytest.raises(PlanError, match="cut off or damaged"):
        Engine(plan.path)


def test_strong_types_are_used_where_they_exist(version: str) -> None:
    names = tensorrt_api.tensorrt().NetworkDefinitionCreationFlag
    wanted = {"8": ["EXPLICIT_BATCH"], "10": ["EXPLICIT_BATCH", "STRONGLY_TYPED"], "11": ["STRONGLY_TYPED"]}
    expected = sum(1 << int(names[name]) for name in wanted[version.partition(".")[0]])
    assert tensorrt_api.network_flags() == expected
