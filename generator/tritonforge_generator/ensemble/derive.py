"""Derives an ensemble from its steps: tensors, types, shapes, batch limit, order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.ensemble.composing import ComposingModel, ModelTensor
from tritonforge_generator.ensemble.edges import Step, Wire, wires_of
from tritonforge_generator.ensemble.mapping import mapped_steps
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.spec import EnsembleOptions, EnsembleTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """The artifact of the stage: an ensemble whose every edge fits.

    Attributes:
        name: Its name.
        max_batch_size: The smallest of the steps, or less where declared; 0 for shapes in full.
        batch_note: Why it is so, in a sentence.
        inputs: What requests give.
        outputs: What replies hold.
        steps: As declared, with the maps in full.
        order: Indices of the steps in an order in which they can run.
        edges: Ways from the request or a step to a step or the reply; each of them fits.
    """

    name: str
    max_batch_size: int
    batch_note: str
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    steps: tuple[Step, ...]
    order: tuple[int, ...]
    edges: int

    @property
    def is_decoupled(self) -> bool:
        """Whether a request may get several replies, because a step gives several."""
        return any(step.model.is_decoupled for step in self.steps)

    def dims(self, tensor: ModelTensor) -> tuple[int, ...]:
        """The shape of an input or output as the config has it."""
        return tensor.shape[1:] if self.max_batch_size > 0 else tensor.shape

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest, without paths."""

        def tensors(them: Sequence[ModelTensor]) -> list[dict[str, Any]]:
            return [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in them]

        return {
            "inputs": tensors(self.inputs),
            "outputs": tensors(self.outputs),
            "batch": {"found": self.max_batch_size > 0, "note": self.batch_note},
            "steps": [
                {
                    "model_name": step.model.name,
                    "model_version": step.model_version,
                    "input_map": step.input_map,
                    "output_map": step.output_map,
                }
                for step in self.steps
            ],
        }


def ensemble_from_options(options: EnsembleOptions, models: Mapping[str, ComposingModel]) -> Ensemble:
    """Derive an ensemble and check every edge by the server's rules.

    Args:
        options: What was declared.
        models: The models of the steps, by name.

    Raises:
        ConfigError: An edge does not fit; the message names both of its ends.
    """
    steps = mapped_steps(options, models)
    wires = wires_of(options.name, steps)
    _check_ends(options, wires)
    order = _order(options, steps)
    limit, note = _batch_limit(options, steps)
    found = {name: wire.unified(options.name) for name, wire in wires.items()}

    def derived(declared: EnsembleTensor) -> ModelTensor:
        wire = wires[declared.name]
        datatype, shape = found[declared.name]
        optional = wire.source is None and all(end.tensor.optional for end in wire.targets)
        tensor = ModelTensor(
            name=declared.name, datatype=datatype, shape=_batched(shape, limit), reshape=None, optional=optional
        )
        return _checked(options, declared, tensor, batched=limit > 0)

    return Ensemble(
        name=options.name,
        max_batch_size=limit,
        batch_note=note,
        inputs=tuple(derived(one) for one in options.input),
        outputs=tuple(derived(one) for one in options.output),
        steps=steps,
        order=order,
        edges=sum(len(wire.targets) for wire in wires.values()) + len(options.output),
    )


