"""Small networks with the shapes of real ones, made without a training framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 32
TOKENS = 8


def _weight(random: np.random.Generator, name: str, shape: Sequence[int], scale: float = 1.0) -> onnx.TensorProto:
    fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
    array = random.standard_normal(shape) * scale / np.sqrt(fan_in)
    return numpy_helper.from_array(array.astype(np.float32), name)


def _saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    ins: list[onnx.ValueInfoProto],
    outs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    opset: int = 17,
) -> Path:
    graph = helper.make_graph(nodes, path.stem, ins, outs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def residual_network(path: Path, *, blocks: int = 2, seed: int = 0) -> Path:
    """Convolutions with residual connections, global pooling and a classifier: images (batch, 3, 16, 16)."""
    random = np.random.default_rng(seed)
    weights = [_weight(random, "stem.weight", (8, 3, 3, 3))]
    nodes = [
        helper.make_node("Conv", ["images", "stem.weight"], ["stem"], name="stem/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["stem"], ["x0"], name="stem/Relu"),
    ]
    for block in range(blocks):
        source, target = f"x{block}", f"x{block + 1}"
        weights += [_weight(random, f"b{block}.{part}.weight", (8, 8, 3, 3)) for part in ("first", "second")]
        nodes += [
            helper.make_node(
                "Conv",
                [source, f"b{block}.first.weight"],
                [f"{target}a"],
                name=f"b{block}/first/Conv",
                pads=[1, 1, 1, 1],
            ),
            helper.make_node("Relu", [f"{target}a"], [f"{target}b"], name=f"b{block}/first/Relu"),
            helper.make_node(
                "Conv",
                [f"{target}b", f"b{block}.second.weight"],
                [f"{target}c"],
                name=f"b{block}/second/Conv",
                pads=[1, 1, 1, 1],
            ),
            helper.make_node("Add", [f"{target}c", source], [f"{target}d"], name=f"b{block}/Add"),
            helper.make_node("Relu", [f"{target}d"], [target], name=f"b{block}/Relu"),
        ]
    weights += [_weight(random, "fc.weight", (8, 10)), _weight(random, "fc.bias", (1, 10))]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{blocks}"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["logits"], name="fc/Gemm"),
    ]
    ins = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16])]
    outs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])]
    return _saved(path, nodes, ins, outs, weights)


def transformer(
    path: Path, *, layers: int = 4, hot_layer: int | None = None, gain: float = 1.0, hot_from: int = 0, seed: int = 0
) -> Path:
    """A decoder-like stack of attention and feed-forward blocks over embedded tokens (batch, 8) of INT64.

    Args:
        path: Where to write it.
        layers: Number of blocks.
        hot_layer: The block whose feed-forward activations are scaled up by ``gain`` and down again behind, which
            changes nothing in FP32 and may leave the range of FP16.
        gain: How much.
        hot_from: Only tokens from this one on are scaled.
        seed: Seed of the weights.
    """
    random = np.random.default_rng(seed)
    weights = [_weight(random, "embedding", (64, WIDTH), scale=8.0)]
    nodes = [helper.make_node("Gather", ["embedding", "tokens"], ["h0"], name="embed/Gather")]
    for layer in range(layers):
        heat = np.ones((64, 1), np.float32)
        heat[hot_from:] = gain if layer == hot_layer else 1.0
        nodes += _block(random, weights, layer, heat)
    weights.append(_weight(random, "head.weight", (WIDTH, 16)))
    nodes.append(helper.make_node("MatMul", [f"h{layers}", "head.weight"], ["scores"], name="head/MatMul"))
    ins = [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", TOKENS])]
    outs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", TOKENS, 16])]
    return _saved(path, nodes, ins, outs, weights)


def _block(
    random: np.random.Generator, weights: list[onnx.TensorProto], layer: int, heat: np.ndarray[Any, Any]
) -> list[onnx.NodeProto]:
    def name(part: str) -> str:
        return f"l{layer}.{part}"

    weights += [_weight(random, name(f"{part}.weight"), (WIDTH, WIDTH)) for part in "qkvo"]
    weights += [
        _weight(random, name("up.weight"), (WIDTH, 2 * WIDTH)),
        _weight(random, name("down.weight"), (2 * WIDTH, WIDTH)),
    ]
    weights.append(numpy_helper.from_array(np.array(1 / np.sqrt(WIDTH), np.float32), name("root.scale")))
    weights.append(numpy_helper.from_array(heat, name("heat.table")))
    weights += [numpy_helper.from_array(np.ones(WIDTH, np.float32), name(f"norm{index}")) for index in (1, 2)]

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        own = f"layer{layer}/{output.rpartition('.')[2]}"
        return helper.make_node(operator, inputs, [output], name=own, **attributes)

    hidden = f"h{layer}"
    return [
        node("LayerNormalization", [hidden, name("norm1")], name("n1")),
        *(node("MatMul", [name("n1"), name(f"{part}.weight")], name(part)) for part in "qkv"),
        node("Transpose", [name("k")], name("kt"), perm=[0, 2, 1]),
        node("MatMul", [name("q"), name("kt")], name("qk")),
        node("Mul", [name("qk"), name("root.scale")], name("scaled")),
        node("Softmax", [name("scaled")], name("p"), axis=-1),
        node("MatMul", [name("p"), name("v")], name("pv")),
        node("MatMul", [name("pv"), name("o.weight")], name("o")),
        node("Add", [hidden, name("o")], name("attended")),
        node("LayerNormalization", [name("attended"), name("norm2")], name("n2")),
        node("MatMul", [name("n2"), name("up.weight")], name("up")),
        node("Relu", [name("up")], name("relu")),
        node("Gather", [name("heat.table"), "tokens"], name("heat")),
        node("Mul", [name("relu"), name("heat")], name("hot")),
        node("Div", [name("hot"), name("heat")], name("cool")),
        node("MatMul", [name("cool"), name("down.weight")], name("down")),
        node("Add", [name("attended"), name("down")], f"h{layer + 1}"),
    ]
