"""T23 to T42: the config's tensors against those of a TensorRT plan.

Source: ``ValidateIO`` and ``InitIOBindingBuffers`` in the back-end's ``instance_state.cc``, ``CompareDimsSupported``
and ``ValidateControlDimsDynamic`` in its ``tensorrt_utils.cc``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.plan_view import (
    ALL_DONE,
    INPUTS_DONE,
    Bound,
    Place,
    bindings,
    bound,
    instance_name,
    shown,
    views,
)
from tritonforge_generator.lint.proto import enum_name
from tritonforge_generator.lint.rule import Hit, rule

_UNSUPPORTED: Final = frozenset({"TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT16", "TYPE_FP64", "TYPE_STRING"})


@rule(
    "T23",
    needs="file",
    text="unable to load model '{model}', configuration expects {expected} inputs, model provides at most {provided}",
    fix="Keep one entry for each of the plan's inputs: {names}.",
)
def inputs_are_not_too_many(model: Model) -> Iterator[Hit]:
    """The config has no more inputs than the plan."""
    for view in views(model):
        names = [tensor.name for tensor in view.plan.inputs]
        if len(view.served.input) > len(names):
            values = {"expected": len(view.served.input), "provided": len(names), "names": ", ".join(names)}
            yield Hit(f"input[{len(names)}]", values)


@rule(
    "T24",
    text="unsupported datatype {written} for {kind} '{tensor}' for model '{model}'",
    fix="Use a type that TensorRT has: BOOL, UINT8, INT8, INT32, INT64, FP16, FP32 or BF16.",
)
def types_exist_in_tensorrt(model: Model) -> Iterator[Hit]:
    """TensorRT has no strings, no FP64, and of the integers only UINT8, INT8, INT32 and INT64."""
    for kind, index, tensor in model.tensors() if model.is_tensorrt else ():
        written = enum_name(tensor, "data_type")
        if written in _UNSUPPORTED:
            values = {"written": written, "kind": kind, "tensor": tensor.name}
            yield Hit(f"{kind}[{index}].data_type", values, at=(kind == "output", index))


def _formats(model: Model, *, linear: bool) -> Iterator[Hit]:
    """Yield the tensors of one sort of format whose ``is_non_linear_format_io`` says the other."""
    for view in views(model):
        for kind in ("input", "output"):
            for index, tensor in enumerate(getattr(view.served, kind)):
                known = view.plan.find(tensor.name)
                if known is None or known.is_input != (kind == "input") or known.is_linear != linear:
                    continue
                if tensor.is_non_linear_format_io == linear:
                    path = f"{kind}[{index}].is_non_linear_format_io"
                    yield Hit(path, {"kind": kind, "tensor": tensor.name}, at=(kind == "output", index))


@rule(
    "T11",
    needs="file",
    text="'{tensor}' uses a linear IO format, but 'is_non_linear_format_io' is incorrectly set to true in the model "
    "configuration.",
    fix="Remove `is_non_linear_format_io`.",
)
def completed_format_is_linear(model: Model) -> Iterator[Hit]:
    """While completing, only tensors of a non-linear format are ``is_non_linear_format_io``."""
    if model.completes_plan:
        yield from _formats(model, linear=True)


@rule(
    "T27",
    needs="file",
    text="{kind} '{tensor}' for model '{model}' uses a non-linear IO format, but 'is_non_linear_format_io' is "
    "incorrectly set to false in the model configuration.",
    fix="Write `is_non_linear_format_io: true`, or build the plan with linear inputs and outputs.",
)
def non_linear_format_is_flagged(model: Model) -> Iterator[Hit]:
    """A tensor of a non-linear format is ``is_non_linear_format_io``; a completing server writes it."""
    yield from _formats(model, linear=False)


@rule(
    "T28",
    needs="file",
    text="{kind} '{tensor}' for model '{model}' uses a linear IO format, but 'is_non_linear_format_io' is incorrectly "
    "set to true in the model configuration.",
    fix="Remove `is_non_linear_format_io`.",
)
def linear_format_is_not_flagged(model: Model) -> Iterator[Hit]:
    """A tensor of a linear format is not ``is_non_linear_format_io``; a completing server says T11 instead."""
    if not model.completes_plan:
        yield from _formats(model, linear=True)


@rule(
    "T29",
    needs="file",
    text="failed to specify the dimensions of all input tensors or values of all input shape tensors",
    fix="Add the plan's input '{tensor}'.",
)
def dynamic_inputs_are_written(model: Model) -> Iterator[Hit]:
    """Every input whose sizes the plan leaves open is in the config, or is a sequence control, a state, a batch input.

    A server completes inputs only when the config has none.
    """
    for view in views(model):
        written = {binding.name for binding in bindings(view.served)}
        for tensor in view.plan.inputs:
            if tensor.name not in written and (tensor.is_dynamic or tensor.is_shape_tensor):
                yield Hit("input", {"tensor": tensor.name}, at=(INPUTS_DONE, 0))


@rule(
    "T30",
    needs="file",
    text="expected configuration for {kind} '{tensor}' for {instance}",
    fix="Add '{tensor}': the back-end gives memory to every tensor of a plan.",
)
def all_tensors_are_written(model: Model) -> Iterator[Hit]:
    """Every input and output of the plan is in the config, outputs that nobody asks for too.

    A server completes inputs only when the config has none, and outputs likewise.
    """
    for view in views(model):
        written = {(binding.name, binding.is_input) for binding in bindings(view.served)}
        for index, tensor in enumerate(view.plan.tensors):
            missed_before = tensor.is_input and (tensor.is_dynamic or bool(tensor.is_shape_tensor))
            if (tensor.name, tensor.is_input) not in written and not missed_before:
                kind = "input" if tensor.is_input else "output"
                values = {"kind": kind, "tensor": tensor.name, "instance": instance_name(model)}
                yield Hit(kind, values, at=(ALL_DONE, index))


@rule(
    "T31",
    needs="file",
    text="{kind} '{tensor}' not found for {instance}",
    fix="Name a tensor of the plan: {names}.",
)
def controls_and_states_are_in_the_plan(model: Model) -> Iterator[Hit]:
    """Every sequence control, state and batch input is a tensor of the plan; for inputs and outputs see I13 and I14.

    Of a batch input the server says T32, because it takes an unknown name for the plan's first tensor.
    """
    for view in views(model):
        for binding in bindings(view.served):
            if binding.role != "tensor" and view.plan.find(binding.name) is None:
                known = view.plan.inputs if binding.is_input else view.plan.outputs
                values = {
                    "kind": "input" if binding.is_input else "output",
                    "tensor": binding.name,
                    "instance": instance_name(model),
                    "names": ", ".join(tensor.name for tensor in known),
                }
                yield Hit(binding.path, values, at=binding.at)


@rule(
    "T32",
    text="{kind} '{tensor}'  has already appeared as an input or output for {instance}",
    fix="Keep one of the two.",
)
def tensors_are_bound_once(model: Model) -> Iterator[Hit]:
    """No tensor of a TensorRT model stands twice in the config; a state may share that of an input or output."""
    seen: set[tuple[str, bool]] = set()
    for binding in bindings(model.config) if model.is_tensorrt else ():
        if (binding.name, binding.is_input) in seen and binding.name != "" and binding.role != "state":
            kind = "input" if binding.is_input else "output"
            values = {"kind": kind, "tensor": binding.name, "instance": instance_name(model)}
            yield Hit(f"{binding.path}.name" if binding.role == "tensor" else binding.path, values, at=binding.at)
        seen.add((binding.name, binding.is_input))


@rule(
    "T33",
    needs="file",
    text="input '{tensor}' is expected to be an input in model for {instance}",
    fix="Name an input of the plan: {names}.",
)
def inputs_are_no_outputs(model: Model) -> Iterator[Hit]:
    """A sequence control, a state's input and a batch input are inputs of the plan, not outputs; for inputs see I13."""
    yield from _turned(model, is_input=True)


