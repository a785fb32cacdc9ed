from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph import GraphTensor, SampleOptions, Samples, samples_from_options

FLOATS = GraphTensor(name="x", datatype="FP32", shape=("batch", 2))
WORDS = GraphTensor(name="words", datatype="BYTES", shape=("batch", None))


def test_same_seed_same_samples() -> None:
    first, again, other = (
        samples_from_options([FLOATS, WORDS], SampleOptions(seed=seed), batched=True) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.arrays["x"], again.arrays["x"])
    assert not np.array_equal(first.arrays["x"], other.arrays["x"])
    assert first.arrays["words"].shape == (8, 16)
    assert all(isinstance(word, bytes) for word in first.arrays["words"].ravel())


def test_batches_wrap_around() -> None:
    samples = Samples(arrays={"x": np.arange(3)}, origin="")
    assert samples.batch(2, 4)["x"].tolist() == [2, 0, 1, 2]
    assert samples.one(4)["x"].shape == ()


def test_samples_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    np.savez(path, x=np.zeros((5, 2), np.float32), words=np.array([["a", "é"]] * 5))
    samples = samples_from_options([FLOATS, WORDS], SampleOptions(path=path), batched=True)
    assert samples.count == 5
    assert samples.arrays["words"][0].tolist() == [b"a", "é".encode()]
    assert samples.origin.startswith("5 from samples.npz (sha256 ")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"y": np.zeros((5, 2), np.float32)}, "lack an input"),
        ({"x": np.zeros((5, 2), np.float64)}, "expected float32"),
        ({"x": np.zeros((5, 3), np.float32)}, "do not fit the graph"),
        ({"x": np.zeros((0, 2), np.float32)}, "differ in number"),
    ],
)
def test_refuses_samples_that_do_not_fit(tmp_path: Path, arrays: dict[str, npt.NDArray[Any]], text: str) -> None:
    path = tmp_path / "samples.npz"
    cast("Any", np.savez)(path, **arrays)
    with pytest.raises(SpecError, match=text):
        samples_from_options([FLOATS], SampleOptions(path=path), batched=True)


def test_refuses_a_file_that_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(SpecError, match="cannot be read"):
        samples_from_options([FLOATS], SampleOptions(path=path), batched=True)


def test_refuses_samples_that_fill_the_memory() -> None:
    huge = GraphTensor(name="x", datatype="FP32", shape=("batch", 100_000, 100_000))
    with pytest.raises(SpecError, match="would take"):
        samples_from_options([huge], SampleOptions(), batched=True)
