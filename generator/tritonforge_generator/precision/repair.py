"""Finds the few nodes that spoil a graph's accuracy in fewer bits, and keeps those in FP32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tritonforge_generator.graph import OnnxSession, Samples
from tritonforge_generator.precision.accuracy import Accuracy
from tritonforge_generator.precision.graph_types import FLOAT, tensor_types
from tritonforge_generator.precision.model_file import loaded, saved
from tritonforge_generator.precision.ranges import chunks
from tritonforge_generator.precision.typed_graph import PrecisionStage, TypedGraph
from tritonforge_generator.source.onnx_file import subgraphs_of

if TYPE_CHECKING:
    import onnx

Evaluate = Callable[[TypedGraph], Accuracy]
"""Judges a typed graph: with ONNX Runtime on the CPU, or by building and running a plan."""

_EVALUATIONS: Final = 24
_TWIN: Final = "__fp32/"
_TINY: Final = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What came of a search.

    Attributes:
        typed: The graph with the kept nodes.
        accuracy: Its verdict.
        kept: By node name, why it is kept.
        evaluations: How many graphs were judged.
    """

    typed: TypedGraph
    accuracy: Accuracy
    kept: Mapping[str, str]
    evaluations: int


class _Search:
    def __init__(self, stage: PrecisionStage, folder: Path, evaluate: Evaluate) -> None:
        self._stage = stage
        self._folder = folder
        self._evaluate = evaluate
        self.count = 0

    def try_keeping(self, kept: Mapping[str, str]) -> Repair:
        self.count += 1
        typed = self._stage.typed_graph(self._folder, kept=kept)
        return Repair(typed=typed, accuracy=self._evaluate(typed), kept=dict(kept), evaluations=self.count)


def repaired(
    stage: PrecisionStage, ranked: Sequence[tuple[str, str]], layer_count: int, folder: Path, evaluate: Evaluate
) -> Repair | None:
    """Search the fewest nodes that must stay in FP32.

    The first 1, 2, 4, … of the culprits are kept until the gate passes, and nodes that turn out not to matter are given
    back, half of them at a time and then fewer.

    Args:
        stage: Writes the graph.
        ranked: The culprits of the graph that failed, worst first.
        layer_count: Nodes that could be smaller.
        folder: Where graphs are written, over each other.
        evaluate: Judges a graph.

    Returns:
        The repaired graph, written last; ``None`` when the share of nodes that may be kept does not suffice.
    """
    limit = min(int(stage.options.repair.max_layer_share * layer_count), len(ranked))
    search = _Search(stage, folder, evaluate)
    size = 1
    passing: Repair | None = None
    while passing is None and size <= limit:
        attempt = search.try_keeping(dict(ranked[:size]))
        passing = attempt if attempt.accuracy.passed else None
        size = size * 2 if size == limit or size * 2 <= limit else limit
    if passing is None:
        return None
    fewest = _minimised(search, passing)
    # The folder holds the last graph that was tried, which need not be the one that was chosen.
    return search.try_keeping(fewest.kept) if fewest.evaluations != search.count else fewest


def _minimised(search: _Search, passing: Repair) -> Repair:
    """Give nodes back while the gate passes, in ever smaller groups (after Zeller and Hildebrandt, 2002)."""
    best = passing
    size = len(best.kept) // 2
    while size > 0:
        names = list(best.kept)
        for start in range(0, len(names), size):
            left = {name: best.kept[name] for name in best.kept if name not in names[start : start + size]}
            if search.count >= _EVALUATIONS:
                return best
            if left:
                attempt = search.try_keeping(left)
                best = attempt if attempt.accuracy.passed else best
        size //= 2
    return best


def culprits(stage: PrecisionStage, typed: TypedGraph, samples: Samples, *, batched: bool) -> list[tuple[str, str]]:
    """Nodes in the order in which they spoil the result, each with what was seen.

    Every tensor is compared with its FP32 value inside one run of both graphs. Nodes where values stop being finite
    come first, in graph order; then those whose output is worse than their inputs, by how much.

    Args:
        stage: What wrote the graph.
        typed: The graph that failed the gate; its files must be there still.
        samples: Inputs that showed the failure.
        batched: Whether a sample is one row of a batch.
    """
    candidates = set(stage.candidates(typed))
    errors = tensor_errors(stage.model, loaded(typed.check_path), samples, batched=batched)
    born: list[tuple[str, float, str]] = []
    for node in stage.model.graph.node:
        if node.name not in candidates:
            continue
        before = max((errors[name] for name in node.input if name in errors), default=0.0)
        after = max((errors[name] for name in node.output if name in errors), default=0.0)
        if np.isinf(after) and not np.isinf(before):
            born.append((node.name, np.inf, "its values leave the range of the type"))
        elif np.isfinite(after):
            born.append((node.name, after - before, f"its relative error grows from {before:.2g} to {after:.2g}"))
    born.sort(key=lambda one: -one[1])  # stable: graph order among equals
    first = [(name, reason) for name, error, reason in born if np.isinf(error)]
    readers = _readers(stage.model, [name for name, _ in first], candidates)
    rest = [(name, reason) for name, error, reason in born if not np.isinf(error)]
    named = dict([*first, *readers, *rest])
    return list(named.items())


