"""Options about where a model runs and what it takes of a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.names import SafeName
from tritonforge_generator.spec.numbers import Count, Natural

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field


class RateLimiterResource(DeclaredModel):
    """``ModelRateLimiter.Resource``: something that executions share, under a name that the user chooses."""

    name: str = Field(min_length=1, description="The resource.")
    count: Count = Field(default=1, description="How many of it one execution takes.")
    global_: bool = Field(
        default=False, alias="global", description="One pool for the whole server instead of one for each device."
    )


class RateLimiter(DeclaredModel):
    """``ModelRateLimiter``: which instances may execute at the same time.

    The server heeds it with ``--rate-limit=execution_count`` only.
    """

    resources: tuple[RateLimiterResource, ...] = Field(default=(), description="What an execution takes.")
    priority: Count | None = Field(
        default=None, description="Share of the executions: 2 gets half the chances of 1. 1 by default."
    )

    @pydantic.model_validator(mode="after")
    def _distinct_resources(self) -> RateLimiter:
        name = _twice([resource.name for resource in self.resources])
        if name is not None:
            raise PlacedError(at=("resources",), expected="each resource once", got=f"'{name}' twice")
        return self


class SecondaryDevice(DeclaredModel):
    """``ModelInstanceGroup.SecondaryDevice``: where layers run that the GPU need not run."""

    kind: Literal["KIND_NVDLA"] = Field(default="KIND_NVDLA", description="A deep-learning accelerator (Jetson).")
    device_id: Natural = Field(default=0, description="Which one.")


class InstanceGroup(DeclaredModel):
    """``ModelInstanceGroup``: how many copies of the model run, and where."""

    name: SafeName | None = Field(
        default=None, description="Name in logs and metrics; by default the model's and a number."
    )
    kind: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL"] = Field(
        default="KIND_AUTO",
        description="KIND_AUTO takes the GPUs where there are some, else the CPU; KIND_MODEL leaves it to the model.",
    )
    count: Count = Field(default=1, description="Instances, for each GPU listed or found.")
    gpus: tuple[Natural, ...] = Field(default=(), description="GPU ids; none means all.")
    profile: tuple[Natural, ...] = Field(
        default=(), description="Optimisation profiles of a TensorRT plan that its instances use; none means all."
    )
    rate_limiter: RateLimiter | None = Field(default=None, description="What an execution takes, and its priority.")
    passive: bool | None = Field(default=None, description="Loaded, but given no requests.")
    secondary_devices: tuple[SecondaryDevice, ...] | None = Field(
        default=None, min_length=1, max_length=1, description="A device beside the GPU; TensorRT plans only."
    )
    host_policy: str | None = Field(
        default=None, min_length=1, description="Name of a policy of the server (--host-policy), such as gpu_0."
    )

    @pydantic.model_validator(mode="after")
    def _gpus_where_they_count(self) -> InstanceGroup:
        if self.kind in {"KIND_CPU", "KIND_MODEL"} and self.gpus:  # rules G7 and G2
            raise PlacedError(
                at=("gpus",), expected=f"no GPU ids for {self.kind}", got=str(list(self.gpus)), action="Use KIND_GPU."
            )
        gpu = _twice(self.gpus)
        if gpu is not None:
            raise PlacedError(at=("gpus",), expected="each GPU once", got=f"{gpu} twice", action="Raise the count.")
        return self


def check_groups(groups: Sequence[InstanceGroup]) -> None:
    """Check what only all groups together show.

    Args:
        groups: Those of one model.

    Raises:
        PlacedError: They contradict each other; its place is below the list.
    """
    name = _twice([group.name for group in groups if group.name is not None])
    if name is not None:
        raise PlacedError(expected="distinct names", got=f"'{name}' twice")
    if all(group.passive for group in groups):
        raise PlacedError(expected="a group that is not passive", got="no group that takes requests")
    pools: dict[str, bool] = {}
    for index, group in enumerate(groups):
        for place, resource in enumerate(group.rate_limiter.resources if group.rate_limiter is not None else ()):
            if pools.setdefault(resource.name, resource.global_) != resource.global_:  # rule W7
                raise PlacedError(
                    at=(index, "rate_limiter", "resources", place, "global"),
                    expected=f"{str(pools[resource.name]).lower()}, as for '{resource.name}' before",
                    got=str(resource.global_).lower(),
                )


def _twice(values: Sequence[str] | Sequence[int]) -> str | int | None:
    """The first value that is there more than once."""
    counts = Counter(values)
    return next((value for value in values if counts[value] > 1), None)
