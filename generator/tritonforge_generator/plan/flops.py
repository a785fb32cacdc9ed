"""Floating-point operations of an ONNX graph's convolutions and matrix products, node by node."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]


def flops_by_node(model: onnx.ModelProto, input_shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Count two operations for each multiply-add.

    Args:
        model: The graph; weights may be left out, their dims are enough. It is changed: its inputs get the shapes.
        input_shapes: By input, its full shape.

    Returns:
        By node name. Nodes of other operators, without a name, or whose shapes cannot be inferred are left out.
    """
    import onnx

    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, input_shapes.get(value.name, ()), strict=False):
            dim.Clear()
            dim.dim_value = size
    del model.graph.value_info[:]
    for value in model.graph.output:  # a symbol there would clash with the sizes given
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if dims and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    counts = {}
    for node in inferred.node:
        count = _flops(node, shapes)
        if node.name != "" and count > 0:
            counts[node.name] = count
    return counts


def _flops(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    known = [shapes.get(name) for name in node.input[:2]]
    output = shapes.get(node.output[0])
    if len(known) < 2 or known[0] is None or known[1] is None or output is None:
        return 0
    first, second = known[0], known[1]
    if node.op_type == "Conv":
        return 2 * math.prod(output) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return 2 * math.prod(first) * math.prod(second[1:])
    if node.op_type == "MatMul":
        return 2 * math.prod(output) * first[-1]
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i == 1 for attribute in node.attribute)
        return 2 * math.prod(output) * first[0 if transposed else 1]
    return 0