def _batched(shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    return (-1, *shape[1:]) if limit > 0 else shape


def _check_ends(options: EnsembleOptions, wires: Mapping[str, Wire]) -> None:
    """Every tensor is made once and taken: by the request, by a step, by the reply.

    Raises:
        ConfigError: One is not (rules E9 to E14).
    """
    given = {tensor.name for tensor in options.input}
    replied = {tensor.name for tensor in options.output}
    for index, tensor in enumerate(options.input):
        wire = wires.get(tensor.name)
        if wire is None:  # rule E10
            raise ConfigError(
                f"ensemble '{options.name}': input[{index}] '{tensor.name}' feeds no step",
                expected="a tensor that an input_map names",
                action=_meant(tensor.name, wires) or "Map it, or leave it out.",
            )
        if wire.source is not None:  # not noticed by the server, see rule E9
            raise ConfigError(
                f"ensemble '{options.name}': tensor '{tensor.name}' is made twice",
                expected="one that makes it",
                got=f"the request and {wire.source}",
                action="Give the step's output another name in output_map.",
            )
    for index, tensor in enumerate(options.output):
        if tensor.name not in wires or wires[tensor.name].source is None:  # rules E11 and E12
            made = [name for name, wire in wires.items() if wire.source is not None]
            raise ConfigError(
                f"ensemble '{options.name}': output[{index}] '{tensor.name}' is made by no step",
                expected=f"one of {', '.join(made)}",
                action=_meant(tensor.name, made) or "Map an output of a step to it.",
            )
    for name, wire in wires.items():
        if wire.source is None and name not in given:  # rule E13
            raise ConfigError(
                f"ensemble '{options.name}': tensor '{name}' is made by no step and is no input",
                expected="a tensor that a step makes, or an input",
                got=f"'{name}' -> {wire.targets[0]}",
                action=_meant(name, set(wires) - {name}) or "Declare it under input, or correct input_map.",
            )
    for name, wire in wires.items():
        if wire.source is not None and not wire.targets and name not in replied:  # rule E14
            raise ConfigError(
                f"ensemble '{options.name}': tensor '{name}' is a dead end",
                expected="a step or an output that takes it",
                got=f"{wire.source} -> nothing",
                action="Leave it out of output_map, or declare it under output.",
            )


def _meant(name: str, known: Mapping[str, Wire] | Sequence[str] | set[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else ""


def _order(options: EnsembleOptions, steps: Sequence[Step]) -> tuple[int, ...]:
    """An order in which every step has what it takes.

    Raises:
        ConfigError: Steps wait for one another (rule E13).
    """
    ready = {tensor.name for tensor in options.input}
    order: list[int] = []
    waiting = list(range(len(steps)))
    while waiting:
        runnable = [index for index in waiting if set(steps[index].input_map.values()) <= ready]
        if not runnable:
            raise ConfigError(
                f"ensemble '{options.name}': its steps wait for one another",
                expected="a way from the inputs to every step",
                got=" -> ".join(_circle(steps, waiting)),
            )
        for index in runnable:
            ready |= set(steps[index].output_map.values())
        order += runnable
        waiting = [index for index in waiting if index not in runnable]
    return tuple(order)


def _circle(steps: Sequence[Step], waiting: Sequence[int]) -> list[str]:
    """Go from a step to one that it waits for until one comes again, and tell it in the direction of the data."""
    makers = {tensor: index for index in waiting for tensor in steps[index].output_map.values()}
    way = [waiting[0]]
    while way.count(way[-1]) == 1:
        way.append(next(makers[tensor] for tensor in steps[way[-1]].input_map.values() if tensor in makers))
    return [steps[index].label for index in reversed(way[way.index(way[-1]) :])]


def _batch_limit(options: EnsembleOptions, steps: Sequence[Step]) -> tuple[int, str]:
    """The largest batch, and why.

    Raises:
        ConfigError: More is asked for than a step takes (rule X6).
    """
    smallest = min(steps, key=lambda step: step.model.max_batch_size)
    limit = smallest.model.max_batch_size
    why = f"the smallest of the steps, that of {smallest.label}" if limit > 0 else f"{smallest.label} takes no batches"
    asked = options.max_batch_size
    if asked is None or asked == limit:
        return limit, why
    if asked > limit:
        raise ConfigError(
            f"ensemble '{options.name}': max_batch_size is above that of a step",
            expected=f"at most {limit}, because {smallest.label} has max_batch_size {limit}",
            got=str(asked),
            action="Leave it out, or raise that of the model.",
        )
    return asked, f"as declared; the steps take {limit}"


def _checked(options: EnsembleOptions, declared: EnsembleTensor, tensor: ModelTensor, *, batched: bool) -> ModelTensor:
    """The derived tensor with the sizes that are declared.

    Raises:
        ConfigError: What is declared is not what the steps have.
    """
    data_type = BY_DATATYPE[tensor.datatype].data_type if tensor.datatype in BY_DATATYPE else tensor.datatype
    if declared.data_type not in (None, data_type):
        raise ConfigError(
            f"ensemble '{options.name}': data_type of '{declared.name}' is not that of the steps",
            expected=data_type,
            got=str(declared.data_type),
        )
    if declared.dims is None:
        return tensor
    front = tensor.shape[:1] if batched else ()
    dims = tensor.shape[len(front) :]
    if len(dims) != len(declared.dims) or any(
        known not in (-1, size) for known, size in zip(dims, declared.dims, strict=True)
    ):
        raise ConfigError(
            f"ensemble '{options.name}': dims of '{declared.name}' are not those of the steps",
            expected=str(list(dims)),
            got=str(list(declared.dims)),
            action="Leave dims out to take those of the steps.",
        )
    return ModelTensor(
        name=tensor.name,
        datatype=tensor.datatype,
        shape=(*front, *declared.dims),
        reshape=None,
        optional=tensor.optional,
    )
