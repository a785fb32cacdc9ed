"""T: batches and optimisation profiles of TensorRT plans, and what the back-end says while it completes a config.

Source: ``AutoCompleteConfigHelper`` in the back-end's ``model_state.cc``; ``InitOptimizationProfiles`` and
``ConfigureInputDimensions`` in its ``instance_state.cc``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.plan_completion import batch_hints, batch_limit, largest_batch, profile_index
from tritonforge_generator.lint.plan_io import PlanIo, ShapeBounds
from tritonforge_generator.lint.plan_view import Bound, bound, groups, known_plans, shown
from tritonforge_generator.lint.rule import Hit, rule


def _completed_plans(model: Model) -> Iterator[PlanIo]:
    if model.completes_plan:
        yield from known_plans(model)


@rule(
    "T5",
    needs="file",
    text="unable to autofill for '{model}', model tensor configurations are contradicting each other in terms of "
    "whether batching is supported",
    fix="Write every shape without the batch dimension, or every one with it and `max_batch_size: 0`.",
)
def shapes_agree_about_batching(model: Model) -> Iterator[Hit]:
    """While completing, no tensor is written in the plan's full shape after one without its first dimension.

    The other way round the server takes the model to batch, and refuses the full shape later (T38).
    """
    for plan in _completed_plans(model):
        found = batch_hints(model.config, plan).contradiction
        if found is not None:
            kind, index = found
            yield Hit(f"{kind}[{index}].dims", at=(kind == "output", index))


@rule(
    "T9",
    needs="file",
    text="unable to autofill for '{model}', configuration specified invalid profile {profile} . Number of profiles "
    "supported by TensorRT engine: {count}",
    fix="Name profiles from 0 to {last}.",
)
def completed_profile_exists(model: Model) -> Iterator[Hit]:
    """While completing, every ``profile`` that an instance group names is in the plan."""
    for plan in _completed_plans(model):
        for index, group in enumerate(model.config.instance_group):
            for place, profile in enumerate(group.profile):
                number = profile_index(profile)
                if number is not None and number >= len(plan.profiles):
                    values = {"profile": profile, "count": len(plan.profiles), "last": len(plan.profiles) - 1}
                    yield Hit(f"instance_group[{index}].profile[{place}]", values, at=(index, place))


@rule(
    "T6",
    needs="file",
    text="autofill failed for model '{model}': model tensor shape configuration hints for dynamic batching but the "
    "underlying engine doesn't support batching.",
    fix="Write full shapes and `max_batch_size: 0`, or build the plan with a batch dimension.",
)
def hinted_plan_batches(model: Model) -> Iterator[Hit]:
    """While completing, shapes without the plan's first dimension need a plan that takes at least one row."""
    for plan in _completed_plans(model):
        hints = batch_hints(model.config, plan)
        if hints.contradiction is None and hints.batches and largest_batch(model.config, plan) == 0:
            yield Hit("input[0].dims")


@rule(
    "T7",
    needs="file",
    severity="warning",
    text="The specified dimensions in model config for {model} hints that batching is unavailable",
    fix="Leave the first dimension out of `dims` and write `max_batch_size`, if requests are to be batched.",
)
def plan_that_batches_is_batched(model: Model) -> Iterator[Hit]:
    """While completing, shapes written in full turn batching off, although the plan takes batches of any size.

    The server says so of every plan whose shapes are written in full; here only of those that could batch.
    """
    for plan in _completed_plans(model):
        hints = batch_hints(model.config, plan)
        batches = len(plan.inputs) > 0 and all(tensor.dims[:1] == (-1,) for tensor in plan.inputs)
        if hints.are_given and not hints.batches and batches and model.config.max_batch_size == 0:
            yield Hit("max_batch_size")


