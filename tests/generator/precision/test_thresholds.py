from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper, numpy_helper
from support.graphs import save, tensor
from support.samples import pool

from tritonforge_generator.precision.model_file import loaded
from tritonforge_generator.precision.thresholds import thresholds_from_samples
from tritonforge_generator.spec import CalibrationOptions
from tritonforge_generator.spec.precision_options import CalibrationMethod

METHODS: tuple[CalibrationMethod, ...] = ("MinMax", "Entropy", "Percentile")


def found(tmp_path: Path, x: npt.NDArray[np.float32], options: CalibrationOptions) -> dict[str, float]:
    """Thresholds of an input and of its double."""
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    shapes = [tensor("x", shape=("batch", x.shape[1]))], [tensor("y", shape=("batch", x.shape[1]))]
    path = save(tmp_path / "net.onnx", [helper.make_node("Mul", ["x", "two"], ["y"])], *shapes, [two])
    return thresholds_from_samples(loaded(path), ["x", "y", "none"], pool(x=x), options, batched=True)


def normal(rows: int, columns: int = 500) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_order_and_chunks_do_not_matter(tmp_path: Path, method: CalibrationMethod) -> None:
    x = normal(19)
    x[18] *= 30
    options = CalibrationOptions(method=method)
    first, turned = found(tmp_path, x, options), found(tmp_path, x[::-1].copy(), options)
    assert first == pytest.approx(turned)
    assert set(first) == {"x", "y"}
    assert first["y"] == pytest.approx(2 * first["x"])


def test_minmax_takes_everything(tmp_path: Path) -> None:
    x = normal(20)
    assert found(tmp_path, x, CalibrationOptions())["x"] == np.max(np.abs(x))


@pytest.mark.parametrize("percentile", [75.0, 99.0, 100.0])
def test_percentile_is_that_of_magnitudes(tmp_path: Path, percentile: float) -> None:
    x = normal(20)
    options = CalibrationOptions(method="Percentile", percentile=percentile)
    expected = np.percentile(np.abs(x), percentile)
    assert found(tmp_path, x, options)["x"] == pytest.approx(expected, abs=np.max(np.abs(x)) / 1000)


def test_entropy_cuts_off_outliers_and_keeps_what_is_even(tmp_path: Path) -> None:
    options = CalibrationOptions(method="Entropy")
    x = normal(20)
    x[3, 4] = 60.0
    assert 2.5 < found(tmp_path, x, options)["x"] < 15
    even = np.linspace(-4, 4, 20 * 500).astype(np.float32).reshape(20, 500)
    assert found(tmp_path, even, options)["x"] > 3.9


@pytest.mark.parametrize("method", METHODS)
def test_zeros_say_nothing(tmp_path: Path, method: CalibrationMethod) -> None:
    options = CalibrationOptions(method=method)
    assert found(tmp_path, np.zeros((3, 4), np.float32), options) == {"x": 0.0, "y": 0.0}
    if method == "Entropy":  # a ReLU's zeros are exact in every type
        x = normal(20)
        sparse = np.concatenate([x, np.zeros_like(x)])
        assert found(tmp_path, x, options) == found(tmp_path, sparse, options)


@pytest.mark.parametrize("method", METHODS)
def test_infinities_do_not_count(tmp_path: Path, method: CalibrationMethod) -> None:
    x = normal(20)
    masked = x.copy()
    masked[2, :3] = [-np.inf, np.finfo(np.float32).min, np.nan]
    x[2, :3] = 0
    options = CalibrationOptions(method=method)
    assert found(tmp_path, masked, options)["x"] == found(tmp_path, x, options)["x"]
