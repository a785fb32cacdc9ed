"""FP16 and BF16 as a transform of the graph.

A tensor's own name always stands for its FP32 values. Where it is wanted in 16 bits, a second tensor with a suffix
stands beside it, and whichever of both its producer makes, one Cast makes the other when somebody needs it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import numpy.typing as npt

from tritonforge_generator.precision.graph_types import FLOAT, Slots, half_slots, shape_tensors, tensor_types
from tritonforge_generator.precision.model_file import opset_of, outer_names, replace_nodes
from tritonforge_generator.precision.ranges import INFINITE

if TYPE_CHECKING:
    import onnx

Half = Literal["FP16", "BF16"]

_SCHEMA_NAMES: Final = {"FP16": "tensor(float16)", "BF16": "tensor(bfloat16)"}
_LARGEST: Final = {"FP16": 65504.0, "BF16": 3.3895314e38}
_VANISHING: Final = {"FP16": 2.0**-25, "BF16": 2.0**-134}  # half of the smallest number: rounds to zero
HEADROOM: Final = 0.5
"""Share of the type's range that calibration may have seen: other inputs can give somewhat larger values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNode:
    """A node that stays in FP32 although its operator exists in the smaller type.

    Attributes:
        name: Node name.
        operator: Its operator.
        reason: Why it is kept.
    """

    name: str
    operator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfPlan:
    """Which nodes change type.

    Attributes:
        half: The type.
        slots: By node name, the tensors that change with it.
        kept: Nodes that could change and do not.
    """

    half: Half
    slots: Mapping[str, Slots]
    kept: tuple[KeptNode, ...]

    @property
    def candidate_count(self) -> int:
        """Nodes that could compute in the type."""
        return len(self.slots) + len(self.kept)


def half_plan(
    model: onnx.ModelProto, half: Half, *, reasons: Mapping[str, str], ranges: Mapping[str, float]
) -> HalfPlan:
    """Decide for every node.

    Args:
        model: The FP32 graph, with names for its nodes.
        half: The type.
        reasons: By name of a node that must stay, why.
        ranges: By tensor, the largest magnitude that calibration saw.

    Returns:
        The decision. A node stays in FP32 when a tensor around it leaves half of the type's range or vanishes in it,
        or when a weight of it cannot be stored. Arithmetic on shapes is left alone: 16 bits cannot count above 2048.
    """
    types = tensor_types(model)
    shapes = shape_tensors(model)
    unfit = _unfit(ranges, half, HEADROOM)
    unfit |= _unfit({one.name: _largest(one) for one in model.graph.initializer if one.data_type == FLOAT}, half, 1.0)
    slots: dict[str, Slots] = {}
    kept: list[KeptNode] = []
    for node in model.graph.node:
        own = half_slots(node, opset_of(model), types, _SCHEMA_NAMES[half])
        if own is None or shapes.issuperset(node.output):
            continue
        reason = reasons.get(node.name) or _range_reason(node, own, unfit)
        if reason == "":
            slots[node.name] = own
        else:
            kept.append(KeptNode(name=node.name, operator=node.op_type, reason=reason))
    return HalfPlan(half=half, slots=slots, kept=tuple(kept))


def reasons_from_patterns(model: onnx.ModelProto, patterns: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Nodes that a user wants in FP32.

    Returns:
        By node name the reason, and the patterns that matched nothing.
    """
    reasons: dict[str, str] = {}
    idle = []
    for pattern in patterns:
        matching = [
            node.name for node in model.graph.node if node.op_type == pattern or fnmatch.fnmatchcase(node.name, pattern)
        ]
        reasons.update(dict.fromkeys(matching, f"declared: {pattern}"))
        if not matching:
            idle.append(pattern)
    return reasons, idle


def typed_model(model: onnx.ModelProto, plan: HalfPlan) -> onnx.ModelProto:
    """The graph with the plan's nodes in 16 bits; inputs and outputs keep their types and names."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    writer = _HalfWriter(result, plan)
    replace_nodes(result, writer.nodes())
    writer.drop_unused_weights()
    del result.graph.value_info[:]
    return result


def rounded_model(model: onnx.ModelProto, plan: HalfPlan) -> onnx.ModelProto:
    """The graph in FP32 with every tensor of the plan rounded to the type and back: what 16 bits do to the numbers.

    ONNX Runtime's CPU computes FP16 nodes in FP32 and joins them, so that an overflow between two of them never shows
    there, and has no BF16 kernels at all. This graph shows both.
    """
    import onnx
    from onnx import helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    kind = _onnx_type(plan.half)
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, str] = {}

    def round_trip(name: str, target: str) -> None:
        nodes.append(helper.make_node("Cast", [name], [f"{target}__bits"], to=kind))
        nodes.append(helper.make_node("Cast", [f"{target}__bits"], [target], to=FLOAT))

    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        slots = plan.slots.get(node.name)
        if slots is None:
            nodes.append(node)
            continue
        for index in slots.inputs:
            name = node.input[index]
            if name not in rounded:
                rounded[name] = f"{name}__rounded"
                source = name
                if name in weights and _holds_masks(weights[name]):
                    source = f"{name}__saturated"
                    array = _saturated(weights[name], plan.half)
                    result.graph.initializer.append(numpy_helper.from_array(array, source))
                round_trip(source, rounded[name])
            node.input[index] = rounded[name]
        made = [(index, node.output[index]) for index in slots.outputs]
        for index, name in made:
            node.output[index] = f"{name}__exact"
        nodes.append(node)
        for _, name in made:
            round_trip(f"{name}__exact", name)
            rounded[name] = name
    replace_nodes(result, nodes)
    del result.graph.value_info[:]
    return result


