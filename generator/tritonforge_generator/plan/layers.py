"""What an engine is made of: its layers, the ONNX nodes behind each, and the types they compute in.

Read from TensorRT's engine inspector (``get_engine_information`` in JSON, profiling verbosity ``DETAILED``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tritonforge_generator.spec import PrecisionType

UNKNOWN: Final = "unknown"
_GENERATION = re.compile(r"sm\d+")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_FORMAT = re.compile(
    r"\b(FP32|FP16|BF16|FP8|INT8|INT32|INT64|BOOL|UINT8|Float|Half|BFloat16|Int8|Int32)\b", re.IGNORECASE
)
_NAMES: Final = {"float": "FP32", "half": "FP16", "bfloat16": "BF16"}
_WEIGHTS: Final = {"Float": "FP32", "Half": "FP16", "Int8": "INT8", "BFloat16": "BF16", "FP8": "FP8"}
# Least first: a kernel that reads INT8 and writes FP16 multiplies in INT8.
_WIDTH: Final = {"INT8": 0, "FP8": 0, "FP16": 1, "BF16": 1, "TF32": 2, "FP32": 2}
_MOVES: Final = frozenset({"Reformat", "NoOp", "Shuffle", "Constant", "Slice", "Gather", "Cast"})
REQUIRED_SHARE: Final = 0.5
"""Least share of the FLOPs that must be in the type asked for. The rest is what a keep list or TensorRT's own choice of
a faster kernel may leave wider; a build that ignored the type has a share near 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of an engine.

    Attributes:
        name: TensorRT's name.
        kind: TensorRT's layer type, for example ``CaskConvolution`` or ``Myelin``.
        precision: What it multiplies in; ``unknown`` inside a Myelin region; empty for layers that only move data.
        nodes: The ONNX nodes that became this layer, where TensorRT says so.
        tactic: Name of the chosen kernel, if it has one.
        flops: Of the nodes, at the optimum shapes; 0 where none is counted.
    """

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...]
    tactic: str
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionProof:
    """Whether an engine computes in what was asked for.

    Attributes:
        asked: The precision.
        layer_share: By type, the share of the layers that compute.
        flop_share: By type, the share of the counted FLOPs.
        bytes_per_parameter: Size of the plan by the graph's parameters: about 4 for FP32, 2 for FP16, 1 for INT8.
        passed: The verdict.
        summary: The evidence in a sentence.
    """

    asked: PrecisionType
    layer_share: Mapping[str, float]
    flop_share: Mapping[str, float]
    bytes_per_parameter: float
    passed: bool
    summary: str


def layers_from_inspector(text: str, flops: Mapping[str, int]) -> tuple[Layer, ...]:
    """Read the inspector's JSON.

    Args:
        text: What ``get_engine_information`` gave. 8.6 writes control characters into it unescaped.
        flops: By ONNX node, its floating-point operations.

    Returns:
        The layers in order of execution. FLOPs of nodes that no layer names belong to the Myelin regions.
    """
    entries = [entry for entry in json.loads(text, strict=False)["Layers"] if isinstance(entry, dict)]
    nodes = [tuple(dict.fromkeys(_NODE.findall(entry.get("Metadata") or ""))) for entry in entries]
    named = {name for names in nodes for name in names}
    regions = sum(entry.get("LayerType") == "Myelin" for entry in entries)
    left = sum(count for name, count in flops.items() if name not in named)
    counted: set[str] = set()
    layers = []
    for entry, names in zip(entries, nodes, strict=True):
        kind = str(entry.get("LayerType", ""))
        moves = kind in _MOVES
        own = 0 if moves else sum(flops.get(name, 0) for name in names if name not in counted)
        if not moves:
            counted.update(names)
        if kind == "Myelin" and regions > 0:
            own += left // regions
        layers.append(
            Layer(
                name=str(entry.get("Name", "")),
                kind=kind,
                precision="" if moves else _precision_of(entry),
                nodes=names,
                tactic=str(entry.get("TacticName") or ""),
                flops=own,
            )
        )
    return tuple(layers)


def _precision_of(entry: Mapping[str, Any]) -> str:
    if entry.get("LayerType") == "Myelin":
        return UNKNOWN
    found = set()
    weights = entry.get("Weights")
    if isinstance(weights, dict):
        found.add(_WEIGHTS.get(str(weights.get("Type")), UNKNOWN))
    for tensor in (*entry.get("Inputs", ()), *entry.get("Outputs", ())):
        match = _FORMAT.search(str(tensor.get("Format/Datatype", ""))) if isinstance(tensor, dict) else None
        if match is not None:
            found.add(_NAMES.get(match[1].lower(), match[1].upper()))
    known = sorted((name for name in found if name in _WIDTH), key=lambda name: _WIDTH[name])
    if not known:
        return UNKNOWN
    return "TF32" if known[0] == "FP32" and "tf32" in str(entry.get("TacticName", "")).lower() else known[0]


def precision_proof(
    layers: Iterable[Layer], asked: PrecisionType, *, size_bytes: int, parameter_count: int
) -> PrecisionProof:
    """Judge what was built.

    FP16, BF16, INT8 and FP8 must hold at least half of the counted FLOPs. TensorRT does not say what it computes in
    inside a Myelin region; there the size of the plan is the evidence: weights in FP32 take 4 bytes each.

    Args:
        layers: The engine's layers.
        asked: What was asked for.
        size_bytes: Of the plan.
        parameter_count: Of the graph.
    """
    computing = [layer for layer in layers if layer.precision != ""]
    layer_share = _shares((layer.precision, 1) for layer in computing)
    flop_share = _shares((layer.precision, layer.flops) for layer in computing)
    share = flop_share or layer_share
    bytes_each = size_bytes / parameter_count if parameter_count > 0 else 0.0
    types = {"INT8": ("INT8",), "FP8": ("FP8", "INT8"), "FP16": ("FP16", "INT8"), "BF16": ("BF16", "INT8")}.get(asked)
    text = ", ".join(f"{name} {part:.0%}" for name, part in sorted(share.items(), key=lambda item: -item[1]))
    summary = f"{text or 'nothing'} of the {'FLOPs' if flop_share else 'layers'}, {bytes_each:.1f} bytes a parameter"
    if types is None:
        passed = True
    else:
        proven = sum(share.get(name, 0.0) for name in types)
        hidden = share.get(UNKNOWN, 0.0)
        # A small graph's plan is mostly kernels, so its size says nothing.
        light = parameter_count < 1_000_000 or bytes_each < 3.2
        passed = proven >= REQUIRED_SHARE or (proven + hidden >= REQUIRED_SHARE and light)
        if hidden >= REQUIRED_SHARE:
            summary += "; TensorRT does not say the types inside Myelin regions"
    return PrecisionProof(
        asked=asked,
        layer_share=layer_share,
        flop_share=flop_share,
        bytes_per_parameter=round(bytes_each, 3),
        passed=passed,
        summary=summary,
    )


def kernel_share(layers: Iterable[Layer]) -> dict[str, float]:
    """Share of the FLOPs by the GPU generation that kernels were written for, as they are called: ``sm80``, ``sm90``.

    An older generation than the GPU's own means that this TensorRT has nothing newer for the layer.

    Args:
        layers: The engine's layers.
    """
    return _shares(
        (match[0] if (match := _GENERATION.search(layer.tactic)) else UNKNOWN, layer.flops) for layer in layers
    )


def _shares(weighted: Iterable[tuple[str, int]]) -> dict[str, float]:
    sums: dict[str, int] = {}
    for name, weight in weighted:
        sums[name] = sums.get(name, 0) + weight
    total = sum(sums.values())
    return {name: round(weight / total, 6) for name, weight in sums.items()} if total > 0 else {}