@rule(
    "T34",
    needs="file",
    text="output '{tensor}' is expected to be an input in model for {instance}",
    fix="Name an output of the plan: {names}.",
)
def outputs_are_no_inputs(model: Model) -> Iterator[Hit]:
    """A state's output is an output of the plan, whatever the server's words are; for outputs see I14."""
    yield from _turned(model, is_input=False)


def _turned(model: Model, *, is_input: bool) -> Iterator[Hit]:
    for each in bound(model):
        binding = each.binding
        if binding.role != "tensor" and binding.is_input == is_input != each.known.is_input:
            known = each.view.plan.inputs if is_input else each.view.plan.outputs
            names = ", ".join(tensor.name for tensor in known)
            values = {"tensor": binding.name, "instance": instance_name(model), "names": names}
            yield Hit(binding.path, values, at=binding.at)


def _wire(data_type: str) -> str:
    return data_type.removeprefix("TYPE_").replace("STRING", "BYTES").replace("INVALID", "<invalid>")


def _right_way(model: Model) -> Iterator[Bound]:
    for each in bound(model):
        if each.binding.is_input == each.known.is_input:
            yield each


def _type_conflicts(model: Model, *, is_input: bool) -> Iterator[Hit]:
    for each in _right_way(model):
        binding, known = each.binding, each.known.data_type
        said_before = binding.role == "tensor" and binding.data_type in {*_UNSUPPORTED, "TYPE_INVALID"}
        if binding.is_input == is_input and not said_before and binding.data_type != known:
            values = {
                "known": _wire(known),
                "written": _wire(binding.data_type),
                "tensor": binding.name,
                "instance": instance_name(model),
                "mended": known,
            }
            yield Hit(binding.type_path, values, at=binding.at)


