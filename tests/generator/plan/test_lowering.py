"""What TensorRT 8 would read wrongly is written in another way for it, with the same meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.plan.lowering import lowered_model


def shape_of(path: Path, *, nested: bool = False, **bounds: Any) -> Path:
    """A graph that gives the part of the shape of ``x`` between two bounds, perhaps from inside an If."""
    part = helper.make_node("Shape", ["x"], ["part"], name="part", **bounds)
    result = helper.make_tensor_value_info("part", TensorProto.INT64, [None])
    nodes = [part]
    if nested:
        branch = helper.make_graph([part], "branch", [], [result])
        nodes = [
            helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])),
            helper.make_node("If", ["yes"], ["part"], name="if", then_branch=branch, else_branch=branch),
        ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b", "c"])], [result]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("bounds", [{"start": 0, "end": 1}, {"start": 1}, {"end": -1}, {"start": -2, "end": 3}])
def test_a_part_of_a_shape_becomes_a_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, Any], nested: bool
) -> None:
    monkeypatch.setattr(tensorrt_api, "major_version", lambda: 8)
    path = shape_of(tmp_path / "shape.onnx", nested=nested, **bounds)
    before = path.read_bytes()
    model = lowered_model(path, onnx.load(str(path)))
    assert model is not None
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    assert operators == (["Constant", "If"] if nested else ["Shape", "Slice"])
    lowered = tmp_path / "lowered.onnx"
    onnx.save(model, str(lowered))
    x = {"x": np.zeros((2, 3, 5), np.float32)}
    np.testing.assert_array_equal(OnnxSession(lowered).run(x)["part"], OnnxSession(path).run(x)["part"])
    assert path.read_bytes() == before


@pytest.mark.parametrize(("major", "bounds"), [(8, {}), (10, {"start": 1}), (11, {"start": 1})])
def test_what_is_read_rightly_stays_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, major: int, bounds: dict[str, Any]
) -> None:
    monkeypatch.setattr(tensorrt_api, "major_version", lambda: major)
    path = shape_of(tmp_path / "shape.onnx", **bounds)
    assert lowered_model(path, onnx.load(str(path))) is None
