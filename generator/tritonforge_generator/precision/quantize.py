"""INT8 and FP8 as QuantizeLinear and DequantizeLinear pairs (Q/DQ), placed as TensorRT wants them.

ONNX Runtime's quantiser finds the ranges. Its options here: symmetric, per-channel weights, per-tensor activations, no
quantised bias, a pair in front of every input of the chosen operators and none behind them, so that TensorRT may fuse.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import PrecisionError
from tritonforge_generator.graph import Samples
from tritonforge_generator.precision.model_file import require_opset, saved
from tritonforge_generator.precision.ranges import chunks
from tritonforge_generator.spec import CalibrationOptions

if TYPE_CHECKING:
    import onnx

_OPERATORS: Final = ("Conv", "Gemm", "MatMul", "Add")


def quantized_model(
    model: onnx.ModelProto,
    kind: Literal["INT8", "FP8"],
    samples: Samples,
    options: CalibrationOptions,
    *,
    batched: bool,
    excluded: Collection[str],
) -> onnx.ModelProto:
    """Insert Q/DQ pairs.

    Convolutions and matrix products with a constant factor are quantised, and the additions that join such results (a
    residual connection), so that both arms meet in the same type.

    Args:
        model: The FP32 graph, with names for its nodes.
        kind: The type.
        samples: All of them are run for the ranges.
        options: How a range is chosen.
        batched: Whether a sample is one row of a batch.
        excluded: Names of nodes that stay as they are.

    Raises:
        PrecisionError: Nothing can be quantised, or the quantiser fails.
    """
    require_opset(model, 19 if kind == "FP8" else 13, reason=f"precision {kind}")
    chosen = [name for name in _quantizable(model) if name not in set(excluded)]
    if not chosen:
        raise PrecisionError(
            f"nothing in the graph can be quantised to {kind}",
            expected="a Conv, Gemm or MatMul with constant weights",
            got=f"{len(model.graph.node)} nodes without one, or all of them kept",
            action="Use precision FP16.",
        )
    with tempfile.TemporaryDirectory(prefix="tritonforge-quantize-") as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "quantized.onnx"
        saved(model, source)
        try:
            _quantize(source, target, kind, _Reader(samples, batched=batched), options, chosen)
        except Exception as error:
            raise PrecisionError(
                f"ONNX Runtime's quantiser cannot write {kind} into this graph",
                got=f"{type(error).__name__}: {error}",
                action="Name the operators that it stumbles over in precision.keep_fp32, or use FP16.",
            ) from error
        import onnx

        return onnx.load(str(target))


def _quantize(  # noqa: PLR0917
    source: Path, target: Path, kind: str, reader: _Reader, options: CalibrationOptions, chosen: list[str]
) -> None:
    quantization = require_extra("onnxruntime.quantization", "generator")
    quant_type = quantization.QuantType.QInt8 if kind == "INT8" else quantization.QuantType.QFLOAT8E4M3FN
    methods = quantization.CalibrationMethod
    # FP8's scale comes from the largest magnitude; ONNX Runtime offers only a fit to a distribution for it otherwise.
    method = getattr(methods, options.method) if kind == "INT8" else methods.Distribution
    logging.getLogger().disabled, was = True, logging.getLogger().disabled  # it advises steps that are done here
    try:
        quantization.quantize_static(
            str(source),
            str(target),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            nodes_to_quantize=chosen,
            per_channel=kind == "INT8",
            activation_type=quant_type,
            weight_type=quant_type,
            calibrate_method=method,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "AddQDQPairToWeight": True,
                "DedicatedQDQPair": False,
                "ForceQuantizeNoInputCheck": True,
                "OpTypesToExcludeOutputQuantization": list(_OPERATORS),
                "CalibTensorRangeSymmetric": True,
                "CalibPercentile": options.percentile,
                "QDQDisableWeightAdjustForInt32Bias": True,
            },
        )
    finally:
        logging.getLogger().disabled = was


def _quantizable(model: onnx.ModelProto) -> Iterator[str]:
    """Names of nodes worth quantising: products with weights, and additions of two of their results."""
    weights = {tensor.name for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    chosen: set[str] = set()
    for node in model.graph.node:
        product = node.op_type in {"Conv", "Gemm", "MatMul"} and node.input[1] in weights
        if product or (node.op_type == "Add" and _joins_convolutions(node, producers)):
            chosen.add(node.name)
            yield node.name


def _joins_convolutions(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether an addition is a residual connection of a convolutional network."""
    arms = [producers.get(name) for name in node.input]
    kinds = [arm.op_type if arm is not None else "" for arm in arms]
    return "Conv" in kinds and all(kind in {"Conv", "Relu", "Add", "Clip", "MaxPool"} for kind in kinds)


class _Reader:
    """Hands every calibration sample to ONNX Runtime, as often as it starts over."""

    def __init__(self, samples: Samples, *, batched: bool) -> None:
        self._samples = samples
        self._batched = batched
        self._rows: Iterator[Mapping[str, Any]] | None = None

    def get_next(self) -> Mapping[str, Any] | None:
        """The next inputs, or ``None`` at the end."""
        if self._rows is None:
            self._rows = iter(chunks(self._samples, batched=self._batched))
        return next(self._rows, None)

    def rewind(self) -> None:
        """Begin again."""
        self._rows = None
