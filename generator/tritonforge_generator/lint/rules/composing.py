"""X: an ensemble against the models that it is made of, as completed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, ModelConfig, enum_name
from tritonforge_generator.lint.rule import Hit, rule
from tritonforge_generator.lint.rules.dependencies import steps_of


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one model's config says about an ensemble tensor."""

    owner: str
    data_type: str
    dims: tuple[int, ...]
    full_dims: tuple[int, ...]


def _composing(model: Model) -> Iterator[tuple[int, Message, ModelConfig]]:
    """Yield ``(index, step, completed config)`` of the steps whose model is known."""
    for index, step, composing in steps_of(model):
        if composing is not None and not composing.is_outside and composing.served is not None:
            yield index, step, composing.served


def _circle(model: Model) -> list[str]:
    """Find the way from an ensemble through its steps back to itself."""
    ways = [[model.name]]
    seen: set[str] = set()
    for way in ways:
        found = None if model.repositories is None else model.repositories.model(way[-1])
        for step in found.written.ensemble_scheduling.step if found is not None else ():
            if step.model_name == model.name:
                return [*way, model.name]
            if step.model_name not in seen:
                seen.add(step.model_name)
                ways.append([*way, step.model_name])
    return []


@rule(
    "X2",
    needs="repo",
    text="circular dependency between ensembles: {first} -> ... -> {last} -> {first}",
    fix="Break the circle {circle}: a step may not lead back to the ensemble that it belongs to.",
)
def ensembles_do_not_call_themselves(model: Model) -> Iterator[Hit]:
    """No ensemble reaches itself through the models of its steps."""
    circle = _circle(model) if model.config.HasField("ensemble_scheduling") else []
    if not circle:
        return
    # The server starts at the first name, then at the end of the circle, which has no text by then. Each time it gives
    # its text to all on the way but the model that leads back.
    names = circle[:-1]
    start = names.index(min(names))
    order = names[start:] + names[:start]
    first, last = order[-1], order[-2 % len(order)]
    if model.name == last:
        first, last = order[0], order[-1]
    values = {"first": first, "last": last, "circle": " -> ".join(circle)}
    yield Hit("ensemble_scheduling", values)


@rule(
    "X6",
    needs="repo",
    text="ensemble {model} allows maximum batch size {limit}, but it contains model {step} which only allows maximum "
    "batch size to be {allowed}",
    fix="Lower the ensemble's max_batch_size to {allowed}, or raise that of '{step}'.",
)
def batch_fits_composing_models(model: Model) -> Iterator[Hit]:
    """The ensemble's ``max_batch_size`` is not above that of any composing model that batches."""
    limit = model.config.max_batch_size
    for index, step, config in _composing(model):
        if 0 != config.max_batch_size < limit:
            values = {"limit": limit, "step": step.model_name, "allowed": config.max_batch_size}
            yield Hit("max_batch_size", values, at=(index, 0))


@rule(
    "X7",
    needs="repo",
    text="in ensemble {model}, ensemble tensor {tensor} is mapping to non-existing input {input} in model {step}",
    fix="'{step}' has the inputs {known}: the key of `input_map` is one of them, the value the ensemble tensor.",
)
def mapped_input_exists(model: Model) -> Iterator[Hit]:
    """Every key of ``input_map`` is an input of the step's model."""
    for index, step, config in _composing(model):
        known = [tensor.name for tensor in config.input]
        for name in sorted(set(step.input_map) - set(known)):
            values = {"tensor": step.input_map[name], "input": name, "step": step.model_name, "known": ", ".join(known)}
            yield Hit(f'ensemble_scheduling.step[{index}].input_map["{name}"]', values, at=(index, 1))


@rule(
    "X8",
    needs="repo",
    text="in ensemble {model}, input {input} in model {step} is not mapped to any ensemble tensors",
    fix="Add '{input}' to the step's `input_map`.",
)
def input_is_mapped(model: Model) -> Iterator[Hit]:
    """Every input of a step's model is mapped, unless it is ``optional``."""
    for index, step, config in _composing(model):
        for number, tensor in enumerate(config.input):
            if tensor.name not in step.input_map and not tensor.optional:
                values = {"input": tensor.name, "step": step.model_name}
                yield Hit(f"ensemble_scheduling.step[{index}].input_map", values, at=(index, 2, number))