@rule(
    "T35",
    needs="file",
    text="unexpected datatype TYPE_{known} for inference input '{tensor}', expecting TYPE_{written} for {instance}",
    fix="Write {mended}, the plan's type (the server's text names the plan's type first).",
)
def input_type_fits_the_plan(model: Model) -> Iterator[Hit]:
    """An input, a sequence control, a state and a batch input have the data type that they have in the plan."""
    yield from _type_conflicts(model, is_input=True)


@rule(
    "T36",
    needs="file",
    text="unexpected datatype TYPE_{known} for inference output '{tensor}', expecting TYPE_{written} for {instance}",
    fix="Write {mended}, the plan's type (the server's text names the plan's type first).",
)
def output_type_fits_the_plan(model: Model) -> Iterator[Hit]:
    """An output has the data type that it has in the plan."""
    yield from _type_conflicts(model, is_input=False)


def _compared(model: Model) -> Iterator[tuple[Bound, Place, str, bool]]:
    """Yield what the back-end compares shapes of, with the place in order, the path of the dims, and batching."""
    for each in _right_way(model):
        binding = each.binding
        checked_as_control = binding.role == "control" and each.known.is_dynamic
        if binding.role != "batch" and not binding.is_ragged and not checked_as_control:
            yield each, binding.at, binding.dims_path, each.view.served.max_batch_size > 0


@rule(
    "T37",
    needs="file",
    text="model '{model}', tensor '{tensor}': for the model to support batching the shape should have at least 1 "
    "dimension; but shape expected by the model is {shape}",
    fix="Write `max_batch_size: 0`, or build the plan with a batch dimension.",
)
def batched_tensors_have_a_dimension(model: Model) -> Iterator[Hit]:
    """With ``max_batch_size`` above 0 no tensor of the plan is a scalar."""
    for each, at, path, batches in _compared(model):
        if batches and each.known.dims == ():
            yield Hit(path, {"tensor": each.known.name, "shape": "[]"}, at=at)


def _shape_conflicts(model: Model, *, batching: bool) -> Iterator[Hit]:
    for each, at, path, batches in _compared(model):
        known = each.known.dims
        full = (-1, *each.binding.dims) if batches else each.binding.dims
        if batches != batching or (batches and known == ()):
            continue
        if len(known) == len(full) and all(-1 in {a, b} or a == b for a, b in zip(known, full, strict=True)):
            continue
        values = {
            "tensor": each.known.name,
            "known_rank": len(known),
            "known": shown(known),
            "rank": len(full),
            "written": shown(full),
            "mended": shown(known[1:] if batches else known),
        }
        yield Hit(path, values, at=at)


