"""Small graphs of operators that the stand-in builder knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    dtype: int = TensorProto.FLOAT,
    weights: tuple[onnx.TensorProto, ...] = (),
    opset: int = 17,
) -> Path:
    """A graph from ``x`` to ``y``, both (batch, 4)."""
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", dtype, ["batch", 4])],
        [helper.make_tensor_value_info("y", dtype, ["batch", 4])],
        list(weights),
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return path


def negation(path: Path, *, name: str = "neg", dtype: int = TensorProto.FLOAT, opset: int = 17) -> Path:
    """``y = -x``; a name ``fault: ...`` makes the stand-in builder fail."""
    return saved(path, [helper.make_node("Neg", ["x"], ["y"], name=name)], dtype=dtype, opset=opset)


def product(path: Path, *, half: bool) -> Path:
    """``y = relu(x @ w)``, in FP16 between two casts or in FP32."""
    weight = numpy_helper.from_array((2 * np.eye(4)).astype(np.float16 if half else np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["a" if half else "x", "w"], ["b"], name="fc/MatMul"),
        helper.make_node("Relu", ["b"], ["c" if half else "y"], name="fc/Relu"),
    ]
    if half:
        nodes.insert(0, helper.make_node("Cast", ["x"], ["a"], name="to_half", to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", ["c"], ["y"], name="to_float", to=TensorProto.FLOAT))
    return saved(path, nodes, weights=(weight,))
