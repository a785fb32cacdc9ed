"""Edges of an ensemble: where its tensors come from and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonforge_generator.ensemble.composing import ComposingModel, ModelTensor
from tritonforge_generator.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A model at work in an ensemble, with the maps in full.

    Attributes:
        model: The model.
        label: How messages name the step.
        model_version: As declared; -1 for the newest.
        input_map: Ensemble tensor by input of the model.
        output_map: Ensemble tensor by output of the model.
    """

    model: ComposingModel
    label: str
    model_version: int
    input_map: dict[str, str]
    output_map: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of an edge: a tensor of a model that an ensemble tensor comes from or goes to.

    Attributes:
        step: The step.
        kind: Which of the two it is.
        tensor: What the step's model says of it.
    """

    step: Step
    kind: str
    tensor: ModelTensor

    def __str__(self) -> str:
        sizes = ",".join(str(size) for size in self.tensor.shape)
        return f"{self.step.label} {self.kind} '{self.tensor.name}' {self.tensor.datatype} [{sizes}]"


@dataclass(slots=True)
class Wire:
    """An ensemble tensor on its way to be known.

    Attributes:
        name: Its name.
        ends: The step that makes it, if one does, and then those that take it.
    """

    name: str
    ends: list[End]

    @property
    def source(self) -> End | None:
        """The step that makes it; ``None`` for an input of the ensemble."""
        return self.ends[0] if self.ends and self.ends[0].kind == "output" else None

    @property
    def targets(self) -> list[End]:
        """The steps that take it."""
        return [end for end in self.ends if end.kind == "input"]

    def unified(self, ensemble: str) -> tuple[str, tuple[int, ...]]:
        """The type and the shape that all ends agree on, with every size that one of them knows.

        The shapes are compared with the batch in front. The server also lets shapes pass that are equal without it
        (rule X13); then a model that batches would meet one that does not, with a batch too many or too few.

        Args:
            ensemble: Name of the ensemble, for messages.

        Raises:
            ConfigError: Two ends differ in type (rule X12), in rank or in a size (rule X13).
        """
        first = self.ends[0]
        shape = list(first.tensor.shape)
        for end in self.ends[1:]:
            if end.tensor.datatype != first.tensor.datatype:
                raise _edge_error(ensemble, self, first, end, "the same data type")
            if len(end.tensor.shape) != len(shape):
                raise _edge_error(ensemble, self, first, end, _rank_hint(first, end))
            for axis, size in enumerate(end.tensor.shape):
                if -1 not in (shape[axis], size) and shape[axis] != size:
                    rival = next(one for one in self.ends if one.tensor.shape[axis] == shape[axis])
                    raise _edge_error(ensemble, self, rival, end, f"the same size of axis {axis}")
                shape[axis] = max(shape[axis], size)
        return first.tensor.datatype, tuple(shape)


def wires_of(ensemble: str, steps: Sequence[Step]) -> dict[str, Wire]:
    """Collect the ends of every ensemble tensor, makers first.

    Args:
        ensemble: Name of the ensemble, for messages.
        steps: Its steps.

    Raises:
        ConfigError: A tensor is made twice (rules E9 and X11).
    """
    wires: dict[str, Wire] = {}
    for step in steps:
        outputs = {tensor.name: tensor for tensor in step.model.outputs}
        for output, name in step.output_map.items():
            end = End(step=step, kind="output", tensor=outputs[output])
            if name in wires:
                raise ConfigError(
                    f"ensemble '{ensemble}': tensor '{name}' is made twice",
                    expected="one step that makes it",
                    got=f"{wires[name].ends[0]} and {end}",
                    action="Give one of them another name in output_map.",
                )
            wires[name] = Wire(name, [end])
    for step in steps:
        inputs = {tensor.name: tensor for tensor in step.model.inputs}
        for taken, name in step.input_map.items():
            end = End(step=step, kind="input", tensor=inputs[taken])
            wires.setdefault(name, Wire(name, [])).ends.append(end)
    return wires


def _edge_error(ensemble: str, wire: Wire, left: End, right: End, expected: str) -> ConfigError:
    arrow = "->" if left.kind == "output" else "and"
    return ConfigError(
        f"ensemble '{ensemble}': the ends of tensor '{wire.name}' do not fit",
        expected=expected,
        got=f"{left} {arrow} {right}",
        action="Put a model between them that converts, or map another tensor.",
    )


def _rank_hint(left: End, right: End) -> str:
    batched = {end.step.label: end.step.model.max_batch_size > 0 for end in (left, right)}
    if len(set(batched.values())) < 2:
        return "the same number of axes"
    one = next(label for label, batches in batched.items() if batches)
    return f"the same number of axes; the first of {one} is its batch"
