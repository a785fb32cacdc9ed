"""T10, T25, T26, T46 to T51: shape tensors, whose values are the sizes of other tensors of a TensorRT plan.

Source: ``FixIO`` in the back-end's ``model_state.cc``; ``ValidateIOHelper``, ``InitializeShapeInputBinding`` and
``InitializeConfigShapeOutputBindings`` in its ``instance_state.cc``; ``CompareShapeDimsSupported`` in
``tensorrt_utils.cc``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.plan_completion import shape_of
from tritonforge_generator.lint.plan_io import PlanTensor
from tritonforge_generator.lint.plan_view import (
    BATCH_OUTPUTS,
    SHAPE_INPUTS,
    SHAPE_OUTPUTS,
    Place,
    instance_name,
    shown,
    views,
)
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule


@dataclass(frozen=True, slots=True)
class _Pair:
    """A tensor of the config and that of the plan."""

    kind: str
    index: int
    tensor: Message
    known: PlanTensor
    batches: bool

    @property
    def path(self) -> str:
        return f"{self.kind}[{self.index}]"

    @property
    def at(self) -> Place:
        """Its place where tensors are looked at one by one."""
        return self.kind == "output", self.index

    @property
    def bound_at(self) -> Place:
        """Its place where memory is given to them."""
        return SHAPE_OUTPUTS if self.kind == "output" else SHAPE_INPUTS, self.index


def _pairs(model: Model) -> Iterator[_Pair]:
    for view in views(model):
        for kind in ("input", "output"):
            for index, tensor in enumerate(getattr(view.served, kind)):
                known = view.plan.find(tensor.name)
                if known is not None and known.is_input == (kind == "input"):
                    yield _Pair(kind, index, tensor, known, view.served.max_batch_size > 0)


def _shape_tensors(model: Model, *kinds: str) -> Iterator[_Pair]:
    for pair in _pairs(model):
        if pair.kind in kinds and pair.known.is_shape_tensor and pair.tensor.is_shape_tensor:
            yield pair


@rule(
    "T10",
    needs="file",
    text="'{tensor}' is incorrectly specified as a shape tensor.",
    fix="Remove `is_shape_tensor`.",
)
def completed_shape_tensor_is_one(model: Model) -> Iterator[Hit]:
    """While completing, only shape tensors of the plan are ``is_shape_tensor``."""
    for pair in _pairs(model) if model.completes_plan else ():
        if pair.tensor.is_shape_tensor and pair.known.is_shape_tensor is False:
            yield Hit(f"{pair.path}.is_shape_tensor", {"tensor": pair.tensor.name}, at=pair.at)


@rule(
    "T25",
    needs="file",
    text="{kind} '{tensor}' for model '{model}' is a shape tensor but the model configuration doesn't mark it as a "
    "shape tensor.",
    fix="Write `is_shape_tensor: true`.",
)
def shape_tensor_is_flagged(model: Model) -> Iterator[Hit]:
    """A shape tensor of the plan is ``is_shape_tensor``; a completing server writes it."""
    for pair in _pairs(model):
        if pair.known.is_shape_tensor and not pair.tensor.is_shape_tensor:
            yield Hit(pair.path, {"kind": pair.kind, "tensor": pair.tensor.name}, at=pair.at)


@rule(
    "T26",
    needs="file",
    text="{kind} '{tensor}' for model '{model}' is incorrectly marked as a shape tensor in the model configuration.",
    fix="Remove `is_shape_tensor`.",
)
def flagged_shape_tensor_is_one(model: Model) -> Iterator[Hit]:
    """Only shape tensors of the plan are ``is_shape_tensor``; a completing server says T10 instead."""
    for pair in _pairs(model) if not model.completes_plan else ():
        if pair.tensor.is_shape_tensor and pair.known.is_shape_tensor is False:
            values = {"kind": pair.kind, "tensor": pair.tensor.name}
            yield Hit(f"{pair.path}.is_shape_tensor", values, at=pair.at)


@rule(
    "T46",
    text="unexpected datatype TYPE_{written} in model configuration for shape input '{tensor}', expecting TYPE_INT32 "
    "or TYPE_INT64 for {instance}",
    fix="Write TYPE_INT32 or TYPE_INT64, as the plan has it.",
)
def shape_input_is_an_integer(model: Model) -> Iterator[Hit]:
    """An input that is ``is_shape_tensor`` is INT32 or INT64."""
    for index, tensor in enumerate(model.config.input if model.is_tensorrt else ()):
        written = enum_name(tensor, "data_type")
        if tensor.is_shape_tensor and written not in {"TYPE_INVALID", "TYPE_INT32", "TYPE_INT64"}:
            values = {
                "written": written.removeprefix("TYPE_").replace("STRING", "BYTES"),
                "tensor": tensor.name,
                "instance": instance_name(model),
            }
            yield Hit(f"input[{index}].data_type", values, at=(SHAPE_INPUTS, index))


@rule(
    "T47",
    needs="file",
    text="unexpected datatype TYPE_{known} in engine for shape input '{tensor}', expecting TYPE_{written} for "
    "{instance}",
    fix="Write TYPE_{known}, the plan's type.",
)
def shape_input_type_fits(model: Model) -> Iterator[Hit]:
    """A shape input has the data type that it has in the plan."""
    for pair in _shape_tensors(model, "input"):
        written = enum_name(pair.tensor, "data_type")
        if written in {"TYPE_INT32", "TYPE_INT64"} and written != pair.known.data_type:
            values = {
                "known": pair.known.data_type.removeprefix("TYPE_"),
                "written": written.removeprefix("TYPE_"),
                "tensor": pair.tensor.name,
                "instance": instance_name(model),
            }
            yield Hit(f"{pair.path}.data_type", values, at=pair.bound_at)


@rule(
    "T48",
    text="unexpected datatype '{written} in model configuration for shape output '{tensor}', expecting TYPE_INT64 for "
    "{instance}",
    fix="Write TYPE_INT64, and build the plan so.",
    since="25.06",
)
def shape_output_is_a_long(model: Model) -> Iterator[Hit]:
    """An output that is ``is_shape_tensor`` is INT64.

    Older servers wanted INT32. Which release changed that is not known; TensorRT 10.11 brought what this needs.
    """
    for index, tensor in enumerate(model.config.output if model.is_tensorrt else ()):
        written = enum_name(tensor, "data_type")
        if tensor.is_shape_tensor and written not in {"TYPE_INVALID", "TYPE_INT64"}:
            values = {"written": written, "tensor": tensor.name, "instance": instance_name(model)}
            yield Hit(f"output[{index}].data_type", values, at=(SHAPE_OUTPUTS, index))


@rule(
    "T49",
    needs="file",
    text="unable to load model '{instance}', shape binding '{tensor}' can only be 0-d or 1-D tensor, got {shape}",
    fix="Build the plan with at most one dimension for it.",
)
def shape_tensor_is_flat(model: Model) -> Iterator[Hit]:
    """A shape tensor has at most one dimension. The server's text names the instance."""
    for pair in _shape_tensors(model, "input", "output"):
        if len(pair.known.dims) > 1 and len(shape_of(pair.tensor)) == len(pair.known.dims):
            shape = shown(pair.known.dims)
            values = {"instance": instance_name(model), "tensor": pair.tensor.name, "shape": shape}
            yield Hit(f"{pair.path}.dims", values, at=pair.bound_at)


