from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest

from tritonforge_generator.precision import LIMITS, Accuracy, accuracy
from tritonforge_generator.spec import PrecisionOptions, PrecisionType

Array = npt.NDArray[Any]


def judged(reference: object, answer: object, dtype: Any = np.float32, **options: Any) -> Accuracy:
    arrays: list[Array] = [np.array(one, dtype) for one in (reference, answer)]
    return accuracy([{"y": arrays[0]}], [{"y": arrays[1]}], PrecisionOptions(**{"type": "FP16", **options}))


def test_every_precision_has_a_limit() -> None:
    assert set(LIMITS) == set(get_args(PrecisionType))


def test_error_is_that_of_the_whole_vector() -> None:
    found = judged([3.0, 4.0, 0.0], [3.0, 4.0, 0.05])
    assert found.outputs[0].relative_error == pytest.approx(0.01)
    assert (found.passed, found.outputs[0].top1, found.outputs[0].finite) == (False, 1.0, True)
    assert judged([3.0, 4.0, 0.0], [3.0, 4.0, 0.04]).passed


def test_the_worst_sample_and_output_count() -> None:
    good, bad = np.array([1.0, 0.0]), np.array([1.0, 0.5])
    options = PrecisionOptions(type="FP16")
    found = accuracy([{"a": good, "b": good}] * 2, [{"a": good, "b": good}, {"a": good, "b": bad}], options)
    assert [one.relative_error for one in found.outputs] == [0.0, 0.5]
    assert (found.passed, found.worst) == (False, 0.5)
    assert found.summary == "'b' has a relative error of 0.5, allowed 0.01"


def test_the_users_limit_replaces_the_default() -> None:
    assert judged([1.0, 0.0], [1.0, 0.1], max_relative_error=0.2).passed
    assert not judged([1.0, 0.0], [1.0, 0.001], max_relative_error=1e-4).passed


def test_top1_counts_rows_of_the_last_axis() -> None:
    reference = np.eye(4)
    answer = reference.copy()
    answer[3] = [0.999, 0.0, 0.0, 0.998]
    found = judged(reference, answer, type="INT8", min_top1=0.8, max_relative_error=1.0)
    assert found.outputs[0].top1 == 0.75
    assert found.summary == "'y' keeps its largest element in 75.00% of the samples, asked 80.00%"
    assert judged(reference, answer, min_top1=0.75, max_relative_error=1.0).passed
    assert judged([[1.0]], [[1.0]], min_top1=1.0).passed  # nothing to choose from


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_fail_unless_the_reference_has_them(value: float) -> None:
    found = judged([1e6, 1.0], [1e6, value])
    assert (found.passed, found.worst) == (False, np.inf)
    assert "not finite" in found.summary
    assert judged([1.0, value], [1.0, value]).passed


def test_integers_count_by_the_share_that_differs() -> None:
    found = judged([1, 2, 3, 4], [1, 2, 3, 5], np.int64, max_relative_error=0.3)
    assert (found.worst, found.passed) == (0.25, True)


@pytest.mark.parametrize(("answer", "worst"), [([0.0, 0.0], 0.0), ([0.0, 1e-6], np.inf)])
def test_a_reference_of_zeros(answer: list[float], worst: float) -> None:
    assert judged([0.0, 0.0], answer).worst == worst


def test_another_shape_fails() -> None:
    assert not judged([1.0, 2.0], [[1.0, 2.0]]).passed


def test_nothing_compared_fails() -> None:
    assert not accuracy([], [], PrecisionOptions(type="FP16")).passed
