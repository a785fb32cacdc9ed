from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonforge_generator.plan.flops import flops_by_node


def counted(
    node: onnx.NodeProto, weight: tuple[int, ...], given: tuple[int | str, ...], shape: tuple[int, ...]
) -> dict[str, int]:
    """FLOPs of a graph of one node with weights that were left out, as in a skeleton."""
    tensor = numpy_helper.from_array(np.zeros(weight, np.float32), "w")
    tensor.ClearField("raw_data")
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a"] * len(given))],
        [tensor],
    )
    return flops_by_node(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), {"x": shape})


@pytest.mark.parametrize(
    ("operator", "attributes", "weight", "shape", "multiply_adds"),
    [
        ("Conv", {"pads": [1, 1, 1, 1]}, (8, 3, 3, 3), (2, 3, 16, 16), 2 * 8 * 16 * 16 * 3 * 3 * 3),
        ("Conv", {"strides": [2, 2]}, (8, 3, 2, 2), (2, 3, 16, 16), 2 * 8 * 8 * 8 * 3 * 2 * 2),
        ("Conv", {"group": 4}, (8, 1, 1, 1), (1, 4, 5, 5), 8 * 5 * 5),
        ("ConvTranspose", {}, (3, 8, 2, 2), (1, 3, 5, 5), 3 * 5 * 5 * 8 * 2 * 2),
        ("MatMul", {}, (6, 7), (2, 5, 6), 2 * 5 * 7 * 6),
        ("Gemm", {}, (6, 7), (5, 6), 5 * 7 * 6),
        ("Gemm", {"transA": 1}, (6, 7), (6, 5), 5 * 7 * 6),
        ("Gemm", {"transB": 1}, (7, 6), (5, 6), 5 * 7 * 6),
    ],
)
def test_two_operations_for_each_multiply_add(
    operator: str, attributes: dict[str, Any], weight: tuple[int, ...], shape: tuple[int, ...], multiply_adds: int
) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"], name="it", **attributes)
    dynamic: tuple[int | str, ...] = ("batch", *shape[1:])
    assert counted(node, weight, dynamic, shape) == {"it": 2 * multiply_adds}


def test_other_operators_and_nodes_without_a_name_are_left_out() -> None:
    assert counted(helper.make_node("Add", ["x", "w"], ["y"], name="it"), (4,), ("batch", 4), (2, 4)) == {}
    assert counted(helper.make_node("MatMul", ["x", "w"], ["y"]), (4, 4), ("batch", 4), (2, 4)) == {}


def test_a_shape_that_cannot_be_inferred_counts_nothing() -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="it")
    tensor = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 4])
    weight = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [tensor], [result], [weight])
    assert flops_by_node(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), {}) == {}
