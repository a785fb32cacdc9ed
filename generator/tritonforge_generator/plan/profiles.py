"""Optimisation profiles: the shapes that a plan is built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from tritonforge_generator.errors import PlanError
from tritonforge_generator.graph import GraphTensor
from tritonforge_generator.spec import ProfileShapes, TensorRTOptions

Profile: TypeAlias = Mapping[str, ProfileShapes]


def profiles_from_options(
    inputs: Sequence[GraphTensor],
    options: TensorRTOptions,
    *,
    max_batch_size: int,
    opt_batch_size: int,
    sample_shapes: Mapping[str, Sequence[int]],
) -> tuple[Profile, ...]:
    """The profiles of a plan: those declared, or one from 1 to ``max_batch_size``.

    Args:
        inputs: The graph's inputs.
        options: What the user declared.
        max_batch_size: As configured; 0 for shapes in full.
        opt_batch_size: The batch that tactics are timed with, unless the options say another.
        sample_shapes: By input, the shape of one sample without a batch axis, when the user gave samples or shapes;
            dynamic axes that it does not settle must be declared.

    Returns:
        Each profile with the shapes of every input, static ones too.

    Raises:
        PlanError: A profile is outside what the graph or ``max_batch_size`` allows, or an axis is open.
    """
    if not options.profiles:
        opt = options.opt_batch_size or opt_batch_size
        return ({tensor.name: _derived(tensor, max_batch_size, opt, sample_shapes) for tensor in inputs},)
    profiles = tuple(
        _completed(index, declared, inputs, max_batch_size) for index, declared in enumerate(options.profiles)
    )
    if max_batch_size > 0:
        _check_reach(profiles, max_batch_size)
    return profiles


def _derived(
    tensor: GraphTensor, max_batch_size: int, opt_batch_size: int, sample_shapes: Mapping[str, Sequence[int]]
) -> ProfileShapes:
    batched = max_batch_size > 0
    dims = tensor.dims(batched=batched)
    known = sample_shapes.get(tensor.name)
    if -1 in dims:
        axis = dims.index(-1) + int(batched)
        if known is None:
            raise PlanError(
                f"axis {axis} of input '{tensor.name}' is dynamic, so its range must be declared",
                expected="tensorrt.profiles with min, opt and max of this input",
                got=f"shape {list(tensor.shape)}",
                action="Declare a profile, or fix the size with verify.shapes.",
            )
        dims = tuple(known)
    if not batched:
        return ProfileShapes(min=dims, opt=dims, max=dims)
    opt = min(opt_batch_size, max_batch_size)
    return ProfileShapes(min=(1, *dims), opt=(opt, *dims), max=(max_batch_size, *dims))


def _completed(
    index: int, declared: Mapping[str, ProfileShapes], inputs: Sequence[GraphTensor], max_batch_size: int
) -> Profile:
    names = {tensor.name for tensor in inputs}
    unknown = sorted(set(declared) - names)
    if unknown:
        raise PlanError(
            f"profile {index} names an input that the graph lacks",
            expected=", ".join(sorted(names)),
            got=", ".join(unknown),
        )
    profile = {}
    for tensor in inputs:
        shapes = declared.get(tensor.name)
        if shapes is None:
            if any(not isinstance(size, int) for size in tensor.shape):
                raise PlanError(
                    f"profile {index} leaves out input '{tensor.name}'",
                    expected="min, opt and max of every input with dynamic axes",
                    got=f"shape {list(tensor.shape)}",
                )
            static = tuple(size for size in tensor.shape if isinstance(size, int))
            shapes = ProfileShapes(min=static, opt=static, max=static)
        _check(index, tensor, shapes, max_batch_size)
        profile[tensor.name] = shapes
    return profile


def _check(index: int, tensor: GraphTensor, shapes: ProfileShapes, max_batch_size: int) -> None:
    if len(shapes.min) != len(tensor.shape):
        raise PlanError(
            f"profile {index} of input '{tensor.name}' has the wrong number of axes",
            expected=f"{len(tensor.shape)}, the batch included",
            got=str(list(shapes.min)),
        )
    for axis, size in enumerate(tensor.shape):
        if isinstance(size, int) and {shapes.min[axis], shapes.opt[axis], shapes.max[axis]} != {size}:
            raise PlanError(
                f"profile {index} of input '{tensor.name}' is outside what the graph allows",
                expected=f"{size} on axis {axis}, which is fixed in the graph",
                got=f"{shapes.min[axis]} to {shapes.max[axis]}",
                action="Change the profile, or export the model with that axis dynamic.",
            )
    if max_batch_size > 0 and shapes.max[0] > max_batch_size:
        raise PlanError(
            f"profile {index} of input '{tensor.name}' is above max_batch_size",
            expected=f"at most {max_batch_size} rows",
            got=str(shapes.max[0]),
            action="Raise max_batch_size, or lower the profile.",
        )


def _check_reach(profiles: Sequence[Profile], max_batch_size: int) -> None:
    """Every batch from 1 to ``max_batch_size`` must be inside some profile."""
    ranges = sorted(
        (max(shapes.min[0] for shapes in profile.values()), min(shapes.max[0] for shapes in profile.values()))
        for profile in profiles
    )
    reached = 0
    for low, high in ranges:
        if low > reached + 1:
            break
        reached = max(reached, high)
    if reached < max_batch_size:
        raise PlanError(
            "the profiles do not cover every batch size",
            expected=f"1 to {max_batch_size} (max_batch_size)",
            got=f"no profile for {reached + 1} rows",
            action="Widen a profile, or lower max_batch_size.",
        )
