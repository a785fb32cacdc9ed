from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.graphs import save, tensor
from support.samples import pool

from tritonforge_generator.precision.model_file import loaded
from tritonforge_generator.precision.ranges import chunks, ranges_from_samples

node = helper.make_node


@pytest.mark.parametrize("batched", [True, False])
def test_every_sample_counts(tmp_path: Path, batched: bool) -> None:
    shape = ("batch", 4) if batched else (4,)
    nodes = [node("Neg", ["x"], ["n"]), node("Exp", ["n"], ["y"])]
    model = loaded(save(tmp_path / "net.onnx", nodes, [tensor("x", shape=shape)], [tensor("y", shape=shape)]))
    for place in range(19):  # two whole chunks and a part of one
        x = np.zeros((19, 4), np.float32)
        x[place, 2] = -3.0
        found = ranges_from_samples(model, pool(x=x), batched=batched)
        assert found == pytest.approx({"x": 3.0, "n": 3.0, "y": np.exp(3.0)})


def test_chunks_hold_each_sample_once() -> None:
    x = np.arange(19)
    parts = [part["x"] for part in chunks(pool(x=x), batched=True)]
    assert [len(part) for part in parts] == [8, 8, 3]
    np.testing.assert_array_equal(np.concatenate(parts), x)
    assert [int(part["x"]) for part in chunks(pool(x=x), batched=False)] == list(range(19))


def test_infinities_and_what_stands_for_them_do_not_count(tmp_path: Path) -> None:
    masks = np.array([0.0, -np.inf, np.finfo(np.float32).min, np.nan], np.float32)
    model = loaded(
        save(
            tmp_path / "net.onnx",
            [node("Add", ["x", "mask"], ["y"])],
            [tensor("x")],
            [tensor("y")],
            [numpy_helper.from_array(masks, "mask")],
        )
    )
    assert ranges_from_samples(model, pool(x=np.full((3, 4), 7.0, np.float32)), batched=True) == {"x": 7.0, "y": 7.0}


def test_only_fp32_tensors_have_ranges(tmp_path: Path) -> None:
    nodes = [node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT), node("Cast", ["f"], ["y"], to=TensorProto.DOUBLE)]
    inputs, outputs = [tensor("ids", TensorProto.INT64)], [tensor("y", TensorProto.DOUBLE)]
    model = loaded(save(tmp_path / "net.onnx", nodes, inputs, outputs))
    assert ranges_from_samples(model, pool(ids=np.full((2, 4), 5)), batched=True) == {"f": 5.0}