@rule(
    "X10",
    needs="repo",
    text="in ensemble {model}, ensemble tensor {tensor} is mapped from non-existing output {output} in model {step}",
    fix="'{step}' has the outputs {known}: the key of `output_map` is one of them, the value the ensemble tensor.",
)
def mapped_output_exists(model: Model) -> Iterator[Hit]:
    """Every key of ``output_map`` is an output of the step's model."""
    for index, step, config in _composing(model):
        known = [tensor.name for tensor in config.output]
        for name in sorted(set(step.output_map) - set(known)):
            values = {
                "tensor": step.output_map[name],
                "output": name,
                "step": step.model_name,
                "known": ", ".join(known),
            }
            yield Hit(f'ensemble_scheduling.step[{index}].output_map["{name}"]', values, at=(index, 3))


def _seen(owner: str, config: ModelConfig, tensor: Message, dims: Sequence[int]) -> _Seen:
    full = (-1, *dims) if config.max_batch_size > 0 else tuple(dims)
    return _Seen(owner, enum_name(tensor, "data_type"), tuple(dims), full)


def _conflicts(model: Model) -> Iterator[tuple[str, tuple[int, ...], str, _Seen, _Seen]]:
    """Yield ``(field, place in the server's order, tensor, first view, differing view)``."""
    first: dict[str, _Seen] = {}
    if not model.config.HasField("ensemble_scheduling"):
        return
    for tensor in (*model.config.input, *model.config.output):
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        first.setdefault(tensor.name, _seen(model.name, model.config, tensor, dims))
    for index, step, config in _composing(model):
        for place, kind, mapping, tensors in (
            (2, "input_map", step.input_map, config.input),
            (4, "output_map", step.output_map, config.output),
        ):
            for number, tensor in enumerate(tensors):
                if tensor.name not in mapping:
                    continue
                name = mapping[tensor.name]
                view = _seen(step.model_name, config, tensor, tensor.dims)
                field = f'ensemble_scheduling.step[{index}].{kind}["{tensor.name}"].value'
                yield field, (index, place, number), name, first.setdefault(name, view), view


@rule(
    "X12",
    needs="repo",
    text="in ensemble {model}, ensemble tensor {tensor}: inconsistent data type: {left} is inferred from model {owner} "
    "while {right} is inferred from model {other}",
    fix="Give both ends the same data type, or put a model between them that converts.",
)
def data_types_agree(model: Model) -> Iterator[Hit]:
    """Everything that makes or takes an ensemble tensor has the same data type."""
    for field, at, tensor, view, other in _conflicts(model):
        if view.data_type != other.data_type:
            values = {"tensor": tensor, "left": view.data_type, "owner": view.owner}
            yield Hit(field, values | {"right": other.data_type, "other": other.owner}, at=at)


def _compatible(left: Sequence[int], right: Sequence[int]) -> bool:
    return len(left) == len(right) and all(-1 in {a, b} or a == b for a, b in zip(left, right, strict=True))


@rule(
    "X13",
    needs="repo",
    text="in ensemble {model}, ensemble tensor {tensor}: inconsistent shape: {left} is inferred from model {owner} "
    "while {right} is inferred from model {other}",
    fix="Give both ends the same `dims`; `reshape` of a composing model does not count here.",
)
def shapes_agree(model: Model) -> Iterator[Hit]:
    """Everything that makes or takes an ensemble tensor has the same shape, with or without the batch dimension."""
    for field, at, tensor, view, other in _conflicts(model):
        if view.data_type != other.data_type:
            continue
        if not _compatible(view.dims, other.dims) and not _compatible(view.full_dims, other.full_dims):
            values = {"tensor": tensor, "left": _shape(view.full_dims), "owner": view.owner}
            yield Hit(field, values | {"right": _shape(other.full_dims), "other": other.owner}, at=at)


def _shape(dims: Sequence[int]) -> str:
    return "[" + ",".join(str(size) for size in dims) + "]"
