"""Fields about where a model runs and how requests reach it: straight from the options."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge_generator.config.fields import Enum, Field, message
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.spec import CudaOptimization, DynamicBatching, ModelOptions, Optimization, QueuePolicy


def instance_group_fields(options: ModelOptions) -> Iterator[Field]:
    """``instance_group``: one field a group."""
    is_plan = options.platform == "tensorrt"
    where = {
        "KIND_AUTO": "the GPUs, as a plan needs one" if is_plan else "the GPUs where there are some, else the CPU",
        "KIND_CPU": "the CPU, even where there are GPUs",
        "KIND_GPU": "GPUs only; the model does not load without one",
    }
    for group in options.instance_group:
        each = "execute at the same time" if group.count > 1 else "executes one batch at a time"
        yield message(
            "instance_group",
            Field("count", group.count, f"{each}, for each device"),
            Field("kind", Enum(group.kind), where[group.kind]),
            Field("gpus", list(group.gpus), "only these GPUs") if group.gpus else None,
            Field("profile", [str(index) for index in group.profile], "only these optimisation profiles")
            if group.profile and is_plan
            else None,
        )


def version_policy_field(options: ModelOptions) -> Field:
    """``version_policy``: which of the version folders are served."""
    policy = options.version_policy
    if policy.latest is not None:
        count = policy.latest.num_versions
        reason = "only the newest version" if count == 1 else f"the {count} newest versions"
        return message("version_policy", message("latest", Field("num_versions", count, reason)))
    if policy.specific is not None:
        versions = list(policy.specific.versions)
        return message("version_policy", message("specific", Field("versions", versions, "only these versions")))
    return message("version_policy", message("all", reason="every version folder"))


def dynamic_batching_field(options: ModelOptions, *, max_batch_size: int) -> Field | None:
    """``dynamic_batching``, where the model takes batches.

    Raises:
        ConfigError: It is asked for without batching, or prefers a batch above ``max_batch_size`` (rule C6).
    """
    declared = options.dynamic_batching
    if max_batch_size <= 1:
        if isinstance(declared, DynamicBatching):
            raise ConfigError(
                f"model '{options.name}': dynamic_batching needs batches",
                expected="max_batch_size above 1",
                got=str(max_batch_size),
                action="Leave dynamic_batching out, or raise max_batch_size.",
            )
        return None
    if declared is False:
        return None
    batching = DynamicBatching() if declared is True else declared
    too_large = [size for size in batching.preferred_batch_size if size > max_batch_size]
    if too_large:
        raise ConfigError(
            f"model '{options.name}': dynamic_batching.preferred_batch_size is above max_batch_size",
            expected=f"sizes of at most {max_batch_size}",
            got=str(too_large),
            action="Lower them, or raise max_batch_size.",
        )
    preferred = list(batching.preferred_batch_size)
    delay = batching.max_queue_delay_microseconds
    return message(
        "dynamic_batching",
        Field("preferred_batch_size", preferred, "sent on at once when reached, as declared") if preferred else None,
        Field(
            "max_queue_delay_microseconds",
            delay,
            "how long a request waits for others"
            if delay > 0
            else "requests are gathered while a batch executes; none waits for others",
        ),
        Field("preserve_ordering", value=True, reason="answers leave in the order of arrival")
        if batching.preserve_ordering
        else None,
        _queue_policy_field(batching.default_queue_policy) if batching.default_queue_policy is not None else None,
        reason="single requests are gathered into batches",
    )


def queue_policy_note(options: ModelOptions) -> str:
    """What a person should know who declares a queue policy; empty without one."""
    declared = options.dynamic_batching
    if not isinstance(declared, DynamicBatching) or declared.default_queue_policy is None:
        return ""
    return (
        "with a queue policy, Triton's dynamic batcher may leave a request waiting for up to 0.5 s when few are in "
        "flight (seen with server 2.51); keep it only where client deadlines or a full queue matter more"
    )


def _queue_policy_field(policy: QueuePolicy) -> Field:
    timeout_us = policy.default_timeout_microseconds
    actions = {"REJECT": "answered with an error once it waited too long", "DELAY": "put behind the others instead"}
    return message(
        "default_queue_policy",
        Field("timeout_action", Enum(policy.timeout_action), actions[policy.timeout_action]),
        Field(
            "default_timeout_microseconds",
            timeout_us,
            f"{timeout_us / 1e6:g} s; above zero, or client deadlines would be ignored"
            if timeout_us > 0
            else "waits for ever; client deadlines do not reach the queue",
        ),
        Field(
            "allow_timeout_override",
            policy.allow_timeout_override,
            "a client's deadline shortens the wait"
            if policy.allow_timeout_override
            else "a client's deadline does not reach the queue",
        ),
        Field(
            "max_queue_size",
            policy.max_queue_size,
            "more requests are refused at once" if policy.max_queue_size > 0 else "no limit",
        ),
    )


def response_cache_field(options: ModelOptions) -> Field | None:
    """``response_cache``, where declared."""
    if options.response_cache is None:
        return None
    enable = options.response_cache.enable
    reason = (
        "equal requests are answered from memory; the server needs --cache-config"
        if enable
        else "every request is computed"
    )
    return message("response_cache", Field("enable", enable, reason))


def optimization_field(options: ModelOptions) -> Field | None:
    """``optimization``, where declared."""
    declared = options.optimization
    if declared is not None and options.platform != "tensorrt":
        declared = declared.model_copy(update={"cuda": None})  # of no use where `auto` chose ONNX Runtime
    if declared is None or declared == Optimization():
        return None
    levels = {-1: "basic", 0: "all", 1: "extended", 2: "no"}
    level = declared.graph.level if declared.graph is not None else 0
    pinned = {
        "input_pinned_memory": declared.input_pinned_memory,
        "output_pinned_memory": declared.output_pinned_memory,
    }
    return message(
        "optimization",
        message("graph", Field("level", level, f"{levels[level]} graph optimisations of ONNX Runtime"))
        if declared.graph is not None
        else None,
        Field("priority", Enum(declared.priority), "as declared") if declared.priority is not None else None,
        _cuda_field(declared.cuda) if declared.cuda is not None else None,
        *(
            message(name, Field("enable", memory.enable, "as declared"))
            for name, memory in pinned.items()
            if memory is not None
        ),
    )


def _cuda_field(cuda: CudaOptimization) -> Field:
    launched = "a batch size that comes again is launched as one CUDA graph" if cuda.graphs else "layer by layer"
    return message(
        "cuda",
        Field("graphs", cuda.graphs, launched),
        Field("busy_wait_events", value=True, reason="waits in a loop") if cuda.busy_wait_events else None,
        Field("output_copy_stream", value=True, reason="outputs on their own stream")
        if cuda.output_copy_stream
        else None,
    )
