"""T52 to T58: the shapes that the TensorRT back-end captures CUDA graphs for.

Source: ``InitializeGraphSpecs`` and ``ValidateGraphSpec`` in the back-end's ``instance_state.cc``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message
from tritonforge_generator.lint.rule import Hit, rule


@dataclass(frozen=True, slots=True)
class _Spec:
    index: int
    path: str
    spec: Message
    lower: Message
    limit: int


def _specs(model: Model) -> Iterator[_Spec]:
    """Yield the graph specs, each with the one that bounds it below: itself, unless that is written."""
    served = model.served
    cuda = model.config.optimization.cuda
    if not model.is_tensorrt or not cuda.graphs or served is None:
        return
    for index, spec in enumerate(cuda.graph_spec):
        lower = spec.graph_lower_bound if spec.HasField("graph_lower_bound") else spec
        yield _Spec(index, f"optimization.cuda.graph_spec[{index}]", spec, lower, served.max_batch_size)


def _batches(each: _Spec) -> Iterator[tuple[str, int]]:
    yield f"{each.path}.batch_size", each.spec.batch_size
    if each.lower is not each.spec:
        yield f"{each.path}.graph_lower_bound.batch_size", each.lower.batch_size


@rule(
    "T52",
    text="graph spec expects 'batch_size' to be 0 if 'max_batch_size' is 0",
    fix="Leave `batch_size` out, and write full shapes.",
)
def graph_of_a_model_without_batching(model: Model) -> Iterator[Hit]:
    """Without batching, a ``graph_spec`` and its lower bound have no ``batch_size``."""
    for each in _specs(model):
        for path, batch in _batches(each):
            if each.limit == 0 and batch != 0:
                yield Hit(path, at=(each.index,))


@rule(
    "T53",
    text="graph spec expects 'batch_size' to be >= 1 and <= {limit}",
    fix="Write a batch size from 1 to {limit}.",
)
def graph_batch_is_possible(model: Model) -> Iterator[Hit]:
    """With batching, a ``graph_spec`` and its lower bound have a ``batch_size`` up to ``max_batch_size``."""
    for each in _specs(model):
        for path, batch in _batches(each):
            if each.limit > 0 and not 1 <= batch <= each.limit:
                yield Hit(path, {"limit": each.limit}, at=(each.index,))


@rule(
    "T54",
    text="graph lower bound spec expects 'batch_size' to be <= graph spec 'batch_size'",
    fix="Lower the `batch_size` of `graph_lower_bound` to {batch} or less.",
)
def graph_bound_batch_is_lower(model: Model) -> Iterator[Hit]:
    """The lower bound's ``batch_size`` is not above that of the ``graph_spec``."""
    for each in _specs(model):
        if each.lower.batch_size > each.spec.batch_size:
            path = f"{each.path}.graph_lower_bound.batch_size"
            yield Hit(path, {"batch": each.spec.batch_size}, at=(each.index,))


@rule(
    "T55",
    text="graph lower bound spec expects shape for input '{tensor}'",
    fix="Give '{tensor}' in `graph_lower_bound` as well.",
)
def graph_bound_is_complete(model: Model) -> Iterator[Hit]:
    """A lower bound has every input of its ``graph_spec``."""
    for each in _specs(model):
        for order, name in enumerate(sorted(each.spec.input)):
            if name not in each.lower.input:
                yield Hit(f"{each.path}.graph_lower_bound", {"tensor": name}, at=(each.index, order))


def _shapes(model: Model) -> Iterator[tuple[_Spec, int, str, list[int], list[int]]]:
    """Yield ``(spec, order, input, its shape, its lower bound)`` of the inputs that are in both."""
    for each in _specs(model):
        for order, name in enumerate(sorted(each.spec.input)):
            if name in each.lower.input:
                yield each, order, name, list(each.spec.input[name].dim), list(each.lower.input[name].dim)


@rule(
    "T56",
    text="graph lower bound spec expects to have '{rank} dimensions, got {lower_rank}",
    fix="Write {rank} sizes for '{tensor}' in `graph_lower_bound`.",
)
def graph_bound_rank_fits(model: Model) -> Iterator[Hit]:
    """An input has as many sizes in the lower bound as in the ``graph_spec``."""
    for each, order, name, dims, lower in _shapes(model):
        if len(dims) != len(lower):
            values = {"rank": len(dims), "lower_rank": len(lower), "tensor": name}
            yield Hit(f'{each.path}.graph_lower_bound.input["{name}"]', values, at=(each.index, order))


@rule(
    "T57",
    text="graph spec expects input '{tensor}' to have dimension >= 0",
    fix="Write sizes: a graph is captured for one shape.",
)
def graph_shape_is_fixed(model: Model) -> Iterator[Hit]:
    """The sizes of a ``graph_spec`` and of its lower bound are not negative."""
    for each, order, name, dims, lower in _shapes(model):
        if len(dims) == len(lower):
            for place, (size, bound) in enumerate(zip(dims, lower, strict=True)):
                if size < 0 or bound < 0:
                    yield Hit(f'{each.path}.input["{name}"]', {"tensor": name}, at=(each.index, order, place))


@rule(
    "T58",
    text="graph lower bound spec expects input '{tensor}' to have dimension <= {size}",
    fix="Lower it to {size} or less.",
)
def graph_bound_is_lower(model: Model) -> Iterator[Hit]:
    """No size of the lower bound is above that of the ``graph_spec``."""
    for each, order, name, dims, lower in _shapes(model):
        if len(dims) == len(lower):
            for place, (size, bound) in enumerate(zip(dims, lower, strict=True)):
                if 0 <= size < bound:
                    path = f'{each.path}.graph_lower_bound.input["{name}"]'
                    yield Hit(path, {"tensor": name, "size": size}, at=(each.index, order, place))
