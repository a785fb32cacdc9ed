from __future__ import annotations

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import Workload
from tritonforge_load.payloads import AnswerCheck, Request, check_of, requests_of


def workload_of(**keys: object) -> Workload:
    return declared_from_mapping({"name": "w", "model": "m", **keys}, Workload, origin="test")


def spec_of(*dims: int, name: str = "x", datatype: str = "FP32", max_batch_size: int = 8) -> ModelSpec:
    return ModelSpec(
        name="m",
        inputs=(
            TensorSpec(name=name, datatype=datatype, dims=dims),
            TensorSpec(name="extra", datatype="INT32", dims=(1,), optional=True),
        ),
        outputs=(TensorSpec(name="y", datatype="FP32", dims=(10,)),),
        max_batch_size=max_batch_size,
    )


@pytest.mark.parametrize("datatype", sorted(BY_DATATYPE))
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_random_values_have_the_models_type_and_shape(datatype: str, kind: str, tmp_path: Path) -> None:
    bound = {"high": 100.0} if kind == "uniform" else {}
    workload = workload_of(batch=3, inputs={"x": {"random": kind, "pool": 4, **bound}})
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


@pytest.mark.parametrize(
    ("name", "datatype", "least", "largest"),
    [
        ("input_ids", "INT64", 0, 999),
        ("INPUT_IDS", "INT32", 0, 999),
        ("decoder_input_ids", "INT64", 0, 999),
        ("tokens", "UINT16", 0, 999),
        ("tokens", "INT8", 0, 127),
        ("attention_mask", "INT64", 0, 1),
        ("token_type_ids", "INT64", 0, 1),
        ("x", "UINT8", 0, 1),
    ],
)
def test_integers_without_a_range_are_what_their_name_suggests(
    name: str, datatype: str, least: int, largest: int, tmp_path: Path
) -> None:
    spec = spec_of(4000, name=name, datatype=datatype)
    values = requests_of(workload_of(), spec, base=tmp_path, seed=1)[0].inputs[name]
    assert (values.min(), values.max()) == (least, largest)


def test_large_integers_keep_all_their_digits(tmp_path: Path) -> None:
    low = 2**62
    workload = workload_of(inputs={"x": {"random": "uniform", "low": low, "high": low + 1024, "pool": 1}})
    values = requests_of(workload, spec_of(500, datatype="INT64"), base=tmp_path, seed=1)[0].inputs["x"]
    assert low <= values.min() < values.max() < low + 1024
    assert (values % 2 == 1).any()


@pytest.mark.parametrize(
    ("dims", "datatype", "values", "expected"),
    [
        ((3,), "FP32", [1, 2.5, 3], [1, 2.5, 3]),
        ((2, -1), "INT64", [1, 2, 3, 4], [[1, 2], [3, 4]]),
        ((2,), "BOOL", [True, False], [True, False]),
        ((1,), "BYTES", ["größe"], ["größe".encode()]),
        ((2,), "BF16", [1, 2.5], [1, 2.5]),
    ],
)
def test_values_of_the_campaign_are_the_same_in_every_row(
    dims: tuple[int, ...], datatype: str, values: list[object], expected: list[object], tmp_path: Path
) -> None:
    workload = workload_of(batch=[1, 3], inputs={"x": {"values": values}})
    requests = requests_of(workload, spec_of(*dims, datatype=datatype), base=tmp_path, seed=1)
    assert [request.rows for request in requests] == [1, 3]
    for request in requests:
        assert request.inputs["x"].tolist() == [expected] * request.rows
        assert request.inputs["x"].dtype == (ml_dtypes.bfloat16 if datatype == "BF16" else BY_DATATYPE[datatype].dtype)


def test_values_beside_random_ones(tmp_path: Path) -> None:
    spec = spec_of(2)
    workload = workload_of(inputs={"x": {"random": "normal", "pool": 3}, "extra": {"values": [7]}})
    requests = requests_of(workload, spec, base=tmp_path, seed=1)
    assert len(requests) == 3
    assert [request.inputs["extra"].tolist() for request in requests] == [[[7]]] * 3


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


