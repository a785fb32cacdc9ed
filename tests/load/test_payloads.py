from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import Workload
from tritonforge_load.payloads import AnswerCheck, Request, requests_of


def workload_of(**keys: object) -> Workload:
    return declared_from_mapping({"name": "w", "model": "m", **keys}, Workload, origin="test")


def spec_of(*dims: int, datatype: str = "FP32", max_batch_size: int = 8) -> ModelSpec:
    return ModelSpec(
        name="m",
        inputs=(
            TensorSpec(name="x", datatype=datatype, dims=dims),
            TensorSpec(name="extra", datatype="INT32", dims=(1,), optional=True),
        ),
        outputs=(TensorSpec(name="y", datatype="FP32", dims=(10,)),),
        max_batch_size=max_batch_size,
    )


@pytest.mark.parametrize("datatype", sorted(BY_DATATYPE))
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_random_values_have_the_models_type_and_shape(datatype: str, kind: str, tmp_path: Path) -> None:
    workload = workload_of(batch=3, inputs={"x": {"random": kind, "high": 100.0, "pool": 4}})
    requests = requests_of(workload, spec_of(2, 5, datatype=datatype), base=tmp_path, seed=1)
    assert len(requests) == 4
    for request in requests:
        assert list(request.inputs) == ["x"]
        assert request.inputs["x"].shape == (3, 2, 5)
        assert request.inputs["x"].dtype == (ml_dtypes.bfloat16 if datatype == "BF16" else BY_DATATYPE[datatype].dtype)
        assert (request.rows, request.first_row) == (3, -1)
    if datatype == "BYTES":
        assert all(isinstance(value, bytes) and len(value) == 12 for value in requests[0].inputs["x"].flat)
    assert (
        len(
            {request.inputs["x"].tobytes() if datatype != "BYTES" else str(request.inputs["x"]) for request in requests}
        )
        > 1
    )


def test_random_values_follow_from_the_seed(tmp_path: Path) -> None:
    first, again, other = (requests_of(workload_of(), spec_of(4), base=tmp_path, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.inputs["x"], b.inputs["x"]) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].inputs["x"], other[0].inputs["x"])


def test_uniform_values_keep_their_bounds(tmp_path: Path) -> None:
    workload = workload_of(inputs={"x": {"random": "uniform", "low": 3, "high": 6, "pool": 64}})
    requests = requests_of(workload, spec_of(50, datatype="INT64"), base=tmp_path, seed=1)
    assert {int(value) for request in requests for value in request.inputs["x"].flat} == {3, 4, 5}


def test_batches_take_turns(tmp_path: Path) -> None:
    workload = workload_of(batch=[1, 4], inputs={"x": {"random": "normal", "pool": 3}})
    requests = requests_of(workload, spec_of(2), base=tmp_path, seed=1)
    assert [request.rows for request in requests] == [1, 4, 1, 4, 1, 4]
    assert [request.inputs["x"].shape for request in requests[:2]] == [(1, 2), (4, 2)]


def test_a_model_without_batch_dimension_gets_its_dims(tmp_path: Path) -> None:
    spec = spec_of(2, -1, max_batch_size=0)
    workload = workload_of(inputs={"x": {"random": "normal", "shape": [2, 7]}})
    assert requests_of(workload, spec, base=tmp_path, seed=1)[0].inputs["x"].shape == (2, 7)
    np.savez(tmp_path / "rows.npz", x=np.arange(24, dtype=np.float32).reshape(4, 2, 3))
    requests = requests_of(workload_of(inputs={"x": {"file": "rows.npz"}}), spec, base=tmp_path, seed=1)
    assert [request.first_row for request in requests] == [0, 1, 2, 3]
    assert requests[1].inputs["x"].tolist() == [[6, 7, 8], [9, 10, 11]]


def test_every_row_of_an_array_is_in_one_request(tmp_path: Path) -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    np.savez(tmp_path / "rows.npz", other=rows)
    workload = workload_of(batch=[1, 2], inputs={"x": {"file": "rows.npz", "key": "other"}})
    requests = requests_of(workload, spec_of(2), base=tmp_path, seed=1)
    assert [(request.first_row, request.rows) for request in requests] == [
        (0, 1),
        (1, 2),
        (3, 1),
        (4, 2),
        (6, 1),
        (7, 2),
        (9, 1),
    ]
    assert np.array_equal(np.concatenate([request.inputs["x"] for request in requests]), rows)


def test_arrays_come_from_packages_too(tmp_path: Path) -> None:
    workload = workload_of(
        inputs={"x": {"package": "tritonforge_generator:demo/data/digits_test.npz", "key": "images"}}
    )
    requests = requests_of(workload, spec_of(1, 8, 8), base=tmp_path, seed=1)
    assert requests[0].inputs["x"].shape == (1, 1, 8, 8)


