"""I: inputs and outputs of the config on their own (``ValidateModelIOConfig``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule

_VARIABLE = -1
_IMAGE_FORMATS = ("FORMAT_NHWC", "FORMAT_NCHW")


def _tensors(model: Model) -> Iterator[tuple[str, str, tuple[int, ...], Message]]:
    """Yield ``(kind, path, place in the server's order, tensor)``."""
    for kind, index, tensor in model.tensors():
        yield kind, f"{kind}[{index}]", (kind == "output", index), tensor


def _final_tensors(model: Model) -> Iterator[tuple[str, str, tuple[int, ...], Message]]:
    """Like ``_tensors``, but only where no back-end may still fill in what is missing."""
    if model.io_is_final or model.is_onnxruntime or (model.is_python and model.served is not None):
        yield from _tensors(model)


@rule("I1", text="model {kind} must specify 'name' for {model}", fix="Give it the tensor's name.")
def tensor_has_a_name(model: Model) -> Iterator[Hit]:
    """Every input and output has a ``name``."""
    for kind, path, at, tensor in _final_tensors(model):
        if tensor.name == "":
            yield Hit(path, {"kind": kind}, at=at)


@rule("I2", text="model {kind} '{tensor}' must specify 'data_type' for {model}", fix="Write its `data_type`.")
def tensor_has_a_type(model: Model) -> Iterator[Hit]:
    """Every input and output has a ``data_type``."""
    for kind, path, at, tensor in _final_tensors(model):
        if enum_name(tensor, "data_type") == "TYPE_INVALID" and tensor.name != "":
            yield Hit(f"{path}.data_type", {"kind": kind, "tensor": tensor.name}, at=at)


@rule(
    "I3",
    text="model {kind} '{tensor}' must specify 'dims' for {model}",
    fix="Write its shape without the batch dimension; for a scalar per batch item `dims: [1]` with an empty `reshape`.",
)
def tensor_has_dims(model: Model) -> Iterator[Hit]:
    """Every input and output has ``dims``; an empty list is none."""
    for kind, path, at, tensor in _final_tensors(model):
        if len(tensor.dims) == 0 and tensor.name != "":
            yield Hit(f"{path}.dims", {"kind": kind, "tensor": tensor.name}, at=at)


@rule(
    "I4",
    text="model {kind} '{tensor}' cannot have empty reshape for non-batching model as scalar tensors are not supported "
    "for {model}",
    fix="Remove `reshape`, or let the model batch (max_batch_size > 0).",
)
def empty_reshape_needs_a_batch(model: Model) -> Iterator[Hit]:
    """An empty ``reshape`` leaves the batch dimension alone, so there must be one."""
    served = model.served
    if served is None or served.max_batch_size != 0:
        return
    for kind, path, at, tensor in _tensors(model):
        if tensor.HasField("reshape") and len(tensor.reshape.shape) == 0:
            yield Hit(f"{path}.reshape", {"kind": kind, "tensor": tensor.name}, at=at)


@rule(
    "I5",
    text="model {kind} '{tensor}' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for "
    "{model}",
    fix="Write a size of at least 1, or -1 for any size.",
)
def dims_are_sizes(model: Model) -> Iterator[Hit]:
    """Every dimension is at least 1, or -1."""
    for kind, path, at, tensor in _tensors(model):
        for index, size in enumerate(tensor.dims):
            if size < 1 and size != _VARIABLE:
                yield Hit(f"{path}.dims[{index}]", {"kind": kind, "tensor": tensor.name}, at=at)
                break


@rule(
    "I6",
    text="model {kind} '{tensor}' reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension "
    "for {model}",
    fix="Write a size of at least 1, or -1 for any size.",
)
def reshape_dims_are_sizes(model: Model) -> Iterator[Hit]:
    """Every dimension of ``reshape`` is at least 1, or -1."""
    for kind, path, at, tensor in _tensors(model):
        for index, size in enumerate(tensor.reshape.shape):
            if size < 1 and size != _VARIABLE:
                yield Hit(f"{path}.reshape.shape[{index}]", {"kind": kind, "tensor": tensor.name}, at=at)
                break


def _reshaped(model: Model) -> Iterator[tuple[str, str, tuple[int, ...], Message, list[int], list[int]]]:
    """Yield tensors whose dims and reshape are both well formed, with the elements of each run between -1s."""
    for kind, path, at, tensor in _tensors(model):
        sizes = [*tensor.dims, *tensor.reshape.shape]
        if tensor.HasField("reshape") and len(tensor.dims) > 0 and all(size >= 1 or size == -1 for size in sizes):
            yield kind, path, at, tensor, _runs(tensor.dims), _runs(tensor.reshape.shape)


def _runs(dims: Sequence[int]) -> list[int]:
    runs = [1]
    for size in dims:
        if size == _VARIABLE:
            runs.append(1)
        else:
            runs[-1] *= size
    return runs


@rule(
    "I7",
    text="model {kind} '{tensor}' has different size for dims and reshape for {model}",
    fix="dims holds {dims} elements and reshape {reshape}: make them equal, between every two -1 as well.",
)
def reshape_keeps_the_size(model: Model) -> Iterator[Hit]:
    """``reshape`` has as many elements as ``dims``; with -1, each run between two of them has."""
    for kind, path, at, tensor, dims, reshape in _reshaped(model):
        one_is_fixed = (len(dims) == 1) != (len(reshape) == 1)
        if one_is_fixed or (len(dims) == len(reshape) and dims != reshape):
            values = {"kind": kind, "tensor": tensor.name, "dims": _count(dims), "reshape": _count(reshape)}
            yield Hit(f"{path}.reshape", values, at=at)


def _count(runs: list[int]) -> str:
    return f"{math.prod(runs)}" if len(runs) == 1 else " and ".join(str(run) for run in runs) + " (between the -1)"


@rule(
    "I8",
    text="model {kind} '{tensor}' has different number of variable-size dimensions for dims and reshape for {model}",
    fix="Write as many -1 in `reshape` as in `dims`.",
)
def reshape_keeps_variable_dims(model: Model) -> Iterator[Hit]:
    """``reshape`` has as many -1 as ``dims``."""
    for kind, path, at, tensor, dims, reshape in _reshaped(model):
        if len(dims) != len(reshape) and 1 not in {len(dims), len(reshape)}:
            yield Hit(f"{path}.reshape", {"kind": kind, "tensor": tensor.name}, at=at)


@rule(
    "I9",
    text="model input NHWC/NCHW require 3 dims for {model}",
    fix="Remove `format`: it transposes nothing, it only checks the number of dims.",
)
def image_format_has_three_dims(model: Model) -> Iterator[Hit]:
    """An input with ``format: FORMAT_NHWC`` or ``FORMAT_NCHW`` has three ``dims``."""
    for kind, path, at, tensor in _tensors(model):
        if kind == "input" and enum_name(tensor, "format") in _IMAGE_FORMATS and 0 != len(tensor.dims) != 3:
            yield Hit(f"{path}.format", at=at)


@rule(
    "I10",
    text="shape tensors are only supported for TensorRT platform for {model}",
    fix="Remove `is_shape_tensor`.",
)
def shape_tensor_is_for_tensorrt(model: Model) -> Iterator[Hit]:
    """Only a TensorRT plan has shape tensors."""
    for _, path, at, tensor in _tensors(model):
        if tensor.is_shape_tensor and model.config.platform != "tensorrt_plan":
            yield Hit(f"{path}.is_shape_tensor", at=at)


@rule(
    "I11",
    text="Non-linear IO format is only supported for the TensorRT platform for {model}",
    fix="Remove `is_non_linear_format_io`.",
)
def non_linear_format_is_for_tensorrt(model: Model) -> Iterator[Hit]:
    """Only a TensorRT plan has tensors of a non-linear format."""
    for _, path, at, tensor in _tensors(model):
        if tensor.is_non_linear_format_io and model.config.platform != "tensorrt_plan":
            yield Hit(f"{path}.is_non_linear_format_io", at=at)


@rule(
    "I12",
    text="Non-linear IO format {kind} requires 3 dims for {model}",
    fix="Write three `dims`, or remove `is_non_linear_format_io`.",
)
def non_linear_format_has_three_dims(model: Model) -> Iterator[Hit]:
    """A tensor of a non-linear format has three ``dims``."""
    for kind, path, at, tensor in _tensors(model):
        if tensor.is_non_linear_format_io and model.config.platform == "tensorrt_plan" and 0 != len(tensor.dims) != 3:
            yield Hit(f"{path}.is_non_linear_format_io", {"kind": kind}, at=at)