@rule(
    "T38",
    needs="file",
    text="model '{model}', tensor '{tensor}': the model expects {known_rank} dimensions (shape {known}) but the model "
    "configuration specifies {rank} dimensions (an initial batch dimension because max_batch_size > 0 followed by the "
    "explicit tensor shape, making complete shape {written})",
    fix="Write {mended}: the plan's shape without the batch dimension.",
)
def dims_fit_the_batching_plan(model: Model) -> Iterator[Hit]:
    """With a batch dimension in front, ``dims`` (or ``reshape``) fit the plan's shape; -1 on either side fits all."""
    yield from _shape_conflicts(model, batching=True)


@rule(
    "T39",
    needs="file",
    text="model '{model}', tensor '{tensor}': the model expects {known_rank} dimensions (shape {known}) but the model "
    "configuration specifies {rank} dimensions (shape {written})",
    fix="Write {mended}, the plan's full shape. A scalar cannot be served without batching.",
)
def dims_fit_the_plan(model: Model) -> Iterator[Hit]:
    """Without batching, ``dims`` (or ``reshape``) are the plan's full shape, compared as in T38."""
    yield from _shape_conflicts(model, batching=False)


@rule(
    "T40",
    needs="file",
    text="model '{model}', tensor '{tensor}': for the model to support ragged input, the engine shape is: {known} "
    "while the model config shape is: {written}",
    fix="Remove `allow_ragged_batch`, or build the plan with one dimension for this input and write `dims: {known}`.",
)
def ragged_input_has_one_dimension(model: Model) -> Iterator[Hit]:
    """An input with ``allow_ragged_batch`` has one dimension in the plan, and the same in the config."""
    for each in _right_way(model):
        binding, known = each.binding, each.known.dims
        if binding.is_input and binding.is_ragged and (len(known) != 1 or known != binding.dims[:1]):
            values = {"tensor": binding.name, "known": shown(known), "written": shown(binding.dims)}
            yield Hit(f"{binding.path}.allow_ragged_batch", values, at=binding.at)


@rule(
    "T41",
    text="unexpected allow-ragged for non-linear {kind} '{tensor}' for {instance}",
    fix="Remove one of the two: rows are laid end to end in linear formats only.",
)
def ragged_tensors_are_linear(model: Model) -> Iterator[Hit]:
    """A TensorRT input with ``allow_ragged_batch``, or output of a ``batch_output``, has a linear format."""
    scattered = {name for entry in model.config.batch_output for name in entry.target_name}
    for kind, index, tensor in model.tensors() if model.is_tensorrt else ():
        ragged = tensor.allow_ragged_batch if kind == "input" else tensor.name in scattered
        if ragged and tensor.is_non_linear_format_io:
            values = {"kind": kind, "tensor": tensor.name, "instance": instance_name(model)}
            at = next(each.at for each in bindings(model.config) if each.path == f"{kind}[{index}]")
            yield Hit(f"{kind}[{index}].is_non_linear_format_io", values, at=at)


@rule(
    "T42",
    needs="file",
    text="unexpected shape {shape} for control input '{tensor}' for model {model}: {problem}",
    fix="Build the plan with the shape {mended} for this input.",
)
def control_has_one_element(model: Model) -> Iterator[Hit]:
    """A sequence control of dynamic shape is [-1, 1, ...] with batching and [1, ...] without."""
    for each in _right_way(model):
        dims = each.known.dims
        if each.binding.role != "control" or not each.known.is_dynamic:
            continue
        first = -1 if each.view.served.max_batch_size > 0 else 1
        problem = ""
        if dims[0] != first:
            problem = f"expects the first dimension to be {first} but the model specified {dims[0]}"
        elif any(size != 1 for size in dims[1:]):
            problem = (
                f"expects all dimensions (conditionally first) to be 1 but the model specified shape {shown(dims)}"
            )
        if problem != "":
            mended = shown((first, *(1 for _ in dims[1:])))
            values = {"shape": shown(dims), "tensor": each.known.name, "problem": problem, "mended": mended}
            yield Hit(each.binding.path, values, at=each.binding.at)
