"""What a spec may say of preprocessing."""

from __future__ import annotations

from typing import Any

import pytest

from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.errors import SpecError
from tritonforge_generator.spec import PreprocessOptions


def options_from(**given: Any) -> PreprocessOptions:
    return declared_from_mapping(given, PreprocessOptions, origin="test")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("input", "images"),
        ("layout", "NCHW"),
        ("dtype", "float32"),
        ("scale", 1.0),
        ("mean", (0.485, 0.456, 0.406)),
        ("std", (0.229, 0.224, 0.225)),
        ("resize", (480, 640)),
        ("reverse_channels", True),
    ],
)
def test_each_option_alone_is_taken(option: str, value: Any) -> None:
    assert getattr(options_from(**{option: value}), option) == value


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"layout": "HWC"}, "layout: expected 'NHWC' or 'NCHW'"),
        ({"dtype": "FP32"}, "dtype: expected 'uint8' or 'float32'"),
        ({"std": [1.0, 0.0, 1.0]}, "greater than 0"),
        ({"mean": [0.5], "std": [1.0, 1.0, 1.0]}, "std: expected 1 values, as many as mean has, got 3 values"),
        ({"resize": [224]}, "resize"),
        ({"resize": [224, 0]}, "greater than or equal to 1"),
        ({"resize": [224, 224, 3]}, "resize"),
        ({"size": 224}, "Did you mean 'resize'|expected one of"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], refusal: str) -> None:
    with pytest.raises(SpecError, match=refusal):
        options_from(**given)