class _HalfWriter:
    def __init__(self, model: onnx.ModelProto, plan: HalfPlan) -> None:
        self._model = model
        self._plan = plan
        self._kind = _onnx_type(plan.half)
        self._suffix = f"__{plan.half.lower()}"
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == FLOAT}
        self._made_half = {
            node.output[index]
            for node in model.graph.node
            if node.name in plan.slots
            for index in plan.slots[node.name].outputs
        }
        self._present: set[str] = set()

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """The new nodes in order, Casts right before their first use."""
        import onnx

        outputs = {value.name for value in self._model.graph.output}
        originals = list(self._model.graph.node)
        for original in originals:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            slots = self._plan.slots.get(node.name)
            for index, name in enumerate(node.input):
                wants_half = slots is not None and index in slots.inputs
                yield from self._supply(name, half=wants_half)
                if wants_half:
                    node.input[index] = name + self._suffix
            for name in outer_names(node):
                yield from self._supply(name, half=False)
            for index in slots.outputs if slots is not None else ():
                node.output[index] += self._suffix
            yield node
            for name in original.output:
                if name in outputs:
                    yield from self._supply(name, half=False)

    def _supply(self, name: str, *, half: bool) -> Iterator[onnx.NodeProto]:
        """Make the form of a tensor that somebody needs, unless it is there."""
        from onnx import helper

        if name in self._weights:
            if half and name + self._suffix not in self._present:
                self._present.add(name + self._suffix)
                self._model.graph.initializer.append(_half_tensor(self._weights[name], self._suffix, self._plan.half))
            return
        if half == (name in self._made_half):
            return  # its producer makes this form
        source, target = (name, name + self._suffix) if half else (name + self._suffix, name)
        if target in self._present:
            return
        self._present.add(target)
        yield helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=self._kind if half else FLOAT)

    def drop_unused_weights(self) -> None:
        """Remove FP32 weights that only 16-bit nodes used."""
        graph = self._model.graph
        used = {name for node in graph.node for name in (*node.input, *outer_names(node))}
        used |= {value.name for value in (*graph.output, *graph.input)}
        weights = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(weights)


def _unfit(magnitudes: Mapping[str, float], half: Half, headroom: float) -> dict[str, str]:
    """What is wrong with tensors whose largest magnitude the type cannot hold."""
    unfit = {}
    for name, value in magnitudes.items():
        if value > _LARGEST[half] * headroom:
            unfit[name] = f"values of up to {value:.3g}"
        elif 0.0 < value < _VANISHING[half]:
            unfit[name] = f"values of at most {value:.3g}, which become zero"
    return unfit


def _range_reason(node: onnx.NodeProto, slots: Slots, unfit: Mapping[str, str]) -> str:
    for side, names, chosen in (("reads", node.input, slots.inputs), ("gives", node.output, slots.outputs)):
        for index in sorted(chosen):
            if names[index] in unfit:
                return f"{side} {unfit[names[index]]} ('{names[index]}')"
    return ""


def _largest(tensor: onnx.TensorProto) -> float:
    from onnx import numpy_helper

    array = np.abs(numpy_helper.to_array(tensor))
    return float(np.max(array[array < INFINITE], initial=0.0))


def _holds_masks(tensor: onnx.TensorProto) -> bool:
    from onnx import numpy_helper

    return bool(np.any(np.abs(numpy_helper.to_array(tensor)) >= INFINITE))


def _saturated(tensor: onnx.TensorProto, half: Half) -> npt.NDArray[np.float32]:
    """Values with the numbers that stand for infinity at the type's own end, where sums of them stay finite."""
    from onnx import numpy_helper

    array = numpy_helper.to_array(tensor).astype(np.float32)
    limit = np.float32(_LARGEST[half])
    return np.where(np.isinf(array), array, np.clip(array, -limit, limit))


def _half_tensor(tensor: onnx.TensorProto, suffix: str, half: Half) -> onnx.TensorProto:
    from onnx import numpy_helper

    array = _saturated(tensor, half)
    if half == "FP16":
        result = numpy_helper.from_array(array.astype(np.float16), tensor.name + suffix)
    else:
        result = _bfloat16_tensor(array, tensor.name + suffix)
    return result


def _bfloat16_tensor(array: npt.NDArray[np.float32], name: str) -> onnx.TensorProto:
    """Round to nearest even, as hardware does; NaN stays NaN."""
    import onnx

    bits = array.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    rounded = np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype("<u2")
    return onnx.TensorProto(
        name=name, data_type=onnx.TensorProto.BFLOAT16, dims=array.shape, raw_data=rounded.tobytes()
    )


def _onnx_type(half: Half) -> int:
    import onnx

    return int(onnx.TensorProto.FLOAT16 if half == "FP16" else onnx.TensorProto.BFLOAT16)
