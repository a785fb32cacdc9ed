"""What the ONNX operator schemas say about types: which nodes may compute in 16 bits, and which inputs may not.

Read from ``onnx.defs``, so that no list of operators is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from tritonforge_generator.errors import PrecisionError
from tritonforge_generator.source.onnx_file import subgraphs_of

if TYPE_CHECKING:
    import onnx

FLOAT: Final = 1  # TensorProto.FLOAT


@dataclass(frozen=True, slots=True)
class Slots:
    """Which tensors of a node change type with it.

    Attributes:
        inputs: Positions of its inputs.
        outputs: Positions of its outputs.
    """

    inputs: frozenset[int]
    outputs: frozenset[int]


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor of the main graph, by name.

    Args:
        model: The model; its weights are left out of the inference, so that size does not matter.

    Raises:
        PrecisionError: The types cannot be inferred.
    """
    import onnx

    light = onnx.ModelProto()
    light.CopyFrom(_without_weights(model))
    try:
        graph = onnx.shape_inference.infer_shapes(light).graph
    except Exception as error:
        raise PrecisionError(
            "the types inside the graph cannot be inferred",
            got=str(error),
            action="Check the model with onnx.checker.check_model(full_check=True).",
        ) from error
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    light = onnx.ModelProto()
    for name in ("ir_version", "producer_name"):
        setattr(light, name, getattr(model, name))
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        small = len(tensor.raw_data) <= 4096
        graph.initializer.append(
            tensor if small else onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        )
    return light


def shape_tensors(model: onnx.ModelProto) -> set[str]:
    """Tensors that are computed from shapes alone, such as the sizes of a Resize.

    Only scalars and vectors may join in: what comes from a table of weights is data.
    """
    flat = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) <= 1}
    found: set[str] = set()
    for node in model.graph.node:
        if has_subgraph(node):
            continue
        given = [name for name in node.input if name != "" and name not in flat]
        if node.op_type in {"Shape", "Size"} or (given and found.issuperset(given)):
            found.update(node.output)
    return found


def has_subgraph(node: onnx.NodeProto) -> bool:
    """Whether a node is an If, Loop, Scan or the like."""
    return any(True for _ in subgraphs_of(node))


def half_slots(node: onnx.NodeProto, opset: int, types: Mapping[str, int], half: str) -> Slots | None:
    """Which tensors of a node may become 16 bits wide.

    Args:
        node: A node of the main graph.
        opset: Version of ONNX's own operators.
        types: Element types by tensor.
        half: The type's name in schemas, ``tensor(float16)`` or ``tensor(bfloat16)``.

    Returns:
        The slots, or ``None`` when the node must stay in FP32: it has no floating-point input and output, an operator
        that lacks the type, a subgraph, or an output whose type does not follow from its inputs (such as Cast).
    """
    if node.domain not in {"", "ai.onnx"} or has_subgraph(node):
        return None
    schema = _schema(node.op_type, opset)
    if schema is None:
        return None
    allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
    inputs = {
        index: formal.type_str
        for index, (name, formal) in enumerate(zip(node.input, _formals(schema.inputs), strict=False))
        if name != "" and types.get(name) == FLOAT and formal.type_str in allowed
    }
    outputs = {
        index: formal.type_str
        for index, (name, formal) in enumerate(zip(node.output, _formals(schema.outputs), strict=False))
        if name != "" and types.get(name) == FLOAT
    }
    variables = set(inputs.values())
    if not inputs or not outputs or not set(outputs.values()) <= variables:
        return None
    if any(half not in allowed[variable] for variable in variables):
        return None
    return Slots(inputs=frozenset(inputs), outputs=frozenset(outputs))


def _formals(formals: Any) -> Iterator[Any]:
    """The formal parameters; the last one again and again where it is variadic."""
    yield from formals
    while formals and "VARIADIC" in str(formals[-1].option).upper():
        yield formals[-1]


@cache
def _schema(operator: str, opset: int) -> Any | None:
    import onnx

    try:
        return onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None