def test_text_arrays_become_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([["a", "bc"]]))
    workload = workload_of(inputs={"x": {"file": "rows.npz"}})
    request = requests_of(workload, spec_of(2, datatype="BYTES"), base=tmp_path, seed=1)[0]
    assert request.inputs["x"].tolist() == [["a", "bc"]]
    assert request.inputs["x"].dtype == object


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"inputs": {"z": {"random": "normal"}}}, r"'w': input: expected one of x, extra \(model 'm'\), got 'z'"),
        ({"batch": 9}, r"batch: expected at most 8 \(max_batch_size\), got 9. Lower it"),
        ({"inputs": {"x": {"random": "normal", "shape": [3]}}}, r"x.shape: expected sizes for \(2, -1\), got \(3,\)"),
        ({"inputs": {"x": {"random": "normal", "shape": [3, 3]}}}, r"x.shape: expected sizes for"),
        ({}, r"x has open dimensions \(2, -1\). Give the input a shape"),
        ({"inputs": {"x": {"file": "none.npz"}}}, r"none.npz: cannot be read as .npz"),
        ({"inputs": {"x": {"file": "text.npz"}}}, r"text.npz: cannot be read as .npz"),
        ({"inputs": {"x": {"file": "rows.npz"}}}, r"rows.npz: array: expected 'x', got wrong, few. Name one of them"),
        ({"inputs": {"x": {"file": "rows.npz", "key": "wrong"}}}, r"expected float32 rows .* got int64 rows"),
        ({"batch": 4, "inputs": {"x": {"file": "rows.npz", "key": "few"}}}, r"expected at least 4 \(batch\), got 1"),
        ({"inputs": {"x": {"package": "no_such_package:a.npz"}}}, r"no such package"),
        (
            {"inputs": {"x": {"file": "rows.npz", "key": "few"}}, "check": {"output": "z", "golden": {"file": "a"}}},
            r"check.output: expected one of y, got 'z'",
        ),
    ],
)  # fmt: skip
def test_refuses_what_does_not_fit(keys: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no zip file")
    np.savez(tmp_path / "rows.npz", wrong=np.zeros((4, 3), np.int64), few=np.zeros((1, 2, 5), np.float32))
    with pytest.raises(SpecError, match=message):
        requests_of(workload_of(**keys), spec_of(2, -1), base=tmp_path, seed=1)


def test_arrays_of_different_length_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.zeros((4, 2), np.float32), extra=np.zeros((5, 1), np.int32))
    source = {"file": "rows.npz"}
    with pytest.raises(SpecError, match="expected as many in each, got x 4, extra 5"):
        requests_of(workload_of(inputs={"x": source, "extra": source}), spec_of(2), base=tmp_path, seed=1)


class TestAnswerCheck:
    def check(self, tmp_path: Path, *, rows: int = 3, **keys: object) -> AnswerCheck:
        np.savez(tmp_path / "x.npz", x=np.zeros((3, 2), np.float32))
        np.savez(tmp_path / "right.npz", labels=np.array([2, 0, 1]), y=np.array([[1.0, 2], [3, 4], [5, 6]]))
        workload = workload_of(inputs={"x": {"file": "x.npz"}}, check={"output": "y", **keys})
        assert workload.check is not None
        return AnswerCheck(workload.check, base=tmp_path, rows=rows, place="w")

    def test_labels_are_compared_with_the_largest_value(self, tmp_path: Path) -> None:
        check = self.check(tmp_path, labels={"file": "right.npz"})
        answer = {"y": np.array([[0.1, 0.9, 0.0], [0.0, 0.2, 0.1]])}
        assert check.correct_rows(Request({}, 2, 1), answer, batched=True) == 1
        assert check.correct_rows(Request({}, 1, 2), {"y": answer["y"][0]}, batched=False) == 1

    def test_golden_rows_are_compared_within_the_tolerances(self, tmp_path: Path) -> None:
        check = self.check(tmp_path, golden={"file": "right.npz"}, rtol=0.01)
        answer = {"y": np.array([[3.0, 4.03], [5.0, 6.1]])}
        assert check.correct_rows(Request({}, 2, 1), answer, batched=True) == 1
        assert check.correct_rows(Request({}, 2, 1), {"y": np.zeros((2, 3))}, batched=True) == 0

    def test_too_few_reference_rows_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match=r"check: reference: expected at least 4 rows, got shape \(3,\)"):
            self.check(tmp_path, rows=4, labels={"file": "right.npz"})
