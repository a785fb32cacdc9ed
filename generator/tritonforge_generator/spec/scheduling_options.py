"""Options about how requests reach a model: queues, priorities, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import Count, Microseconds, Natural

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field


class QueuePolicy(DeclaredModel):
    """``ModelQueuePolicy``: how long a request may wait and what happens then. It is opt-in.

    Client deadlines reach the queue only with ``allow_timeout_override`` and a default timeout above zero, which are
    the defaults here. But with any queue policy the dynamic batcher no longer prepares the next batch while one
    executes, and a request that arrives just as an instance becomes free may sleep until the batcher's timer of 500 ms
    (``default_wait_microseconds`` in core's ``dynamic_batch_scheduler.cc``; measured with server 2.51).
    """

    timeout_action: Literal["REJECT", "DELAY"] = Field(
        default="REJECT", description="What happens to a request that waited."
    )
    default_timeout_microseconds: Microseconds = Field(
        default=10_000_000, description="Longest wait in the queue; 0 waits forever and keeps client deadlines out."
    )
    allow_timeout_override: bool = Field(
        default=True, description="Let a request shorten its wait with its own deadline; false without a timeout."
    )
    max_queue_size: Natural = Field(
        default=1024, description="Requests that may wait; more are refused at once. 0 means no limit."
    )

    @property
    def delays(self) -> bool:
        """Whether a request that waited too long goes behind the others."""
        return self.timeout_action == "DELAY" and self.default_timeout_microseconds > 0


class DynamicBatching(DeclaredModel):
    """``ModelDynamicBatching``: how single requests become batches."""

    preferred_batch_size: tuple[Count, ...] = Field(default=(), description="Batch sizes worth waiting for.")
    max_queue_delay_microseconds: Microseconds = Field(default=0, description="How long to wait for a fuller batch.")
    preserve_ordering: bool = Field(default=False, description="Answer in the order of arrival.")
    priority_levels: Count | None = Field(
        default=None, description="Number of priorities a request may have; 1 is served first. None by default."
    )
    default_priority_level: Count | None = Field(
        default=None, description="Priority of a request that names none; needed with priority_levels."
    )
    default_queue_policy: QueuePolicy | None = Field(
        default=None, description="The queue's limits; with any, a request may now and then wait 0.5 s for nothing."
    )
    priority_queue_policy: dict[int, QueuePolicy] | None = Field(
        default=None, description="Limits of single priorities, by level; the others have default_queue_policy."
    )

    @property
    def queue_policies(self) -> dict[tuple[str | int, ...], QueuePolicy]:
        """Every queue policy by its place."""
        found: dict[tuple[str | int, ...], QueuePolicy] = {}
        if self.default_queue_policy is not None:
            found["default_queue_policy",] = self.default_queue_policy
        for level, policy in (self.priority_queue_policy or {}).items():
            found["priority_queue_policy", str(level)] = policy
        return found

    @pydantic.model_validator(mode="after")
    def _levels_exist(self) -> DynamicBatching:
        levels, default = self.priority_levels, self.default_priority_level
        if levels is None:
            for name in ("default_priority_level", "priority_queue_policy"):
                if getattr(self, name) is not None:
                    raise PlacedError(at=(name,), expected="priority_levels beside it", got="none")
            return self
        if default is None or default > levels:  # rule C7
            at: tuple[str, ...] = () if default is None else ("default_priority_level",)
            got = "none" if default is None else str(default)
            raise PlacedError(at=at, expected=f"a default_priority_level of 1 to {levels}", got=got)
        for level in self.priority_queue_policy or {}:
            if not 1 <= level <= levels:  # rule C8
                raise PlacedError(
                    at=("priority_queue_policy", str(level)), expected=f"a level of 1 to {levels}", got=str(level)
                )
        return self

    @pydantic.model_validator(mode="after")
    def _order_can_be_kept(self) -> DynamicBatching:
        if not self.preserve_ordering:
            return self
        if self.priority_levels is not None and self.priority_levels > 1:  # rule C9
            raise PlacedError(
                at=("preserve_ordering",), expected="false with several priority_levels", got="true, which mixes them"
            )
        for place, policy in self.queue_policies.items():
            if policy.delays:  # rule C10
                raise PlacedError(
                    at=(*place, "timeout_action"),
                    expected="REJECT, because preserve_ordering is true",
                    got="DELAY",
                    action="Use REJECT, or leave preserve_ordering out.",
                )
        return self
