"""INT8 and FP8 as QuantizeLinear and DequantizeLinear pairs (Q/DQ), placed as TensorRT wants them.

ONNX Runtime's quantiser writes them. Its options here: symmetric, per-channel weights, per-tensor activations, no
quantised bias, a pair in front of every input of the chosen products and none behind them, so that TensorRT may fuse.
An addition that ends a residual block gets a pair on its residual arm alone: one between the convolution and the
addition would part them, where TensorRT has a kernel for both (its guide's recommendations for placing Q/DQ).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import PrecisionError
from tritonforge_generator.precision.model_file import replace_nodes, topologically_sorted

if TYPE_CHECKING:
    import onnx

_PRODUCTS: Final = ("Conv", "Gemm", "MatMul")
_LARGEST: Final = {"INT8": 127.0, "FP8": 448.0}


def quantized_model(
    model: onnx.ModelProto,
    kind: Literal["INT8", "FP8"],
    thresholds: Mapping[str, float],
    *,
    excluded: Collection[str] = (),
) -> onnx.ModelProto:
    """Insert Q/DQ pairs.

    Convolutions and matrix products with a constant factor are quantised, and what is added to a convolution's result
    (a residual connection), so that it is kept and read in the small type.

    Args:
        model: The FP32 graph, with names for its nodes.
        kind: The type.
        thresholds: By activation, the magnitude that becomes the type's largest number.
        excluded: Names of nodes that stay as they are.

    Raises:
        PrecisionError: Nothing can be quantised, or the quantiser fails.
    """
    chosen = [name for name in quantizable_nodes(model) if name not in set(excluded)]
    if not chosen:
        raise PrecisionError(
            f"nothing in the graph can be quantised to {kind}",
            expected="a Conv, Gemm or MatMul with constant weights",
            got=f"{len(model.graph.node)} nodes without one, or all of them kept",
            action="Use precision FP16.",
        )
    require_extra("onnxruntime", "generator")
    logging.getLogger().disabled, was = True, logging.getLogger().disabled  # it advises steps that are done here
    try:
        return _with_pairs(model, kind, thresholds, chosen)
    except Exception as error:
        raise PrecisionError(
            f"ONNX Runtime's quantiser cannot write {kind} into this graph",
            got=f"{type(error).__name__}: {error}",
            action="Name the operators that it stumbles over in precision.keep_fp32, or use FP16.",
        ) from error
    finally:
        logging.getLogger().disabled = was


def _with_pairs(
    model: onnx.ModelProto, kind: Literal["INT8", "FP8"], thresholds: Mapping[str, float], chosen: list[str]
) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import ONNX_TYPE_TO_NP_TYPE

    quant_type = QuantType.QInt8 if kind == "INT8" else QuantType.QFLOAT8E4M3FN
    own = onnx.ModelProto()
    own.CopyFrom(model)
    _state_kernels(own)
    spans = {**thresholds, **(_weight_spans(own, chosen) if kind == "FP8" else {})}
    scales = {name: np.array(span / _LARGEST[kind] if span > 0 else 1.0, np.float32) for name, span in spans.items()}
    bounds: dict[str, Any] = {
        name: TensorData(lowest=np.float32(-span), highest=np.float32(span)) for name, span in spans.items()
    }
    zero = np.zeros((), ONNX_TYPE_TO_NP_TYPE[quant_type.tensor_type])
    quantizer = QDQQuantizer(
        own,
        per_channel=kind == "INT8",
        reduce_range=False,
        weight_qType=quant_type,
        activation_qType=quant_type,
        tensors_range=TensorsData(CalibrationMethod.MinMax, bounds),
        nodes_to_quantize=[node.name for node in _nodes_named(own, chosen) if node.op_type in _PRODUCTS],
        nodes_to_exclude=[],
        op_types_to_quantize=list(_PRODUCTS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "DedicatedQDQPair": False,
            "ForceQuantizeNoInputCheck": True,
            "OpTypesToExcludeOutputQuantization": list(_PRODUCTS),
            "QDQDisableWeightAdjustForInt32Bias": True,
            # ONNX Runtime would fit FP8 to the spread of the values, and cut off what lies 4.5 deviations out.
            "TensorQuantOverrides": {name: [{"scale": scale, "zero_point": zero}] for name, scale in scales.items()},
        },
    )
    for name in _residuals(own, chosen):
        quantizer.quantize_activation_tensor(name)
    quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    replace_nodes(result, topologically_sorted(result.graph.node))  # it puts the pairs at the end
    return result


def fp8_check_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same numbers as the Q/DQ pairs of an FP8 graph, written as arithmetic and Casts.

    ONNX Runtime's CPU joins pairs and convolutions into operators that it has for 8-bit integers only, and then refuses
    the graph.
    """
    import onnx
    from onnx import helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    kind = onnx.TensorProto.FLOAT8E4M3FN
    zeros = {tensor.name for tensor in model.graph.initializer if tensor.data_type == kind}
    nodes = []
    for node in model.graph.node:
        own = zeros.issuperset(node.input[2:3])  # the source may hold pairs of INT8
        bits = f"{node.output[0]}__bits"
        if own and node.op_type == "QuantizeLinear":
            nodes.append(helper.make_node("Div", node.input[:2], [bits]))
            nodes.append(helper.make_node("Cast", [bits], node.output, to=kind))
        elif own and node.op_type == "DequantizeLinear":
            nodes.append(helper.make_node("Cast", node.input[:1], [bits], to=onnx.TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [bits, node.input[1]], node.output))
        else:
            nodes.append(node)
    replace_nodes(result, nodes)
    return result