def _readers(model: onnx.ModelProto, names: Sequence[str], candidates: set[str]) -> list[tuple[str, str]]:
    """Who reads what overflowed must read it in FP32."""
    made = {output for node in model.graph.node if node.name in set(names) for output in node.output}
    return [
        (node.name, "it reads values beyond the range of the type")
        for node in model.graph.node
        if node.name in candidates and made & set(node.input)
    ]


def tensor_errors(
    reference: onnx.ModelProto, typed: onnx.ModelProto, samples: Samples, *, batched: bool
) -> dict[str, float]:
    """Relative error of every FP32 tensor that both graphs have, the worst of all runs.

    Both graphs run as one, and only two numbers a tensor leave it.

    Args:
        reference: The FP32 graph.
        typed: Its other form; tensors of the same name are compared.
        samples: What to run them on.
        batched: Whether a sample is one row of a batch.

    Returns:
        By tensor name; infinite where the reference is finite and the other is not.
    """
    import onnx
    from onnx import helper

    names = _shared_tensors(reference, typed)
    both = onnx.ModelProto()
    both.CopyFrom(typed)
    _add_twin(both, reference)
    del both.graph.output[:]
    for index, name in enumerate(names):
        gap, square, mass = f"__gap_{index}", f"__square_{index}", f"__mass_{index}"
        both.graph.node.extend(
            [
                helper.make_node("Sub", [name, _TWIN + name], [gap]),
                helper.make_node("ReduceSumSquare", [gap], [square], keepdims=0),
                helper.make_node("ReduceSumSquare", [_TWIN + name], [mass], keepdims=0),
            ]
        )
        both.graph.output.extend(helper.make_tensor_value_info(one, FLOAT, []) for one in (square, mass))
    worst = dict.fromkeys(names, 0.0)
    with tempfile.TemporaryDirectory(prefix="tritonforge-compare-") as folder:
        session = OnnxSession(saved(both, Path(folder) / "both.onnx"))
        for inputs in chunks(samples, batched=batched):
            values = [float(value) for value in session.run(inputs).values()]
            for name, difference, norm in zip(names, values[::2], values[1::2], strict=True):
                worst[name] = max(worst[name], _relative(difference, norm))
    return worst


def _relative(square: float, mass: float) -> float:
    if not np.isfinite(mass):
        return 0.0  # the FP32 graph is not finite there either, so nothing can be said
    return float(np.sqrt(square / max(mass, _TINY))) if np.isfinite(square) else np.inf


def _shared_tensors(reference: onnx.ModelProto, typed: onnx.ModelProto) -> list[str]:
    first, second = tensor_types(reference), tensor_types(typed)
    made = [name for node in reference.graph.node for name in node.output]
    present = {name for node in typed.graph.node for name in node.output}
    return [name for name in made if name in present and first.get(name) == second.get(name) == FLOAT]


def _add_twin(both: onnx.ModelProto, reference: onnx.ModelProto) -> None:
    """Put the FP32 graph beside the other, sharing inputs and weights; its own tensors get a prefix."""
    import onnx

    shared = {value.name for value in both.graph.input} | {tensor.name for tensor in both.graph.initializer}
    for tensor in reference.graph.initializer:
        if tensor.name not in shared:
            shared.add(tensor.name)
            both.graph.initializer.append(tensor)
    for original in reference.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        node.name = _TWIN + node.name
        _read_twin(node, shared | {""})
        node.output[:] = [_TWIN + name if name != "" else "" for name in node.output]
        both.graph.node.append(node)


def _read_twin(node: onnx.NodeProto, known: set[str]) -> None:
    """Let a node, and its subgraphs, read the FP32 graph's tensors."""
    node.input[:] = [name if name in known else _TWIN + name for name in node.input]
    for graph in subgraphs_of(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        for inner in graph.node:
            _read_twin(inner, known | own)