def test_an_npy_file_has_one_array(tmp_path: Path) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.save(tmp_path / "rows.npy", np.asfortranarray(rows))
    requests = requests_of(workload_of(inputs={"x": {"file": "rows.npy"}}), spec_of(2), base=tmp_path, seed=1)
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
        ({"inputs": {"x": {"file": "none.npz"}}}, r"none.npz: cannot be read as .npz or .npy"),
        ({"inputs": {"x": {"file": "text.npz"}}}, r"text.npz: cannot be read as .npz or .npy"),
        ({"inputs": {"x": {"file": "cut.npz"}}}, r"cut.npz: cannot be read as .npz or .npy"),
        ({"inputs": {"x": {"file": "cut.npy"}}}, r"cut.npy: cannot be read as .npz or .npy"),
        ({"inputs": {"x": {"file": "scalar.npy"}}}, r"scalar.npy: expected float32 rows .* got float64 rows of shape"),
        ({"inputs": {"x": {"file": "objects.npz"}}}, r"objects.npz: array: expected numbers or numpy text, got Python"),
        ({"inputs": {"x": {"file": "rows.npz"}}}, r"rows.npz: array: expected 'x', got wrong, few. Name one of them"),
        ({"inputs": {"x": {"file": "rows.npz", "key": "wrong"}}}, r"expected float32 rows .* got int64 rows"),
        ({"batch": 4, "inputs": {"x": {"file": "rows.npz", "key": "few"}}}, r"expected at least 4 \(batch\), got 1"),
        ({"inputs": {"x": {"package": "no_such_package:a.npz"}}}, r"no such package"),
        ({"inputs": {"x": {"values": [1, 2, 3]}}}, r"x.values: expected a multiple of 2 elements for \(2, -1\), got 3"),
        ({"inputs": {"x": {"values": ["a", "b"]}}}, r"x.values: expected numbers \(FP32\), got 'a'"),
        ({"inputs": {"x": {"values": [1, 2], "shape": [2, 2]}}}, r"x.values: expected 4 elements for \(2, 2\), got 2"),
        (
            {"inputs": {"extra": {"values": [True]}, "x": {"values": [1, 2]}}},
            r"extra.values: expected whole numbers that INT32 has .* got True",
        ),
        (
            {"inputs": {"extra": {"values": [2**31]}, "x": {"values": [1, 2]}}},
            r"extra.values: expected whole numbers .* got 2147483648",
        ),
        (
            {"inputs": {"extra": {"random": "uniform", "high": 2.0**40}, "x": {"values": [1, 2]}}},
            r"extra: low and high: expected whole numbers that INT32 has \(-2147483648 to 2147483647\), got 0 to 109",
        ),
        (
            {"inputs": {"x": {"random": "uniform", "high": 1e39, "shape": [2, 1]}}},
            r"x: low and high: expected within ±3.40282e\+38, got 0 to 1e\+39",
        ),
        (
            {"inputs": {"x": {"file": "rows.npz", "key": "few"}}, "check": {"output": "z", "golden": {"file": "a"}}},
            r"check.output: expected one of y, got 'z'",
        ),
    ],
)  # fmt: skip
def test_refuses_what_does_not_fit(keys: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no zip file")
    np.savez(tmp_path / "rows.npz", wrong=np.zeros((4, 3), np.int64), few=np.zeros((1, 2, 5), np.float32))
    np.save(tmp_path / "scalar.npy", np.float64(1))
    np.savez(tmp_path / "objects.npz", x=np.array([["a", 1]], object))
    np.save(tmp_path / "whole.npy", np.zeros((4, 2, 5), np.float32))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-7])
    np.savez(tmp_path / "whole.npz", x=np.zeros((4, 2, 5), np.float32))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-7])
    with pytest.raises(SpecError, match=message):
        requests_of(workload_of(**keys), spec_of(2, -1), base=tmp_path, seed=1)


