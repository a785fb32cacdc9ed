from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.graphs import linear, save, tensor

from tritonforge_generator.errors import PrecisionError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.precision import model_file
from tritonforge_generator.precision.model_file import loaded, require_opset, saved, topologically_sorted, unused

node = helper.make_node
X = {"x": np.ones((2, 4), np.float32)}


def test_nodes_without_a_name_get_one_that_is_free(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Relu", ["a"], ["b"], name="Relu_0"), node("Relu", ["b"], ["y"])]
    model = loaded(save(tmp_path / "net.onnx", nodes, [tensor("x")], [tensor("y")]))
    assert [one.name for one in model.graph.node] == ["Relu_0_1", "Relu_0", "Relu_2"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([2], np.float16))}, np.array([2], np.float16)),
        ({"value_float": 2.5}, np.array(2.5, np.float32)),
        ({"value_floats": [1.0, 2.0]}, np.array([1, 2], np.float32)),
        ({"value_int": 3}, np.array(3, np.int64)),
        ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
    ],
)
def test_constants_become_initializers(tmp_path: Path, attributes: dict[str, Any], expected: npt.NDArray[Any]) -> None:
    nodes = [node("Constant", [], ["c"], **attributes), node("Relu", ["x"], ["y"])]
    model = loaded(save(tmp_path / "net.onnx", nodes, [tensor("x")], [tensor("y")]))
    assert [one.op_type for one in model.graph.node] == ["Relu"]
    (constant,) = model.graph.initializer
    array = numpy_helper.to_array(constant)
    assert (constant.name, array.dtype) == ("c", expected.dtype)
    np.testing.assert_array_equal(array, expected)


def test_constant_strings_stay_nodes(tmp_path: Path) -> None:
    nodes = [node("Constant", [], ["y"], value_strings=["a", "b"]), node("Relu", ["x"], ["z"])]
    outputs = [tensor("y", TensorProto.STRING, (2,)), tensor("z")]
    model = loaded(save(tmp_path / "net.onnx", nodes, [tensor("x")], outputs))
    assert [one.op_type for one in model.graph.node] == ["Constant", "Relu"]


def test_initializers_are_no_inputs(tmp_path: Path) -> None:
    path = linear(tmp_path / "net.onnx")
    old = onnx.load(str(path))
    old.graph.input.append(tensor("weight", shape=(4, 3)))
    old.ir_version = 3
    onnx.save(old, str(path))
    model = loaded(path)
    assert ([one.name for one in model.graph.input], model.ir_version) == (["x"], 4)
    saved(model, tmp_path / "again.onnx")
    np.testing.assert_array_equal(OnnxSession(tmp_path / "again.onnx").run(X)["y"], OnnxSession(path).run(X)["y"])


def test_weights_beside_the_source_are_taken_in(tmp_path: Path) -> None:
    model = loaded(linear(tmp_path / "net.onnx", external=True))
    (tmp_path / "net.onnx.data").unlink()
    path = saved(model, tmp_path / "whole.onnx")
    assert OnnxSession(path).run(X)["y"].shape == (2, 3)


def test_large_weights_lie_beside_the_file_however_often_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "_PROTOBUF_LIMIT_BYTES", 10_000)
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.standard_normal((4, 1000)).astype(np.float32), "weight")
    source = save(
        tmp_path / "source.onnx",
        [node("MatMul", ["x", "weight"], ["y"])],
        [tensor("x")],
        [tensor("y", shape=("batch", 1000))],
        [weight],
    )
    model = loaded(source)
    path = tmp_path / "large.onnx"
    for _ in range(2):
        saved(model, path)
        assert (tmp_path / "large.onnx.data").stat().st_size == 16_000
        assert path.stat().st_size < 1000
    assert len(model.graph.initializer[0].raw_data) == 16_000
    np.testing.assert_array_equal(OnnxSession(path).run(X)["y"], OnnxSession(source).run(X)["y"])
    monkeypatch.undo()
    saved(model, path)
    assert not (tmp_path / "large.onnx.data").exists()


def test_an_old_opset_is_refused(tmp_path: Path) -> None:
    model = loaded(linear(tmp_path / "net.onnx"))
    require_opset(model, 17, reason="it")
    with pytest.raises(PrecisionError, match=r"INT8 needs a newer opset: expected opset 19 or later, got 17"):
        require_opset(model, 19, reason="INT8")


def test_sorting_moves_only_what_stands_too_early(tmp_path: Path) -> None:
    inner = helper.make_graph([node("Add", ["late", "late"], ["sum"])], "inner", [], [tensor("sum")])
    given = [
        node("Relu", ["x"], ["first"]),
        node("If", ["condition"], ["chosen"], then_branch=inner, else_branch=inner),
        node("Sin", ["b"], ["c"]),
        node("Relu", ["x"], ["late"]),
        node("Cos", ["first"], ["b"]),
        node("Neg", ["x"], ["last"]),
    ]
    made = [one.output[0] for one in topologically_sorted(given)]
    assert made == ["first", "late", "chosen", "b", "c", "last"]


def test_names_are_taken_once() -> None:
    taken = {"a"}
    assert [unused("a", taken), unused("a", taken), unused("b", taken)] == ["a_1", "a_2", "b"]
