"""From ONNX to a network definition whose layers keep the graph's types."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tritonforge_generator.errors import PlanBuildError
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.plan.diagnosis import diagnosis_of
from tritonforge_generator.plan.lowering import lowered_model
from tritonforge_generator.precision.graph_types import tensor_types
from tritonforge_generator.spec import PrecisionType

if TYPE_CHECKING:
    import onnx

NEWEST_OPSET: Final = {8: 17, 9: 18, 10: 20, 11: 25}
"""Newest ONNX opset by TensorRT major version (onnx-tensorrt's operators.md; NVIDIA's opset guide for 11). Opsets above
it are refused here, because 8.6 takes them and computes some operators wrongly without a word."""

_NODE: Final = re.compile(r"\[ONNX Layer: (.*?)\]")
_PRODUCTS: Final = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "FULLY_CONNECTED")
# Layers that compute nothing in a precision, or that fail the build when an output type is set (castLayer.cpp).
_TYPELESS: Final = ("CONSTANT", "SHAPE", "CAST", "QUANTIZE", "DEQUANTIZE", "ASSERTION")


def newest_opset() -> int:
    """The newest ONNX opset that the installed TensorRT takes."""
    return NEWEST_OPSET.get(tensorrt_api.major_version(), max(NEWEST_OPSET.values()))


def check_opset(path: Path, opset: int) -> None:
    """Refuse a graph that is newer than the installed TensorRT.

    Raises:
        PlanBuildError: It is.
    """
    newest = newest_opset()
    if opset > newest:
        raise PlanBuildError(
            f"{path.name} uses an opset that TensorRT {tensorrt_api.version()} does not know",
            expected=f"opset {newest} at most",
            got=str(opset),
            action=f"Export the model with opset_version={newest}.",
        )


def parsed_network(
    builder: Any, log: Any, path: Path, skeleton: onnx.ModelProto, errors: Sequence[str]
) -> tuple[Any, Any]:
    """Parse an ONNX file.

    Args:
        builder: TensorRT's builder.
        log: Its logger.
        path: The ONNX file; external data is found beside it.
        skeleton: Its graph; the weights may be left out.
        errors: Error messages that the logger took; they are read after a failure.

    Returns:
        The network, and the parser, which must outlive the build.

    Raises:
        PlanBuildError: An operator is missing or a node is not understood.
    """
    trt = tensorrt_api.tensorrt()
    network = builder.create_network(tensorrt_api.network_flags())
    parser = trt.OnnxParser(network, log)
    model = lowered_model(path, skeleton)
    if parser.parse_from_file(str(path)) if model is None else parser.parse(model.SerializeToString(), str(path)):
        return network, parser
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    first = found[0] if found else None
    text = first.desc() if first is not None else (errors[-1] if errors else "no reason given")
    known = diagnosis_of([text])
    name, operator = _node_of(first, model or skeleton)
    missing = "Plugin not found" in text or "No importer registered" in text
    raise PlanBuildError(
        f"TensorRT {tensorrt_api.version()} has no operator {operator} (node '{name}')"
        if missing
        else f"TensorRT {tensorrt_api.version()} does not take node '{name}' ({operator})",
        got=known.meaning if known is not None else text,
        action=known.action
        if known is not None
        else "Replace the operator in the model, load a plugin with tensorrt.plugins, or use platform: onnxruntime.",
    )


def _node_of(error: Any, model: onnx.ModelProto) -> tuple[str, str]:
    """Name and operator of the node that an error is about; old versions give its index only."""
    if error is None:
        return "", "unknown"
    if hasattr(error, "node_name"):
        return error.node_name(), error.node_operator()
    nodes = model.graph.node
    index = error.node()
    return (nodes[index].name, nodes[index].op_type) if 0 <= index < len(nodes) else ("", "unknown")


def node_types(skeleton: onnx.ModelProto) -> dict[str, PrecisionType]:
    """By ONNX node, FP32 or FP16, where all its floating-point tensors are of that type.

    Args:
        skeleton: The graph; its weights may be left out.
    """
    from onnx import TensorProto

    known: dict[int, PrecisionType] = {TensorProto.FLOAT: "FP32", TensorProto.FLOAT16: "FP16"}
    elements = tensor_types(skeleton)
    found = {}
    for node in skeleton.graph.node:
        kinds = {known[elements[name]] for name in (*node.input, *node.output) if elements.get(name, 0) in known}
        if len(kinds) == 1:
            found[node.name] = kinds.pop()
    return found


def set_types(network: Any, config: Any, precision: PrecisionType, types: Mapping[str, PrecisionType]) -> int:
    """Make TensorRT compute in the graph's types.

    Strongly typed networks do so by themselves. Weakly typed ones (8.6) may choose among all types that are switched
    on, so every layer that the graph leaves in FP32 is pinned there, and every product that it has in FP16 is pinned
    too. With INT8 the rest may run in FP16.

    Args:
        network: The parsed network.
        config: The builder's configuration.
        precision: What the graph was typed for.
        types: By ONNX node, its type: before the build TensorRT itself calls all tensors FP32.

    Returns:
        Number of layers pinned.

    Raises:
        PlanError: The installed TensorRT lacks the precision.
    """
    trt = tensorrt_api.tensorrt()
    if precision == "FP32":
        config.clear_flag(trt.BuilderFlag.TF32)
    else:
        config.set_flag(trt.BuilderFlag.TF32)
    if precision == "FP8" and not hasattr(trt.DataType, "BF16"):  # 8.6 knows the name FP8 and cannot build it
        raise tensorrt_api.lacking("precision FP8", "TensorRT 10 or later")
    if precision == "BF16" and not hasattr(trt.DataType, "BF16"):
        raise tensorrt_api.lacking("precision BF16", "TensorRT 10 or later")
    if tensorrt_api.is_strongly_typed() or precision in {"FP32", "TF32"}:
        return 0
    config.set_flag(trt.BuilderFlag.FP16)
    if precision == "INT8":
        config.set_flag(trt.BuilderFlag.INT8)
        return 0
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    return sum(_pin(network.get_layer(index), types) for index in range(network.num_layers))


def _pin(layer: Any, types: Mapping[str, PrecisionType]) -> bool:
    """Keep a layer in its node's type, where that is FP32, or FP16 and the layer a product."""
    trt = tensorrt_api.tensorrt()
    kind = layer.type.name
    wanted = types.get(_node_name(layer))
    if kind in _TYPELESS or wanted is None or (wanted == "FP16" and kind not in _PRODUCTS):
        return False
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    if any(tensor.is_shape_tensor for tensor in outputs):
        return False
    dtype = trt.float32 if wanted == "FP32" else trt.float16
    layer.precision = dtype
    for index, tensor in enumerate(outputs):
        if tensor.dtype in {trt.float32, trt.float16}:
            layer.set_output_type(index, dtype)
    return True


def _node_name(layer: Any) -> str:
    """The ONNX node that a layer was made for: one node can become several layers with names of their own."""
    match = _NODE.search(layer.metadata or "")
    return match[1] if match is not None else str(layer.name)
