"""Gates of a plan: what was built, where it fits, and that it answers like the FP32 graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tritonforge_generator.graph.session import Session
from tritonforge_generator.plan import (
    Engine,
    Plan,
    Runner,
    ShapeRange,
    objection_of_release,
    plan_header_from_path,
)
from tritonforge_generator.plan.containers import tensorrt_of_release
from tritonforge_generator.plan.tensorrt_api import load_plugins
from tritonforge_generator.spec import InstanceGroup, ModelOptions
from tritonforge_generator.verify.gates import batch_check, batch_sizes
from tritonforge_generator.verify.reference import Reference, reference_from_path
from tritonforge_generator.verify.typed import precision_check
from tritonforge_generator.verify.verification import Check


def plan_checks(
    plan: Plan, source: Path, reference: Reference, options: ModelOptions, *, max_batch_size: int, server: str | None
) -> list[Check]:
    """Run every gate of a plan that needs no server.

    Args:
        plan: The plan.
        source: The FP32 graph's file.
        reference: The FP32 graph's answers, in the plan's types.
        options: What the user declared.
        max_batch_size: As configured; 0 for shapes in full.
        server: The Triton release that will serve.
    """
    checks = facts_checks(plan, options, max_batch_size=max_batch_size)
    if server is not None:
        checks.append(server_check(plan.path, server, version_compatible=options.tensorrt.version_compatible))
    precision = options.plan_precision
    load_plugins(options.tensorrt.plugins)
    with Engine(plan.path, plan.gpu.device_id) as engine:
        for index, ranges in enumerate(engine.profiles):
            within = _reference_within(ranges, reference, plan, source, options)
            judge = partial(precision_check, within, options=precision, name="the plan answers like the FP32 graph")
            checks += profile_checks(engine, index, within, judge, max_batch_size=max_batch_size)
    return checks


def facts_checks(plan: Plan, options: ModelOptions, *, max_batch_size: int) -> list[Check]:
    """Run the gates that need no more than the facts of a plan.

    Args:
        plan: The plan.
        options: What the user declared.
        max_batch_size: As configured; 0 for shapes in full.
    """
    checks = [
        Check(name="the plan computes in what was asked", passed=plan.proof.passed, summary=plan.proof.summary),
        instances_check(plan, options.instance_group, max_batch_size=max_batch_size),
    ]
    if checks[-1].passed:  # then every profile that is asked for exists
        checks.append(memory_check(plan, options.instance_group))
    return checks


def _reference_within(
    ranges: Mapping[str, ShapeRange], reference: Reference, plan: Plan, source: Path, options: ModelOptions
) -> Reference:
    """The reference, or one on samples of the profile's own shape where it takes no others."""
    shapes = reference.sample_shapes
    if reference.batched:
        shapes = {name: (ranges[name].min[0], *shape) for name, shape in shapes.items()}
    if all(one.holds(shapes[name]) for name, one in ranges.items()):
        return reference
    rows = 1 if reference.batched else 0
    drawn = options.verify.model_copy(
        update={"samples": None, "shapes": {name: one.opt[rows:] for name, one in ranges.items()}}
    )
    other = reference_from_path(source, drawn, batched=reference.batched).in_types(plan_datatypes(plan))
    return replace(other, tolerance=reference.tolerance, default_tolerance=reference.default_tolerance)


def profile_checks(
    engine: Engine, profile: int, reference: Reference, judge: Callable[[Session], Check], *, max_batch_size: int
) -> list[Check]:
    """Prove what one profile answers: to single rows where it takes them, and in batches.

    Args:
        engine: The loaded plan.
        profile: Number of the profile.
        reference: The right answers to samples that the profile takes.
        judge: The gate of the answers to single samples.
        max_batch_size: As configured; 0 for shapes in full.
    """
    checks = []
    low, high = _rows(engine.profiles[profile]) if max_batch_size > 0 else (1, 1)
    with Runner(engine, profiles=(profile,)) as runner:
        if low == 1:
            checks.append(judge(runner))
        if max_batch_size > 0:
            sizes = sorted({size for size in (*batch_sizes(max_batch_size), low, high) if low <= size <= high})
            checks.append(batch_check(reference, runner, max_batch_size=max_batch_size, sizes=sizes))
    several = f" (profile {profile})" if len(engine.profiles) > 1 else ""
    return [replace(check, name=check.name + several) for check in checks]


def _rows(ranges: Mapping[str, ShapeRange]) -> tuple[int, int]:
    """The smallest and the largest batch of a profile."""
    return max(one.min[0] for one in ranges.values()), min(one.max[0] for one in ranges.values())


def instances_check(plan: Plan, groups: Sequence[InstanceGroup], *, max_batch_size: int) -> Check:
    """Check that the instances of every group can run whatever the server sends them.

    A batch may go to any instance, so each group's profiles must hold all sizes.
    """
    name = "every instance takes every batch"
    for group in groups:
        profiles = group.profile or range(len(plan.profiles))
        missing = [index for index in profiles if index >= len(plan.profiles)]
        if missing:
            summary = f"instance_group asks for profile {missing[0]}, the plan has {len(plan.profiles)}"
            return Check(name=name, passed=False, summary=summary)
        held = [_rows(plan.profiles[index]) for index in profiles] if max_batch_size > 0 else []
        for size in range(1, max_batch_size + 1):
            if not any(low <= size <= high for low, high in held):
                asked = ", ".join(str(index) for index in profiles)
                summary = f"no profile of an instance_group (profile: {asked}) holds {size} rows"
                return Check(name=name, passed=False, summary=summary)
    return Check(name=name, passed=True, summary="with the profiles of its instance group")


def memory_check(plan: Plan, groups: Sequence[InstanceGroup]) -> Check:
    """Check that all instances of a plan fit a GPU like the one that built it.

    Every instance of the embedded server is a process with two batches in flight, each with the weights and a context
    for each of its profiles. The C++ backend takes less, as its instances share the weights.
    """

    def taken(group: InstanceGroup) -> int:
        profiles = group.profile or range(len(plan.profiles))
        return group.count * 2 * (plan.size_bytes + sum(plan.device_memory_bytes[index] for index in profiles))

    gpus = {plan.gpu.device_id}.union(*(group.gpus for group in groups))
    placed = [[group for group in groups if not group.gpus or gpu in group.gpus] for gpu in sorted(gpus)]
    fullest = max(placed, key=lambda one: sum(map(taken, one)))
    needed = sum(map(taken, fullest))
    instances = sum(group.count for group in fullest)
    total = plan.gpu.memory_bytes
    summary = f"{instances} instances take {needed / 1e9:.2f} GB of {total / 1e9:.1f} GB"
    return Check(name="all instances fit the GPU's memory", passed=needed <= total, summary=summary)


def server_check(path: Path, server: str, *, version_compatible: bool) -> Check:
    """Check a plan's TensorRT version against the one of a Triton release."""
    header = plan_header_from_path(path)
    objection = objection_of_release(server, header.tensorrt_version, version_compatible=version_compatible)
    known = tensorrt_of_release(server)
    passed = f"TensorRT {header.version_text} fits the {known} of Triton {server}, as far as that is known"
    return Check(name="the server's TensorRT loads the plan", passed=objection == "", summary=objection or passed)


def plan_datatypes(plan: Plan) -> Mapping[str, str]:
    """Triton's type of every tensor of a plan."""
    return {tensor.name: tensor.datatype for tensor in plan.tensors}
