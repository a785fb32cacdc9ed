from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from support import graphs

from tritonforge_generator.errors import GraphError, VerificationError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.graph.agreement import Tolerance, disagreement, served_tolerance_of
from tritonforge_generator.spec import VerifyOptions
from tritonforge_generator.verify import Check, Verification, batch_check, reference_check, reference_from_path
from tritonforge_generator.verify.gates import batch_sizes
from tritonforge_generator.verify.verification import Comparison


def test_the_same_model_passes(tmp_path: Path) -> None:
    path = graphs.linear(tmp_path / "m.onnx")
    reference = reference_from_path(path, VerifyOptions(), batched=True)
    check = reference_check(reference, OnnxSession(path))
    assert check.passed
    (figures,) = check.figures
    assert (figures.name, figures.max_abs, figures.top1) == ("y", 0.0, 1.0)


def test_another_model_fails_with_its_figures(tmp_path: Path) -> None:
    reference = reference_from_path(graphs.linear(tmp_path / "a.onnx", seed=0), VerifyOptions(), batched=True)
    check = reference_check(reference, OnnxSession(graphs.linear(tmp_path / "b.onnx", seed=1)))
    assert not check.passed
    assert "output 'y' of sample 0: largest difference" in check.summary
    assert (check.figures[0].max_abs or 0) > 0.1


def test_tolerances_of_the_spec_decide(tmp_path: Path) -> None:
    path, other = graphs.linear(tmp_path / "a.onnx", seed=0), graphs.linear(tmp_path / "b.onnx", seed=1)
    for atol, passes in ((0.001, False), (100.0, True)):
        reference = reference_from_path(path, VerifyOptions(atol=atol), batched=True)
        assert reference_check(reference, OnnxSession(other)).passed is passes


def test_a_missing_output_fails(tmp_path: Path) -> None:
    reference = reference_from_path(graphs.linear(tmp_path / "a.onnx"), VerifyOptions(), batched=True)
    other = graphs.save(
        tmp_path / "b.onnx",
        [helper.make_node("Identity", ["x"], ["z"])],
        [graphs.tensor("x")],
        [graphs.tensor("z")],
    )
    check = reference_check(reference, OnnxSession(other))
    assert not check.passed
    assert "lacks the output 'y'" in check.summary


def test_rows_that_influence_each_other_fail(tmp_path: Path) -> None:
    path = graphs.mixes_rows(tmp_path / "m.onnx")
    check = batch_check(reference_from_path(path, VerifyOptions(), batched=True), OnnxSession(path), max_batch_size=4)
    assert not check.passed
    assert "slot 0 in a batch of 2" in check.summary


def test_a_batch_that_does_not_run_fails(tmp_path: Path) -> None:
    path = graphs.fixed_inside(tmp_path / "m.onnx", 5)
    reference = reference_from_path(path, VerifyOptions(), batched=True)
    assert batch_check(reference, OnnxSession(path), max_batch_size=5).passed
    check = batch_check(reference, OnnxSession(path), max_batch_size=6)
    assert not check.passed
    assert "fails with 6 rows" in check.summary


def test_a_model_that_answers_differently_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="answers the same question differently when asked twice"):
        reference_from_path(graphs.random_output(tmp_path / "m.onnx"), VerifyOptions(), batched=True)


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [1]), (3, [1, 2, 3]), (8, [*range(1, 9)]), (40, [*range(1, 9), 16, 32, 40])]
)
def test_batch_sizes_include_the_limit(limit: int, sizes: list[int]) -> None:
    assert batch_sizes(limit) == sizes


@pytest.mark.parametrize(
    ("reference", "answer", "text"),
    [
        ([1.0, 2.0], [1.0, 2.0], ""),
        ([1.0], [1.00009], ""),
        ([1.0], [1.1], "largest difference 0.1"),
        ([0.0], [1.0], "largest difference 1"),
        ([np.nan, np.inf], [np.nan, np.inf], ""),
        ([np.nan], [0.0], "largest difference 0"),
        ([np.inf], [-np.inf], "largest difference inf"),
        ([1.0], [[1.0]], r"shape (1, 1) instead of (1,)"),
    ],
)
def test_floats_agree_within_tolerance(reference: object, answer: object, text: str) -> None:
    said = disagreement(np.array(reference, np.float32), np.array(answer, np.float32))
    assert said.startswith(text)
    assert (said == "") == (text == "")


def test_served_answers_may_come_from_a_gpu() -> None:
    """TF32 keeps 10 bits: an error of a thousandth of the largest value passes there, and only there."""
    reference = np.array([[15.0, 0.01]], np.float32)
    answer = reference + np.float32(0.008)
    assert disagreement(reference, answer) != ""
    assert disagreement(reference, answer, served_tolerance_of(reference)) == ""
    assert disagreement(reference, reference + np.float32(0.05), served_tolerance_of(reference)) != ""
    assert served_tolerance_of(np.zeros(2, np.int64)) == Tolerance(rtol=0, atol=0)
    assert served_tolerance_of(np.array([np.inf], np.float32)).atol == 1e-4


def test_other_types_must_be_equal() -> None:
    assert disagreement(np.array([1, 2]), np.array([1, 3])) == "1 of 2 elements"
    assert disagreement(np.array([b"a"], object), np.array([b"b"], object)) == "1 of 1 elements"
    assert disagreement(np.array([True]), np.array([True])) == ""
    assert disagreement(np.array([1.0]), np.array([1.0], np.float32)) == "dtype float32 instead of float64"
    assert disagreement(np.array([1.0]), np.array([1.5]), Tolerance(rtol=0, atol=1)) == ""


def test_figures_over_several_samples() -> None:
    comparison = Comparison(None)
    comparison.add("y", np.array([[1.0, 3.0]]), np.array([[1.0, 3.5]]), "sample 0")
    comparison.add("y", np.array([[0.0, 1.0]]), np.array([[2.0, 1.0]]), "sample 1")
    (figures,) = comparison.figures()
    assert figures.max_abs == 2.0
    assert figures.max_rel == pytest.approx(0.5 / 3)
    assert figures.top1 == 0.5
    assert figures.cosine == pytest.approx(12.5 / np.sqrt(11.0 * 18.25))
    assert "output 'y' of sample 0" in comparison.problem


def test_no_gates_are_a_failure() -> None:
    verification = Verification(model="m", samples="", checks=())
    assert not verification.passed
    with pytest.raises(VerificationError, match="no gate ran"):
        verification.raise_if_failed()


def test_one_failed_gate_stops_publishing() -> None:
    checks = (Check(name="a", passed=True, summary=""), Check(name="b", passed=False, summary="broken"))
    with pytest.raises(VerificationError, match=r"model 'm' was not published: .*b: broken"):
        Verification(model="m", samples="", checks=checks).raise_if_failed()
