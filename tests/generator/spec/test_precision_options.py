"""What a spec may say of number types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.errors import SpecError
from tritonforge_generator.spec import ModelOptions, PrecisionOptions, PrecisionType, forge_spec_from_file


def options_from(**given: Any) -> PrecisionOptions:
    return declared_from_mapping(given, PrecisionOptions, origin="test")


@pytest.mark.parametrize("name", get_args(PrecisionType))
def test_a_name_alone_means_its_defaults(name: str) -> None:
    given = {"name": "m", "source": "m.onnx", "platform": "tensorrt", "precision": name}
    model = declared_from_mapping(given, ModelOptions, origin="test")
    assert model.precision_options == options_from(type=name)


def test_no_precision_keeps_the_graphs_own() -> None:
    model = declared_from_mapping({"name": "m", "source": "m.onnx"}, ModelOptions, origin="test")
    assert model.precision_options is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("keep_fp32", ("Softmax", "/head/*")),
        ("max_relative_error", 0.01),
        ("min_top1", 1.0),
    ],
)
def test_each_option_alone_is_taken(option: str, value: Any) -> None:
    assert getattr(options_from(**{option: value}), option) == value


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"type": "FP64"}, "type: expected 'FP32'"),
        ({"type": "fp16"}, "Did you mean 'FP16'"),
        ({"calibration": {"method": "minmax"}}, "Did you mean 'MinMax'"),
        ({"calibration": {"percentile": 50, "method": "Percentile"}}, "greater than 50"),
        ({"calibration": {"percentile": 99.0}}, "calibration.percentile: expected the method Percentile, got MinMax"),
        ({"repair": {"max_layer_share": 0}}, "greater than 0"),
        ({"max_relative_error": 0}, "greater than 0"),
        ({"min_top1": 1.1}, "less than or equal to 1"),
        ({"keep_fp32": "Softmax"}, "keep_fp32: expected a list"),
        ({"layers": []}, "unknown key 'layers'"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], refusal: str) -> None:
    with pytest.raises(SpecError, match=refusal):
        options_from(**given)


def test_percentile_goes_with_its_method() -> None:
    assert options_from(calibration={"method": "Percentile", "percentile": 99.5}).calibration.percentile == 99.5


@pytest.mark.parametrize("precision", ["BF16", "FP8"])
def test_types_without_kernels_on_a_cpu_need_a_plan(precision: str) -> None:
    with pytest.raises(SpecError, match="platform: expected tensorrt"):
        declared_from_mapping({"name": "m", "source": "m.onnx", "precision": precision}, ModelOptions, origin="test")


@pytest.mark.parametrize(
    ("samples", "resolved"), [("a.npz", "{folder}/a.npz"), ("/b", "/b"), ("python:m:f", "python:m:f")]
)
def test_sample_paths_are_relative_to_the_file(tmp_path: Path, samples: str, resolved: str) -> None:
    path = tmp_path / "tritonforge.yaml"
    path.write_text(f"""
        models:
          - name: m
            source: m.onnx
            precision: {{type: INT8, calibration: {{samples: '{samples}'}}}}
        """)
    precision = forge_spec_from_file(path).models[0].precision_options
    assert precision is not None
    assert precision.calibration.samples == resolved.format(folder=tmp_path)