def test_arrays_of_different_length_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.zeros((4, 2), np.float32), extra=np.zeros((5, 1), np.int32))
    source = {"file": "rows.npz"}
    with pytest.raises(SpecError, match="expected as many in each, got x 4, extra 5"):
        requests_of(workload_of(inputs={"x": source, "extra": source}), spec_of(2), base=tmp_path, seed=1)


@pytest.mark.parametrize(
    ("spec", "kind", "action"),
    [
        (dataclasses.replace(spec_of(2), decoupled=True), "decoupled", "TritonUser.stream"),
        (dataclasses.replace(spec_of(2), sequence=True), "sequence_batching", "TritonUser.model"),
    ],
)
def test_models_that_a_campaign_cannot_send_to_yet_are_refused(
    spec: ModelSpec, kind: str, action: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=f"model 'm': expected .* got a {kind} .* cannot send yet. .*{action}"):
        requests_of(workload_of(), spec, base=tmp_path, seed=1)


class TestMemory:
    def test_too_large_a_pool_is_refused_before_it_is_made(self, tmp_path: Path) -> None:
        workload = workload_of(batch=8, inputs={"x": {"random": "normal", "pool": 1000}})
        expected = r"memory of its values in each process: expected at most 2 GiB, got 3.0 GiB, 3.0 GiB of it x. Lower"
        with pytest.raises(SpecError, match=expected):
            requests_of(workload, spec_of(100_000), base=tmp_path, seed=1)

    def test_a_pool_counts_once_however_many_requests_share_it(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "rows.npz", x=np.zeros((100_000, 2), np.float32))
        spec = ModelSpec(
            name="m",
            inputs=(
                TensorSpec(name="x", datatype="FP32", dims=(2,)),
                TensorSpec(name="big", datatype="FP32", dims=(100_000,)),
            ),
            outputs=(),
            max_batch_size=8,
        )
        workload = workload_of(inputs={"x": {"file": "rows.npz"}, "big": {"random": "normal", "pool": 2}})
        requests = requests_of(workload, spec, base=tmp_path, seed=1)
        assert len(requests) == 100_000
        assert len({id(request.inputs["big"]) for request in requests}) == 2

    def test_a_huge_file_is_refused_by_its_head(self, tmp_path: Path) -> None:
        path = tmp_path / "huge.npy"
        np.save(path, np.zeros((1, 1000), np.float32))
        head = path.read_bytes()[:128].replace(b"(1, 1000), }     ", b"(700000, 1000), }")
        path.write_bytes(head)
        workload = workload_of(inputs={"x": {"file": "huge.npy"}})
        with pytest.raises(SpecError, match=r"got 2.6 GiB, 2.6 GiB of it x. Give fewer rows"):
            requests_of(workload, spec_of(1000), base=tmp_path, seed=1)


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

    def test_labels_are_one_integer_a_row(self, tmp_path: Path) -> None:
        with pytest.raises(
            SpecError, match=r"labels: right.npz: expected one integer a row, got float64 of shape \(3, 2\)"
        ):
            self.check(tmp_path, labels={"file": "right.npz", "key": "y"})

    def test_the_check_of_a_workload_has_all_the_rows_that_are_sent(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", x=np.zeros((5, 2), np.float32))
        np.savez(tmp_path / "right.npz", labels=np.arange(5), short=np.arange(3))
        for key, fits in (("labels", True), ("short", False)):
            check = {"output": "y", "labels": {"file": "right.npz", "key": key}}
            workload = workload_of(batch=2, inputs={"x": {"file": "x.npz"}}, check=check)
            requests = requests_of(workload, spec_of(2), base=tmp_path, seed=1)
            if fits:
                assert check_of(workload, requests, base=tmp_path) is not None
            else:
                with pytest.raises(SpecError, match="expected at least 4 rows"):
                    check_of(workload, requests, base=tmp_path)

    def test_a_workload_without_a_check_has_none(self, tmp_path: Path) -> None:
        requests = requests_of(workload_of(), spec_of(2), base=tmp_path, seed=1)
        assert check_of(workload_of(), requests, base=tmp_path) is None
