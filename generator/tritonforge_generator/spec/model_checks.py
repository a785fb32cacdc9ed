"""What the options of one model may not say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tritonforge_generator.declared import PlacedError
from tritonforge_generator.spec.instance_options import check_groups
from tritonforge_generator.spec.scheduling_options import DynamicBatching
from tritonforge_generator.spec.tensorrt_options import TensorRTOptions

if TYPE_CHECKING:
    from tritonforge_generator.spec.model_options import ModelOptions


def check_platform(options: ModelOptions) -> None:
    """Check that every option means something for the platform.

    Raises:
        PlacedError: One does not.
    """
    plan_only = _plan_only(options)
    if options.platform in {"onnxruntime", "python"} and plan_only:
        raise PlacedError(
            at=("platform",), expected=f"tensorrt, because {plan_only[0]} is set", got=str(options.platform)
        )
    if options.platform in {"tensorrt", "auto"}:
        _check_plan(options)
    if options.platform == "python":
        _check_python(options)
        return
    for name, what in (
        ("model_transaction_policy", "a graph answers each request once"),
        ("files", "they belong to it"),
    ):
        if getattr(options, name) is not None:
            raise PlacedError(at=(name,), expected=f"platform: python beside it: {what}", got=str(options.platform))
    sequence = options.sequence_batching
    if sequence is not None and sequence.iterative_sequence is not None:
        raise PlacedError(
            at=("sequence_batching", "iterative_sequence"),
            expected="platform: python beside it: a graph is done after each step",
            got=str(options.platform),
        )
    for index, one in enumerate(options.input or ()):
        if one.optional is not None:  # rules I15 and O10
            raise PlacedError(
                at=("input", index, "optional"),
                expected="platform: python beside it: a graph needs its inputs",
                got=str(options.platform),
            )
    if options.verify.expected is not None:
        raise PlacedError(at=("verify", "expected"), expected="none: the source's own answers count", got="a file")


def _plan_only(options: ModelOptions) -> list[str]:
    optimization = options.optimization.plan_only if options.optimization is not None else []
    given = {
        "tensorrt": options.tensorrt != TensorRTOptions(),
        **{f"optimization.{name}": True for name in optimization},
        "instance_group.profile": any(group.profile for group in options.instance_group),
        "instance_group.secondary_devices": any(group.secondary_devices for group in options.instance_group),
        "cc_model_files": options.cc_model_files is not None,
        "a precision that ONNX Runtime's CPU lacks": options.needs_plan,
    }
    return [name for name, present in given.items() if present]


def _check_plan(options: ModelOptions) -> None:
    for name in options.optimization.onnx_only if options.optimization is not None else ():
        got = "a level" if name == "graph" else "some"
        raise PlacedError(at=("optimization", name), expected="nothing, because a plan has no ONNX Runtime", got=got)
    if options.tensorrt.strip_plan:
        raise PlacedError(
            at=("tensorrt", "strip_plan"),
            expected="false: Triton cannot put the weights back into a stripped plan",
            got="true",
        )
    if options.tensorrt.exclude_lean_runtime and not options.tensorrt.version_compatible:
        raise PlacedError(
            at=("tensorrt", "exclude_lean_runtime"), expected="version_compatible: true beside it", got="false"
        )
    for index, group in enumerate(options.instance_group):
        if group.kind in {"KIND_CPU", "KIND_MODEL"}:  # rule T1
            raise PlacedError(
                at=("instance_group", index, "kind"), expected="KIND_GPU or KIND_AUTO for a plan", got=group.kind
            )


def _check_python(options: ModelOptions) -> None:
    unused = [name for name in ("precision", "preprocess", "optimization") if getattr(options, name) is not None]
    if unused:
        raise PlacedError(at=(unused[0],), expected="nothing for a Python model, which has no graph", got="some")
    sequence = options.sequence_batching
    for at, given in (
        (("batch_input",), options.batch_input),
        (("batch_output",), options.batch_output),
        (("sequence_batching", "state"), sequence.state if sequence is not None else None),
    ):
        if given:
            raise PlacedError(
                at=at,
                expected="nothing for a Python model, which gets requests as they come",
                got=f"{len(given)} of them",
            )
    for key in ("input", "output"):
        for index, one in enumerate(getattr(options, key) or ()):
            missing = [name for name in ("data_type", "dims") if getattr(one, name) is None]
            if missing:  # rules I2 and I3
                raise PlacedError(at=(key, index), expected=f"{missing[0]}, as nothing else says it", got="none")


def check_schedulers(options: ModelOptions) -> None:
    """Check what the schedulers, the cache and the instances ask of each other.

    Raises:
        PlacedError: They exclude each other.
    """
    batching = options.dynamic_batching
    sequence = options.sequence_batching
    asked = isinstance(batching, DynamicBatching) or (batching and "dynamic_batching" in options.model_fields_set)
    if sequence is not None and asked:  # rule P1: both are one field of the proto
        raise PlacedError(at=("dynamic_batching",), expected="none beside sequence_batching", got="both")
    if options.response_cache is not None and options.response_cache.enable:
        if sequence is not None:  # rule C11
            raise PlacedError(at=("response_cache", "enable"), expected="false with sequence_batching", got="true")
        if options.decoupled:  # rule C12
            raise PlacedError(at=("response_cache", "enable"), expected="false for a decoupled model", got="true")
    if sequence is not None and sequence.state and isinstance(options.model_warmup, tuple) and options.model_warmup:
        raise PlacedError(
            at=("model_warmup",),
            expected="no samples: a warm-up request has no state",
            got=f"{len(options.model_warmup)}",
        )
    for index, state in enumerate(sequence.state if sequence is not None else ()):
        if state.use_growable_memory and any(group.kind != "KIND_GPU" for group in options.instance_group):  # rule S24
            raise PlacedError(
                at=("sequence_batching", "state", index, "use_growable_memory"),
                expected="only KIND_GPU in instance_group",
                got="another kind",
            )
    accelerators = options.optimization.execution_accelerators if options.optimization is not None else None
    if accelerators is not None:
        kinds = {group.kind for group in options.instance_group}
        for key, other in (("gpu_execution_accelerator", "KIND_CPU"), ("cpu_execution_accelerator", "KIND_GPU")):
            if getattr(accelerators, key) and kinds == {other}:
                raise PlacedError(
                    at=("optimization", "execution_accelerators", key),
                    expected=f"an instance_group other than {other}, or it is never used",
                    got=other,
                )


def check_instances(options: ModelOptions) -> None:
    """Check the instance groups together.

    Raises:
        PlacedError: They contradict each other.
    """
    try:
        check_groups(options.instance_group)
    except PlacedError as error:
        raise error.under("instance_group") from error


def check_tensors(options: ModelOptions) -> None:
    """Check that each tensor is spoken of once.

    Raises:
        PlacedError: One is spoken of twice.
    """
    for key in ("input", "output"):
        _refuse_twice((key,), [one.name for one in getattr(options, key) or ()])
    targets = [name for one in options.batch_output or () for name in one.target_name]
    _refuse_twice(("batch_output",), targets)  # rule B6
    _refuse_twice(("batch_input",), [name for one in options.batch_input or () for name in one.target_name])


def _refuse_twice(at: tuple[str, ...], names: Sequence[str]) -> None:
    counts = Counter(names)
    twice = [name for name in counts if counts[name] > 1]
    if twice:
        raise PlacedError(at=at, expected="each tensor once", got=f"'{twice[0]}' twice")
