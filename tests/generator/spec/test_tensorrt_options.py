"""What a spec may say of a TensorRT build, and what it may not, one option at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.errors import SpecError
from tritonforge_generator.spec import ModelOptions, ProfileShapes, TensorRTOptions, forge_spec_from_file


def options_from(**given: Any) -> TensorRTOptions:
    return declared_from_mapping(given, TensorRTOptions, origin="test")


def model_from(**given: Any) -> ModelOptions:
    plan = {"name": "m", "source": "m.onnx", "platform": "tensorrt"}
    return declared_from_mapping({**plan, **given}, ModelOptions, origin="test")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("opt_batch_size", 8),
        ("workspace_bytes", 1 << 32),
        ("memory_pool_bytes", {"TACTIC_SHARED_MEMORY": 1 << 16}),
        ("builder_optimization_level", 0),
        ("avg_timing_iterations", 16),
        ("max_num_tactics", 4),
        ("max_aux_streams", 0),
        ("tiling_optimization_level", "FULL"),
        ("l2_limit_for_tiling", 1 << 20),
        ("tactic_sources", ("CUBLAS",)),
        ("preview_features", {"ALIASED_PLUGIN_IO_10_03": True}),
        ("distributive_independence", True),
        ("sparse_weights", True),
        ("version_compatible", True),
        ("exclude_lean_runtime", True),
        ("hardware_compatibility_level", "AMPERE_PLUS"),
        ("refit", True),
        ("strip_plan", True),
        ("dla_core", 0),
        ("gpu_fallback", False),
        ("device_id", 1),
        ("timing_cache", False),
        ("error_on_timing_cache_miss", True),
        ("disable_compilation_cache", True),
        ("time_budget_s", 0.5),
    ],
)
def test_each_option_alone_is_taken(option: str, value: Any) -> None:
    options = options_from(**{option: value})
    assert getattr(options, option) == value
    assert options != TensorRTOptions()


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"opt_batch_size": 0}, "opt_batch_size: expected greater than or equal to 1"),
        ({"workspace_bytes": "4G"}, "workspace_bytes: expected a whole number"),
        ({"memory_pool_bytes": {"WORKSPACE": 1}}, "DLA_MANAGED_SRAM"),
        ({"memory_pool_bytes": {"TACTIC_DRAM": 0}}, "greater than or equal to 1"),
        ({"builder_optimization_level": 6}, "builder_optimization_level: expected less than or equal to 5"),
        ({"max_aux_streams": -1}, "max_aux_streams: expected greater than or equal to 0"),
        ({"tiling_optimization_level": "full"}, "Did you mean 'FULL'"),
        ({"tactic_sources": ["CUDN"]}, "Did you mean 'CUDNN'"),
        ({"preview_features": {"ALIASED_PLUGIN_IO_10_03": "on"}}, "expected true or false"),
        ({"hardware_compatibility_level": "HOPPER"}, "hardware_compatibility_level"),
        ({"refit": 1}, "refit: expected true or false"),
        ({"time_budget_s": 0}, "time_budget_s: expected greater than 0"),
        ({"fp16": True}, "unknown key 'fp16'"),
        (
            {"error_on_timing_cache_miss": True, "timing_cache": False},
            "error_on_timing_cache_miss: expected a timing cache",
        ),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], refusal: str) -> None:
    with pytest.raises(SpecError, match=refusal):
        options_from(**given)


@pytest.mark.parametrize(
    "shapes",
    [
        {"min": [2, 4], "opt": [1, 4], "max": [8, 4]},
        {"min": [1, 4], "opt": [9, 4], "max": [8, 4]},
        {"min": [1, 5], "opt": [1, 4], "max": [8, 4]},
        {"min": [1], "opt": [1, 4], "max": [8, 4]},
    ],
)
def test_shapes_out_of_order_are_refused(shapes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="expected min <= opt <= max, axis by axis"):
        declared_from_mapping(shapes, ProfileShapes, origin="test")


def test_sizes_are_at_least_one() -> None:
    with pytest.raises(SpecError, match="greater than or equal to 1"):
        declared_from_mapping({"min": [0, 4], "opt": [1, 4], "max": [8, 4]}, ProfileShapes, origin="test")


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"platform": "onnxruntime", "tensorrt": {"refit": True}}, "expected tensorrt, because tensorrt is set"),
        ({"platform": "onnxruntime", "optimization": {"cuda": {}}}, "because optimization.cuda is set"),
        ({"platform": "onnxruntime", "instance_group": [{"profile": [0]}]}, "because instance_group.profile is set"),
        ({"optimization": {"graph": {"level": 0}}}, "a plan has no ONNX Runtime"),
        ({"tensorrt": {"strip_plan": True}}, "Triton cannot put the weights back"),
        ({"tensorrt": {"exclude_lean_runtime": True}}, "version_compatible: true beside it"),
        ({"instance_group": [{"kind": "KIND_CPU"}]}, "KIND_GPU or KIND_AUTO for a plan"),
    ],
)
def test_models_that_contradict_themselves_are_refused(given: dict[str, Any], refusal: str) -> None:
    with pytest.raises(SpecError, match=refusal):
        model_from(**given)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "tritonforge.yaml").write_text("""
        models:
          - name: m
            source: m.onnx
            platform: tensorrt
            tensorrt: {plugins: [lib/a.so, /abs/b.so], timing_cache: caches}
        """)
    options = forge_spec_from_file(tmp_path / "tritonforge.yaml").models[0].tensorrt
    assert options.plugins == (tmp_path / "lib" / "a.so", Path("/abs/b.so"))
    assert options.timing_cache == tmp_path / "caches"


def test_switched_timing_cache_has_no_path(tmp_path: Path) -> None:
    assert options_from(timing_cache=True).resolved(tmp_path).timing_cache is True
    assert options_from(timing_cache=False).resolved(tmp_path).timing_cache is False