@rule(
    "T50",
    needs="file",
    text="unable to load model '{instance}', binding '{tensor}' shape expected by framework {known} doesn't match "
    "model configuration shape {written}",
    fix="Write the plan's size, less one with batching: the first value is the batch size.",
)
def shape_tensor_dims_fit(model: Model) -> Iterator[Hit]:
    """``dims`` of a shape tensor are the plan's, one less with batching, never -1.

    The server's text names the instance.
    """
    for pair in _shape_tensors(model, "input", "output"):
        written, known = shape_of(pair.tensor), pair.known.dims
        flat_conflict = len(known) == 1 and (written[:1] == (-1,) or (*written, 0)[0] + pair.batches != known[0])
        if len(written) != len(known) or flat_conflict:
            values = {
                "instance": instance_name(model),
                "tensor": pair.tensor.name,
                "known": shown(known),
                "written": shown(written),
            }
            yield Hit(f"{pair.path}.dims", values, at=pair.bound_at)


@rule(
    "T51",
    text="batch output '{tensor}' can not be shape binding",
    fix="Remove it from the `batch_output`.",
)
def batch_output_is_no_shape(model: Model) -> Iterator[Hit]:
    """The target of a ``batch_output`` of a TensorRT model is not ``is_shape_tensor``."""
    flagged = {output.name for output in model.config.output if output.is_shape_tensor}
    for index, entry in enumerate(model.config.batch_output if model.is_tensorrt else ()):
        for target, name in enumerate(entry.target_name):
            if name in flagged:
                path = f"batch_output[{index}].target_name[{target}]"
                yield Hit(path, {"tensor": name}, at=(BATCH_OUTPUTS, index))
