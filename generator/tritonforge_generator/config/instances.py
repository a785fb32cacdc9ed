"""``instance_group``: where a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge_generator.config.fields import Enum, Field, message
from tritonforge_generator.spec import InstanceGroup, ModelOptions, RateLimiter

_LISTED: Final = "GPUs, as some are listed; the model does not load where one of them is missing"


def instance_group_fields(options: ModelOptions) -> Iterator[Field]:
    """``instance_group``: one field a group."""
    is_plan = options.platform == "tensorrt"
    where = {
        "KIND_AUTO": "the GPUs, as a plan needs one" if is_plan else "the GPUs where there are some, else the CPU",
        "KIND_CPU": "the CPU, even where there are GPUs",
        "KIND_GPU": "GPUs only; the model does not load without one",
        "KIND_MODEL": "the model itself decides",
    }
    for group in options.instance_group:
        each = "execute at the same time" if group.count > 1 else "executes one batch at a time"
        yield message(
            "instance_group",
            Field("name", group.name, "shown in logs and metrics") if group.name is not None else None,
            Field("count", group.count, f"{each}, for each device"),
            Field("kind", Enum(group.kind), _LISTED if group.kind == "KIND_AUTO" and group.gpus else where[group.kind]),
            Field("gpus", list(group.gpus), "only these GPUs") if group.gpus else None,
            _profile_field(group, options) if is_plan else None,
            _rate_limiter_field(group.rate_limiter) if group.rate_limiter is not None else None,
            Field("passive", group.passive, "takes no requests" if group.passive else "takes requests")
            if group.passive is not None
            else None,
            *(_secondary_devices(group) if is_plan else ()),
            Field("host_policy", group.host_policy, "the server's --host-policy of this name")
            if group.host_policy is not None
            else None,
        )


def _profile_field(group: InstanceGroup, options: ModelOptions) -> Field | None:
    plan_profiles = len(options.tensorrt.profiles)
    only = "only these optimisation profiles" if group.profile else "all of them; unnamed, only the first is used"
    profiles = group.profile or (range(plan_profiles) if plan_profiles > 1 else ())
    return Field("profile", [str(index) for index in profiles], only) if profiles else None


def _rate_limiter_field(limiter: RateLimiter) -> Field:
    resources = (
        message(
            "resources",
            Field("name", resource.name, "declared"),
            Field("global", value=True, reason="one pool for the whole server") if resource.global_ else None,
            Field("count", resource.count, "taken while a batch executes"),
        )
        for resource in limiter.resources
    )
    priority = Field("priority", limiter.priority or 1, "1 executes most often")
    return message(
        "rate_limiter",
        *resources,
        priority if limiter.priority is not None or not limiter.resources else None,
        reason="the server needs --rate-limit=execution_count",
    )


def _secondary_devices(group: InstanceGroup) -> Iterator[Field]:
    for device in group.secondary_devices or ():
        yield message(
            "secondary_devices",
            Field("kind", Enum(device.kind), "a deep-learning accelerator"),
            Field("device_id", device.device_id, "which one"),
        )
