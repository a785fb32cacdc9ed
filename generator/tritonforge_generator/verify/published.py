"""Gates of a plan that is there already: its header, where it runs, and that it answers like itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tritonforge_generator.errors import RepositoryError, SourceError
from tritonforge_generator.graph import GraphTensor, Samples
from tritonforge_generator.graph.samples import samples_from_options
from tritonforge_generator.graph.session import Session
from tritonforge_generator.plan import Engine, Plan, Runner, ShapeRange, plan_header_from_path, tensorrt_api
from tritonforge_generator.plan.cuda import Gpu
from tritonforge_generator.plan.facts import engine_facts_from_path
from tritonforge_generator.plan.layers import PrecisionProof
from tritonforge_generator.plan.plan import TimingCacheUse
from tritonforge_generator.spec import ModelOptions, TensorRTOptions, VerifyOptions
from tritonforge_generator.verify.gates import reference_check
from tritonforge_generator.verify.plan_gates import facts_checks, profile_checks
from tritonforge_generator.verify.reference import Reference, reference_from_session, sample_options
from tritonforge_generator.verify.verification import Check, skipped_check


def own_reference_check(reference: Reference, session: Session) -> Check:
    """Compare a model with what it answered before, where no other model says what is right.

    Args:
        reference: Its own answers.
        session: The model.
    """
    check = reference_check(reference, session)
    return replace(check, name="the model repeats its answers")


# ---- the header ----


def header_check(path: Path, recorded: Mapping[str, Any]) -> Check:
    """Check that a file begins like the plan that was published.

    Args:
        path: The plan.
        recorded: What the manifest says of it.
    """
    name = "the plan's header is the recorded one"
    try:
        header = plan_header_from_path(path)
    except SourceError as error:
        return Check(name=name, passed=False, summary=str(error))
    if header.prefix_bytes > 0:
        summary = f"{header.prefix_bytes} bytes lie in front of it, so Triton refuses it; see tritonforge inspect"
        return Check(name=name, passed=False, summary=summary)
    version = str(recorded.get("tensorrt_version", "unknown"))
    passed = _same_version(header.version_text, version)
    summary = f"TensorRT {header.version_text}" + ("" if passed else f", recorded is {version}")
    return Check(name=name, passed=passed, summary=summary)


def installed_check(path: Path, options: TensorRTOptions) -> Check:
    """Check a plan's TensorRT version against the one of this machine.

    Args:
        path: The plan.
        options: How it was built.
    """
    plans, ours = plan_header_from_path(path).version_text, tensorrt_api.version()
    same = _same_version(plans, ours)
    summary = f"built by {plans}, here is {ours}"
    if options.version_compatible and not same:
        summary += "; it is version-compatible"
    return Check(
        name="the installed TensorRT is the plan's", passed=same or options.version_compatible, summary=summary
    )


def gpu_check(recorded: Mapping[str, Any], gpu: Gpu, options: TensorRTOptions) -> Check:
    """Check the GPU that built a plan against the one of this machine.

    Args:
        recorded: What the manifest says of the former.
        gpu: The latter.
        options: How the plan was built.
    """
    name, theirs = (str(recorded.get(key, "unknown")) for key in ("name", "compute_capability"))
    ours = gpu.compute_capability
    summary = f"built on {name} ({theirs}), here is {gpu.name} ({ours})"
    portable = options.hardware_compatibility_level == "AMPERE_PLUS" and int(ours.partition(".")[0]) >= 8
    if theirs == ours and name != gpu.name:
        summary += "; the kernels were chosen for the former"
    elif theirs != ours and portable:
        summary += "; it runs on all from Ampere on"
    return Check(name="the plan is for this GPU", passed=theirs == ours or portable, summary=summary)


def _same_version(one: str, other: str) -> bool:
    """Whether versions agree in the parts that both have: 8.6 says three of its four."""
    return all(a == b for a, b in zip(one.split("."), other.split("."), strict=False))


# ---- the plan, run ----


def plan_from_record(path: Path, recorded: Mapping[str, Any], device_id: int) -> Plan:
    """Load a published plan and take its facts from TensorRT; what only its build could tell is as recorded.

    Args:
        path: The plan, unchanged since it was recorded.
        recorded: What the manifest says of it.
        device_id: The GPU to load it on.

    Raises:
        PlanError: It does not load.
        RepositoryError: The record lacks something.
        TensorRTMissingError: TensorRT, cuda-python or the GPU is missing.
    """
    facts = engine_facts_from_path(path, device_id)
    known = {one.name: recorded[one.name] for one in fields(Plan) if one.name in recorded}
    try:
        proof = PrecisionProof(**recorded["proof"])
        return Plan(
            **{
                **known,
                "path": path,
                "size_bytes": path.stat().st_size,
                "gpu": facts.gpu,
                "tensors": facts.tensors,
                "profiles": facts.profiles,
                "device_memory_bytes": facts.device_memory_bytes,
                "layers": (),
                "proof": replace(proof, summary=f"{proof.summary} (as recorded when it was built)"),
                "timing_cache": TimingCacheUse(path=None, **recorded["timing_cache"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise RepositoryError(
            f"what is recorded of {path} cannot be used",
            expected="a plan's record as this version writes it",
            got=str(error),
            action="Generate the model again.",
        ) from error


def own_plan_checks(plan: Plan, options: ModelOptions, *, max_batch_size: int) -> tuple[list[Check], Reference | None]:
    """Run every gate of a plan whose source is not at hand.

    Args:
        plan: The plan.
        options: What the user declared.
        max_batch_size: As configured; 0 for shapes in full.

    Returns:
        The gates, and the plan's answers on the first profile whose samples it takes one at a time.
    """
    checks = facts_checks(plan, options, max_batch_size=max_batch_size)
    references = []
    with Engine(plan.path, plan.gpu.device_id) as engine:
        for index, ranges in enumerate(engine.profiles):
            reference = _own_reference(engine, ranges, options, batched=max_batch_size > 0)
            if reference is None:
                reason = f"profile {index} takes no single row of its own shape; give the source"
                checks.append(skipped_check("rows are independent of their batch", reason))
                continue
            references.append(reference)

            def judge(session: Session, reference: Reference = reference) -> Check:
                return own_reference_check(reference, session)

            checks += profile_checks(engine, index, reference, judge, max_batch_size=max_batch_size)
    return checks, next(iter(references), None)


def _own_reference(
    engine: Engine, ranges: Mapping[str, ShapeRange], options: ModelOptions, *, batched: bool
) -> Reference | None:
    """A plan's answers to samples of a profile, one at a time; ``None`` where no profile takes one alone."""
    inputs = [
        GraphTensor(
            name=tensor.name,
            datatype=tensor.datatype,
            shape=tuple(size if size >= 0 else None for size in tensor.shape),
        )
        for tensor in engine.inputs
    ]
    samples = _samples_within(ranges, inputs, options.verify, batched=batched)
    alone = {name: array.shape for name, array in (samples.batch(0, 1) if batched else samples.one(0)).items()}
    if not any(all(one.holds(alone[name]) for name, one in profile.items()) for profile in engine.profiles):
        return None
    with Runner(engine) as runner:
        reference = reference_from_session(runner, samples, options.verify, batched=batched, name=str(engine.path))
    # Another profile may have answered with other kernels, in TF32 where nothing else was asked for.
    return reference.for_precision(options.plan_precision)


def _samples_within(
    ranges: Mapping[str, ShapeRange], inputs: list[GraphTensor], options: VerifyOptions, *, batched: bool
) -> Samples:
    """Given samples where the profile takes them, else drawn ones of its optimum shapes."""
    rows = int(batched)
    if options.samples is not None:
        given = samples_from_options(inputs, sample_options(options), batched=batched)
        shapes = {name: (*ranges[name].min[:rows], *array.shape[1:]) for name, array in given.arrays.items()}
        if all(one.holds(shapes[name]) for name, one in ranges.items()):
            return given
    shapes = {name: one.opt[rows:] for name, one in ranges.items()}
    drawn = options.model_copy(update={"samples": None, "shapes": shapes})
    return samples_from_options(inputs, sample_options(drawn), batched=batched)
