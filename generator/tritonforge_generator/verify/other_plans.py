"""Gates of plans that were built elsewhere, for GPUs of other compute capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tritonforge_generator.errors import TritonforgeError
from tritonforge_generator.plan import Plan, plan_header_from_path
from tritonforge_generator.verify.verification import Check, skipped_check


def other_plans_checks(files: Mapping[str, Path], plan: Plan, *, version_compatible: bool) -> list[Check]:
    """Look at plans for other GPUs beside the one that was built here.

    Their headers are read: one server loads them all, so one TensorRT must have built them all. What they answer can
    be seen on such GPUs only.

    Args:
        files: By compute capability, the plan.
        plan: The plan that was built here.
        version_compatible: Whether the plan here is one that newer TensorRT loads.
    """
    if not files:
        return []
    problems = [_objection(key, path, plan, version_compatible=version_compatible) for key, path in files.items()]
    found = "; ".join(problem for problem in problems if problem != "")
    name = "plans for other GPUs fit the same server"
    if found != "":
        return [Check(name=name, passed=False, summary=found)]
    listed = ", ".join(sorted(files))
    summary = f"complete headers of TensorRT {plan.tensorrt_version}, for {listed}"
    reason = f"needs GPUs of compute capability {listed}; this one has {plan.gpu.compute_capability}"
    return [Check(name=name, passed=True, summary=summary), skipped_check("plans for other GPUs answer alike", reason)]


def _objection(key: str, path: Path, plan: Plan, *, version_compatible: bool) -> str:
    if key == plan.gpu.compute_capability:
        return f"'{key}' is this GPU's, for which a plan was built just now: leave {path.name} out"
    try:
        header = plan_header_from_path(path)
        built = plan_header_from_path(plan.path)
    except TritonforgeError as error:
        return str(error)
    if header.prefix_bytes > 0:
        return f"{path.name} has {header.prefix_bytes} bytes in front of the plan, which TensorRT does not expect"
    if header.tensorrt_version != built.tensorrt_version and not version_compatible:
        return f"{path.name} was built by TensorRT {header.version_text}, the plan here by {built.version_text}"
    return ""
