"""Rewrites what an old TensorRT reads wrongly without a word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.source.onnx_file import subgraphs_of

if TYPE_CHECKING:
    import onnx

_WHOLE: Final = "__whole"
_INT64_MAX: Final = 2**63 - 1


def lowered_model(path: Path, skeleton: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model as the installed TensorRT reads it rightly.

    TensorRT 8.6 ignores ``start`` and ``end`` of Shape (opset 15) and takes the whole shape; what comes after fails, or
    ends the process. There a Slice of the whole shape stands for them.

    Args:
        path: The ONNX file.
        skeleton: Its graph; the weights may be left out.

    Returns:
        The rewritten model, whose external data is still the file's; ``None`` where the file can be read as it is.
    """
    import onnx

    if tensorrt_api.major_version() > 8 or not _has_part_of_shape(skeleton.graph):
        return None
    model = onnx.load(str(path), load_external_data=False)
    _slice_shapes(model.graph)
    return model


def _has_part_of_shape(graph: onnx.GraphProto) -> bool:
    return any(
        (node.op_type == "Shape" and len(node.attribute) > 0)
        or any(_has_part_of_shape(inner) for inner in subgraphs_of(node))
        for node in graph.node
    )


def _slice_shapes(graph: onnx.GraphProto) -> None:
    from onnx import TensorProto, helper

    nodes = []
    for node in graph.node:
        for inner in subgraphs_of(node):
            _slice_shapes(inner)
        if node.op_type != "Shape" or len(node.attribute) == 0:
            nodes.append(node)
            continue
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        whole, (output,) = f"{node.output[0]}{_WHOLE}", node.output
        ends = {"start": bounds.get("start", 0), "end": bounds.get("end", _INT64_MAX)}
        names = [f"{whole}_{name}" for name in ends]
        graph.initializer.extend(
            helper.make_tensor(name, TensorProto.INT64, [1], [end])
            for name, end in zip(names, ends.values(), strict=True)
        )
        nodes += [
            helper.make_node("Shape", list(node.input), [whole], name=f"{node.name}{_WHOLE}"),
            helper.make_node("Slice", [whole, *names], [output], name=node.name),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
