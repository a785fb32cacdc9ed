"""``dynamic_batching``: how single requests become batches."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge_generator.config.fields import Enum, Field, map_entry, message
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.spec import DynamicBatching, ModelOptions, QueuePolicy


def dynamic_batching_field(options: ModelOptions, *, max_batch_size: int) -> Field | None:
    """``dynamic_batching``, where the model takes batches, or its requests wait in an order or with limits.

    Raises:
        ConfigError: Batches are asked for without batching, or above ``max_batch_size`` (rule C6).
    """
    declared = options.dynamic_batching
    if options.sequence_batching is not None:
        return None
    if declared is False or (declared is True and max_batch_size <= 1):
        return None
    batching = DynamicBatching() if declared is True else declared
    if max_batch_size <= 1:
        return _queue_field(options.name, batching, max_batch_size)
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
        *_order_fields(batching),
        reason="single requests are gathered into batches",
    )


def _queue_field(name: str, batching: DynamicBatching, max_batch_size: int) -> Field:
    """``dynamic_batching`` of a model without batches: its queue alone (rule L6)."""
    gathers = batching.preferred_batch_size or batching.max_queue_delay_microseconds > 0
    if gathers or not (batching.priority_levels or batching.queue_policies or batching.preserve_ordering):
        raise ConfigError(
            f"model '{name}': dynamic_batching needs batches",
            expected="max_batch_size above 1, or only priorities, queue policies or preserve_ordering",
            got=str(max_batch_size),
            action="Leave dynamic_batching out, or raise max_batch_size.",
        )
    return message("dynamic_batching", *_order_fields(batching), reason="how requests wait; each is executed alone")


def queue_policy_note(options: ModelOptions) -> str:
    """What a person should know who declares a queue policy; empty without one."""
    declared = options.dynamic_batching
    if not isinstance(declared, DynamicBatching) or not declared.queue_policies:
        return ""
    return (
        "with a queue policy, Triton's dynamic batcher may leave a request waiting for up to 0.5 s when few are in "
        "flight (seen with server 2.51); keep it only where client deadlines or a full queue matter more"
    )


def _order_fields(batching: DynamicBatching) -> Iterator[Field]:
    if batching.preserve_ordering:
        yield Field("preserve_ordering", value=True, reason="answers leave in the order of arrival")
    levels = batching.priority_levels
    if levels is not None and batching.default_priority_level is not None:
        yield Field("priority_levels", levels, "1 is served first")
        yield Field("default_priority_level", batching.default_priority_level, "of requests that name none")
    if batching.default_queue_policy is not None:
        yield message("default_queue_policy", *_queue_policy_fields(batching.default_queue_policy))
    for level, policy in sorted((batching.priority_queue_policy or {}).items()):
        yield map_entry("priority_queue_policy", level, *_queue_policy_fields(policy), reason="the priority level")


def _queue_policy_fields(policy: QueuePolicy) -> tuple[Field, ...]:
    timeout_us = policy.default_timeout_microseconds
    override = policy.allow_timeout_override and timeout_us > 0  # without a timeout there is nothing to shorten
    actions = {"REJECT": "answered with an error once it waited too long", "DELAY": "put behind the others instead"}
    waits = f"{timeout_us / 1e6:g} s" + ("; above zero, or client deadlines would be ignored" if override else "")
    return (
        Field(
            "timeout_action",
            Enum(policy.timeout_action),
            actions[policy.timeout_action] if timeout_us > 0 else "never, as nothing waits too long",
        ),
        Field(
            "default_timeout_microseconds",
            timeout_us,
            waits if timeout_us > 0 else "waits for ever; client deadlines do not reach the queue",
        ),
        Field(
            "allow_timeout_override",
            override,
            "a client's deadline shortens the wait" if override else "a client's deadline does not reach the queue",
        ),
        Field(
            "max_queue_size",
            policy.max_queue_size,
            "more requests are refused at once" if policy.max_queue_size > 0 else "no limit",
        ),
    )
