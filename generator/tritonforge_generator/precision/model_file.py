"""Reading and writing whole models, and the small edits that all transforms share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import PrecisionError

if TYPE_CHECKING:
    import onnx

_PROTOBUF_LIMIT_BYTES: Final = 1_900_000_000
"""Protobuf messages end at 2 GiB; larger models keep their weights in a file beside them."""


def loaded(path: Path) -> onnx.ModelProto:
    """Load a model with its weights, name its nodes and turn Constant nodes into initializers."""
    require_extra("onnx", "generator")
    import onnx

    model = onnx.load(str(path))
    taken = {node.name for node in model.graph.node}
    nodes = []
    for index, node in enumerate(model.graph.node):
        value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if value is not None:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
            continue
        if node.name == "":
            node.name = unused(f"{node.op_type}_{index}", taken)
        nodes.append(node)
    replace_nodes(model, nodes)
    return model


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model; above protobuf's limit its weights go into ``<name>.data`` beside it."""
    import onnx

    large = model.ByteSize() > _PROTOBUF_LIMIT_BYTES
    onnx.save(model, str(path), save_as_external_data=large, location=f"{path.name}.data")
    return path


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a graph other nodes."""
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


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
