"""Reading and writing whole models, and the small edits that all transforms share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import PrecisionError
from tritonforge_generator.source.onnx_file import subgraphs_of

if TYPE_CHECKING:
    import onnx

_PROTOBUF_LIMIT_BYTES: Final = 1_900_000_000
"""Protobuf messages end at 2 GiB; larger models keep their weights in a file beside them."""
_FIRST_IR_WITH_FREE_WEIGHTS: Final = 4  # before it, every initializer had to be an input
_CONSTANT_DTYPES: Final = {
    "value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""Attributes of Constant that hold numbers, with the dtype of those that are not tensors."""


def loaded(path: Path) -> onnx.ModelProto:
    """Load a model with its weights.

    Every node gets a name, Constant nodes become initializers, and initializers are no longer inputs: the
    graph stage never offers them as such.
    """
    require_extra("onnx", "generator")
    import onnx

    model = onnx.load(str(path))
    taken = {node.name for node in model.graph.node}
    nodes = []
    for index, node in enumerate(model.graph.node):
        constant = _constant(node)
        if constant is not None:
            model.graph.initializer.append(constant)
            continue
        if node.name == "":
            node.name = unused(f"{node.op_type}_{index}", taken)
        nodes.append(node)
    replace_nodes(model, nodes)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _FIRST_IR_WITH_FREE_WEIGHTS)
    return model


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The value of a Constant node as an initializer; ``None`` for other nodes, and for strings and sparse values."""
    from onnx import TensorProto, helper, numpy_helper

    if node.op_type != "Constant" or node.attribute[0].name not in _CONSTANT_DTYPES:
        return None
    value = helper.get_attribute_value(node.attribute[0])
    dtype = _CONSTANT_DTYPES[node.attribute[0].name]
    tensor = TensorProto()
    tensor.CopyFrom(value if dtype is None else numpy_helper.from_array(np.asarray(value, dtype)))
    tensor.name = node.output[0]
    return tensor


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model; above protobuf's limit its weights go into ``<name>.data`` beside it."""
    import onnx

    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)  # onnx would append to it
    if is_large(model):
        whole = onnx.ModelProto()
        whole.CopyFrom(model)  # saving takes the weights out of the message
        onnx.save(whole, str(path), save_as_external_data=True, location=data.name)
    else:
        onnx.save(model, str(path))
    return path


def is_large(model: onnx.ModelProto) -> bool:
    """Whether the weights do not fit into one protobuf message; the message itself cannot say so above the limit."""
    weights_bytes = sum(len(tensor.raw_data) or 8 * element_count(tensor.dims) for tensor in model.graph.initializer)
    return weights_bytes > _PROTOBUF_LIMIT_BYTES


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a graph other nodes."""
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def topologically_sorted(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes behind those whose results they read, subgraphs included, and otherwise in the order they were in."""
    given = list(nodes)
    makers = {name: index for index, node in enumerate(given) for name in node.output}
    reads = [{makers[name] for name in (*node.input, *outer_names(node)) if name in makers} for node in given]
    placed: dict[int, onnx.NodeProto] = {}
    for index in range(len(given)):
        waiting = [index]
        while waiting:
            last = waiting[-1]
            missing = sorted(reads[last] - placed.keys(), reverse=True)
            if missing:
                waiting.extend(missing)
            else:
                placed[last] = given[last]
                waiting.pop()
    return list(placed.values())


def outer_names(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node's subgraphs may take from the graph around them."""
    for graph in subgraphs_of(node):
        for inner in graph.node:
            yield from inner.input
            yield from outer_names(inner)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=1)


def require_opset(model: onnx.ModelProto, least: int, *, reason: str) -> None:
    """Refuse a graph that is too old for a transform.

    Raises:
        PrecisionError: It is.
    """
    if opset_of(model) < least:
        raise PrecisionError(
            f"{reason} needs a newer opset",
            expected=f"opset {least} or later",
            got=str(opset_of(model)),
            action=f"Export the model with opset_version={max(least, 17)}.",
        )


def unused(name: str, taken: set[str]) -> str:
    """A name that nothing has yet; it is taken from now on."""
    candidate = name
    number = 1
    while candidate in taken:
        candidate = f"{name}_{number}"
        number += 1
    taken.add(candidate)
    return candidate


def element_count(dims: Iterable[int]) -> int:
    """Number of elements of a tensor."""
    return math.prod(dims)
