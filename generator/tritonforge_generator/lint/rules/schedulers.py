"""C5 to C10: dynamic batching."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.rule import Hit, rule


@rule(
    "C5",
    text="dynamic batching preferred size must be positive for {model}",
    fix="Remove the entry {size}.",
)
def preferred_size_is_positive(model: Model) -> Iterator[Hit]:
    """Every ``preferred_batch_size`` is at least 1."""
    for index, size in enumerate(model.config.dynamic_batching.preferred_batch_size):
        if size <= 0:
            yield Hit(f"dynamic_batching.preferred_batch_size[{index}]", {"size": size}, at=(index,))


@rule(
    "C6",
    text="dynamic batching preferred size must be <= max batch size for {model}",
    fix="Lower {size} to max_batch_size ({limit}) or raise max_batch_size.",
)
def preferred_size_is_allowed(model: Model) -> Iterator[Hit]:
    """No ``preferred_batch_size`` is above ``max_batch_size``; with 0 none is allowed at all."""
    limit = model.config.max_batch_size
    for index, size in enumerate(model.config.dynamic_batching.preferred_batch_size):
        if size > max(limit, 0):
            yield Hit(f"dynamic_batching.preferred_batch_size[{index}]", {"size": size, "limit": limit}, at=(index,))


@rule(
    "C7",
    text="default priority level must be in range [1, {levels}] for {model}",
    fix="Write a `default_priority_level` between 1 (the highest) and {levels}.",
)
def default_priority_is_in_range(model: Model) -> Iterator[Hit]:
    """With ``priority_levels`` the level of requests that name none must be given."""
    batching = model.config.dynamic_batching
    if batching.priority_levels != 0 and not 1 <= batching.default_priority_level <= batching.priority_levels:
        yield Hit("dynamic_batching.default_priority_level", {"levels": batching.priority_levels})


@rule(
    "C8",
    text="priority queue policy must have priority level in range [1, {levels}] for {model}",
    fix="Remove the policy for level {level}: levels go from 1 to {levels}.",
)
def queue_policy_has_a_level(model: Model) -> Iterator[Hit]:
    """Every key of ``priority_queue_policy`` is a priority level."""
    batching = model.config.dynamic_batching
    for level in sorted(batching.priority_queue_policy):
        if batching.priority_levels != 0 and not 1 <= level <= batching.priority_levels:
            values = {"levels": batching.priority_levels, "level": level}
            yield Hit(f'dynamic_batching.priority_queue_policy["{level}"]', values, at=(level,))


@rule(
    "C9",
    text="Only one priority level is allowed when 'preserve_ordering' is true for {model}",
    fix="Remove `preserve_ordering` or the priority levels: levels reorder requests.",
)
def ordering_excludes_priorities(model: Model) -> Iterator[Hit]:
    """``preserve_ordering`` contradicts several priority levels."""
    batching = model.config.dynamic_batching
    if batching.preserve_ordering and batching.priority_levels > 1:
        yield Hit("dynamic_batching.preserve_ordering")


@rule(
    "C10",
    text="Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {model}",
    fix="Use `timeout_action: REJECT`, or remove `preserve_ordering`: DELAY reorders requests.",
)
def ordering_excludes_delay(model: Model) -> Iterator[Hit]:
    """``preserve_ordering`` contradicts a timeout that moves a request to the end of the queue."""
    batching = model.config.dynamic_batching
    if not batching.preserve_ordering:
        return
    policies = {"default_queue_policy": batching.default_queue_policy}
    policies |= {
        f'priority_queue_policy["{level}"]': batching.priority_queue_policy[level]
        for level in sorted(batching.priority_queue_policy)
    }
    for place, policy in policies.items():
        if policy.default_timeout_microseconds != 0 and policy.timeout_action == policy.DELAY:
            yield Hit(f"dynamic_batching.{place}.timeout_action")
