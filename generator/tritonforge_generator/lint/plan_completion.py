"""What the TensorRT back-end fills in before the server checks inputs and outputs.

Source: ``AutoCompleteConfigHelper``, ``ExtractBatchHintFromIOConfig``, ``GetMaxSupportedBatchSize``, ``GetRefIO`` and
``FixIO`` in the back-end's ``model_state.cc``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge_generator.lint.plan_io import PlanIo, PlanTensor
from tritonforge_generator.lint.proto import Message, ModelConfig, schema

_NUMBER: Final = re.compile(r"\s*([+-]?\d+)")


def profile_index(text: str) -> int | None:
    """Read the index of a profile as ``std::stoi`` does; ``None`` when it does not begin with a number."""
    match = _NUMBER.match(text)
    return None if match is None else int(match.group(1))


def profiles_in_use(config: ModelConfig) -> tuple[int, ...]:
    """Return the indices of the profiles that any instance group names; without any, the first is used."""
    named = {profile_index(profile) for group in config.instance_group for profile in group.profile}
    return tuple(sorted(index for index in named if index is not None)) or (0,)


def shape_of(tensor: Message) -> tuple[int, ...]:
    """Return the dims of a tensor that its model sees: those after ``reshape``."""
    return tuple(tensor.reshape.shape) if tensor.HasField("reshape") else tuple(tensor.dims)


@dataclass(frozen=True, slots=True)
class BatchHints:
    """What the config's shapes say about batching.

    Attributes:
        batches: Whether a tensor is written without the plan's first dimension, or is ragged.
        are_given: Whether any tensor has a shape.
        contradiction: Kind and index of a tensor that is written in full after one that is not.
    """

    batches: bool
    are_given: bool
    contradiction: tuple[str, int] | None


def batch_hints(config: ModelConfig, plan: PlanIo) -> BatchHints:
    """Compare the config's shapes with the plan's, in the back-end's order: it stops at a ragged tensor."""
    batches, are_given = False, False
    for kind in ("input", "output"):
        for index, tensor in enumerate(getattr(config, kind)):
            if kind == "input" and tensor.allow_ragged_batch:
                return BatchHints(True, are_given, None)
            dims = shape_of(tensor)
            known = plan.find(tensor.name)
            are_given = are_given or len(dims) > 0
            if len(dims) == 0 or known is None:
                continue
            hint = _leaves_batch_out(known, dims)
            if batches and not hint:
                return BatchHints(True, True, (kind, index))
            batches = batches or hint
    return BatchHints(batches, are_given, None)


def _leaves_batch_out(known: PlanTensor, dims: Sequence[int]) -> bool:
    if known.is_shape_tensor:
        return known.dims[:1] == (dims[0] + 1,)
    return len(known.dims) == len(dims) + 1


def largest_batch(config: ModelConfig, plan: PlanIo) -> int | None:
    """Return the largest batch of the profiles in use; ``None`` when it cannot be told.

    It is what the back-end takes for it: the smallest first dimension of any input at the profile's largest shapes, a
    fixed one too.
    """
    largest = 0
    for index in profiles_in_use(config):
        if not 0 <= index < len(plan.profiles):
            return None
        bounds = [plan.profiles[index].get(tensor.name) for tensor in plan.inputs]
        if not bounds or any(each is None or each.max == () for each in bounds):
            return None
        largest = max(largest, min(each.max[0] for each in bounds if each is not None))
    return largest


def batch_limit(config: ModelConfig, plan: PlanIo) -> int | None:
    """Return the batch size that the back-end allows: none when the config writes all shapes in full."""
    hints = batch_hints(config, plan)
    return 0 if hints.are_given and not hints.batches else largest_batch(config, plan)


def completed_by_tensorrt(config: ModelConfig, plan: PlanIo) -> ModelConfig | None:
    """Return the config as the back-end completes it; ``None`` when the plan does not tell.

    Args:
        config: Left as it is.
        plan: The plan.
    """
    limit = batch_limit(config, plan)
    if limit is None:
        return None
    served = schema().ModelConfig()
    served.CopyFrom(config)
    if served.max_batch_size == 0:
        served.max_batch_size = limit
    if limit > 1 and served.WhichOneof("scheduling_choice") is None:
        served.dynamic_batching.SetInParent()
    for existing, tensors in ((served.input, plan.inputs), (served.output, plan.outputs)):
        references = [_reference(tensor, batches=served.max_batch_size != 0) for tensor in tensors]
        if len(existing) == 0:
            for reference in references:
                _fix(existing.add(name=reference.name), reference)
            continue
        by_name = {reference.name: reference for reference in references}
        for tensor in existing:
            if tensor.name in by_name:
                _fix(tensor, by_name[tensor.name])
    return served


def _reference(tensor: PlanTensor, *, batches: bool) -> Message:
    """Describe a tensor of the plan as an input of the config."""
    found = schema().ModelInput(
        name=tensor.name.partition(" ")[0],
        data_type=tensor.data_type,
        is_shape_tensor=bool(tensor.is_shape_tensor),
        is_non_linear_format_io=not tensor.is_linear,
    )
    if tensor.is_shape_tensor:
        found.dims.extend(size - batches for size in tensor.dims[:1])
        return found
    found.dims.extend(tensor.dims[batches:])
    if len(found.dims) == 0:
        found.dims.append(1)
        found.reshape.SetInParent()
    return found


def _fix(tensor: Message, reference: Message) -> None:
    """Fill in what a tensor of the config leaves out."""
    if tensor.data_type == 0:
        tensor.data_type = reference.data_type
    if len(tensor.dims) == 0:
        tensor.dims.extend(reference.dims)
        if reference.HasField("reshape"):
            tensor.reshape.SetInParent()
    tensor.is_shape_tensor = tensor.is_shape_tensor or reference.is_shape_tensor
    tensor.is_non_linear_format_io = tensor.is_non_linear_format_io or reference.is_non_linear_format_io