def _state_kernels(model: onnx.ModelProto) -> None:
    """Write the kernel's size on every convolution: behind a Q/DQ pair TensorRT no longer sees it in the weights."""
    from onnx import helper

    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    for node in model.graph.node:
        stated = any(attribute.name == "kernel_shape" for attribute in node.attribute)
        if node.op_type == "Conv" and node.input[1] in weights and not stated:
            node.attribute.append(helper.make_attribute("kernel_shape", list(weights[node.input[1]][2:])))


def activations_of(model: onnx.ModelProto) -> list[str]:
    """Names of the tensors that get a pair, weights left out."""
    weights = {tensor.name for tensor in model.graph.initializer}
    chosen = list(quantizable_nodes(model))
    factors = [
        name
        for node in _nodes_named(model, chosen)
        if node.op_type in _PRODUCTS
        for name in node.input[:2]
        if name not in weights
    ]
    return list(dict.fromkeys([*factors, *_residuals(model, chosen)]))


def _weight_spans(model: onnx.ModelProto, chosen: Collection[str]) -> dict[str, float]:
    from onnx import numpy_helper

    read = {name for node in _nodes_named(model, chosen) for name in node.input[:2]}
    return {
        tensor.name: float(np.max(np.abs(numpy_helper.to_array(tensor)), initial=0.0))
        for tensor in model.graph.initializer
        if tensor.name in read
    }


def quantizable_nodes(model: onnx.ModelProto) -> Iterator[str]:
    """Names of nodes worth quantising: products with weights, and additions to a convolution's result."""
    weights = {tensor.name for tensor in model.graph.initializer}
    producers = _producers(model)
    for node in model.graph.node:
        product = node.op_type in _PRODUCTS and node.input[1] in weights
        if product or (node.op_type == "Add" and _joins_convolutions(node, producers)):
            yield node.name


def _joins_convolutions(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether an addition is a residual connection of a convolutional network."""
    kinds = [producers[name].op_type if name in producers else "" for name in node.input]
    return "Conv" in kinds and all(kind in {"Conv", "Relu", "Add", "Clip", "MaxPool"} for kind in kinds)


def _residuals(model: onnx.ModelProto, chosen: Collection[str]) -> Iterator[str]:
    """What the chosen additions add to the convolution in front of them.

    Where both arms are convolutions the first is the one that TensorRT may join to the addition. A convolution that
    others read too cannot be joined, so both arms get a pair.
    """
    producers = _producers(model)
    readers = Counter(name for node in model.graph.node for name in node.input)
    readers.update(output.name for output in model.graph.output)
    for node in _nodes_named(model, chosen):
        if node.op_type == "Add":
            joined = [name for name in node.input if producers[name].op_type == "Conv" and readers[name] == 1]
            yield from (name for name in node.input if name not in joined[:1])


def _nodes_named(model: onnx.ModelProto, names: Collection[str]) -> list[onnx.NodeProto]:
    wanted = set(names)
    return [node for node in model.graph.node if node.name in wanted]


def _producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}
