"""Gates of a plan: what was built, where it fits, and that it answers like the FP32 graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tritonforge_generator.plan import Engine, Plan, Runner, objection_of_release, plan_header_from_path
from tritonforge_generator.plan.containers import tensorrt_of_release
from tritonforge_generator.spec import InstanceGroup, ModelOptions, PrecisionOptions
from tritonforge_generator.verify.gates import batch_check, batch_sizes
from tritonforge_generator.verify.reference import Reference
from tritonforge_generator.verify.typed import precision_check
from tritonforge_generator.verify.verification import Check


def plan_checks(
    plan: Plan, reference: Reference, options: ModelOptions, *, max_batch_size: int, server: str | None
) -> list[Check]:
    """Run every gate of a plan that needs no server.

    Args:
        plan: The plan.
        reference: The FP32 graph's answers, in the plan's types.
        options: What the user declared.
        max_batch_size: As configured; 0 for shapes in full.
        server: The Triton release that will serve.
    """
    checks = [
        Check(name="the plan computes in what was asked", passed=plan.proof.passed, summary=plan.proof.summary),
        memory_check(plan, options.instance_group),
    ]
    if server is not None:
        checks.append(server_check(plan.path, server, version_compatible=options.tensorrt.version_compatible))
    precision = options.precision_options or PrecisionOptions()
    with Engine(plan.path, plan.gpu.device_id) as engine:
        with Runner(engine) as runner:
            checks.append(precision_check(reference, runner, precision, "the plan answers like the FP32 graph"))
        if max_batch_size > 0:
            checks += [
                _profile_check(engine, index, reference, max_batch_size) for index in range(len(engine.profiles))
            ]
    return checks


def _profile_check(engine: Engine, profile: int, reference: Reference, max_batch_size: int) -> Check:
    ranges = engine.profiles[profile].values()
    low, high = max(one.min[0] for one in ranges), min(one.max[0] for one in ranges)
    sizes = sorted({size for size in (*batch_sizes(max_batch_size), high) if low <= size <= high})
    with Runner(engine, profiles=(profile,)) as runner:
        check = batch_check(reference, runner, max_batch_size=max_batch_size, sizes=sizes)
    several = f" (profile {profile})" if len(engine.profiles) > 1 else ""
    return Check(name=check.name + several, passed=check.passed, summary=check.summary, figures=check.figures)


def memory_check(plan: Plan, groups: Sequence[InstanceGroup]) -> Check:
    """Check that all instances of a plan fit the GPU that built it.

    Every instance of the embedded server is a process with two batches in flight, each with the weights and a context
    for each of its profiles. The C++ backend takes less, as its instances share the weights.
    """
    name = "all instances fit the GPU's memory"
    needed = 0
    instances = 0
    for group in groups:
        profiles = group.profile or range(len(plan.profiles))
        missing = [index for index in profiles if index >= len(plan.profiles)]
        if missing:
            summary = f"instance_group asks for profile {missing[0]}, the plan has {len(plan.profiles)}"
            return Check(name=name, passed=False, summary=summary)
        contexts = sum(plan.device_memory_bytes[index] for index in profiles)
        needed += 2 * group.count * (plan.size_bytes + contexts)
        instances += group.count
    total = plan.gpu.memory_bytes
    summary = f"{instances} instances take {needed / 1e9:.2f} GB of {total / 1e9:.1f} GB"
    return Check(name=name, passed=needed <= total, summary=summary)


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