@rule(
    "T8",
    needs="file",
    text="autofill failed for model '{model}': configuration specified max-batch {written} but TensorRT engine only "
    "supports max-batch {limit}",
    fix="Write `max_batch_size: {limit}`, or build the plan with a profile for larger batches.",
)
def batch_fits_the_profiles(model: Model) -> Iterator[Hit]:
    """While completing, ``max_batch_size`` is not above what any of the profiles in use takes for every input.

    When no instance group names profiles, only the first is in use. Shapes that are written in full count as a plan
    that does not batch.
    """
    for plan in _completed_plans(model):
        limit = batch_limit(model.config, plan)
        contradicted = batch_hints(model.config, plan).contradiction is not None
        if limit is not None and not contradicted and model.config.max_batch_size > limit:
            yield Hit("max_batch_size", {"written": model.config.max_batch_size, "limit": limit})


@rule(
    "T21",
    needs="file",
    text="Can not set the specified optimization profile {profile}[{number}] for {instance}. Expected optimization "
    "profile index range 0-{last}",
    fix="Name profiles from 0 to {last}.",
)
def profile_exists(model: Model) -> Iterator[Hit]:
    """Every ``profile`` that an instance group names is in the plan; a completing server says T9 instead."""
    for plan in known_plans(model) if not model.completes_plan else ():
        for group in groups(model):
            for place, (profile, number) in enumerate(group.profiles):
                if number >= len(plan.profiles):
                    values = {
                        "profile": profile,
                        "number": number,
                        "instance": group.instance,
                        "last": len(plan.profiles) - 1,
                    }
                    yield Hit(f"{group.path}.profile", values, at=(group.index, place))


@rule(
    "T22",
    severity="warning",
    text="{profile} maps to profile index {number} which has been mapped by {other}, existing optimization profile "
    "will be reused",
    fix="Remove one of the two.",
)
def profiles_differ(model: Model) -> Iterator[Hit]:
    """An instance group of a TensorRT model does not write one profile in two ways, such as ``"1"`` and ``"01"``."""
    for group in groups(model) if model.is_tensorrt else ():
        seen: dict[int, str] = {}
        for place, (profile, number) in enumerate(group.profiles):
            if number in seen:
                values = {"profile": profile, "number": number, "other": seen[number]}
                yield Hit(f"{group.path}.profile", values, at=(group.index, place))
            seen.setdefault(number, profile)


@rule(
    "T44",
    needs="file",
    text="model configuration specified invalid shape for input '{tensor}' for model {model}. Error details: {problem}",
    fix="Write sizes that the profile takes, from {low} to {high}, or -1 for all of them.",
)
def dims_lie_within_the_profile(model: Model) -> Iterator[Hit]:
    """A size that the config fixes and the plan leaves open lies within every profile of the instance group."""
    for each in bound(model):
        binding = each.binding
        if not binding.is_input or binding.is_ragged or binding.role == "batch":
            continue
        dims = (-1, *binding.dims) if each.view.served.max_batch_size > 0 else binding.dims
        for group in groups(model):
            for _, number in group.profiles:
                profiles = each.view.plan.profiles
                bounds = profiles[number].get(binding.name) if 0 <= number < len(profiles) else None
                problem = "" if bounds is None else _objection(each, dims, bounds)
                if bounds is not None and problem != "":
                    low, high = shown(bounds.min), shown(bounds.max)
                    values = {"tensor": binding.name, "problem": problem, "low": low, "high": high}
                    yield Hit(binding.dims_path, values, at=binding.at)


def _objection(each: Bound, dims: Sequence[int], bounds: ShapeBounds) -> str:
    """Why a profile does not take the config's shape, in the server's words; empty when it does, or T38 says it."""
    known = each.known.dims
    if len(bounds.min) != len(dims):
        is_checked_here = each.binding.role == "control" and each.known.is_dynamic
        text = f"model expected {len(bounds.min)} dimensions but received {len(dims)} dimensions"
        return text if is_checked_here else ""
    for place, (low, size, high) in enumerate(zip(bounds.min, dims, bounds.max, strict=True)):
        if size != -1 and known[place : place + 1] == (-1,) and not low <= size <= high:
            return f"model expected the shape of dimension {place} to be between {low} and {high} but received {size}"
    return ""
