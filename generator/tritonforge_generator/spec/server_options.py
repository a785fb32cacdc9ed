"""Options about what the server does around a model: versions, cache, metrics, agents."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import Count, Number, VersionNumber

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

MetricTags = dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")], str]
"""Labels of metrics. The server puts ``_`` in front of their names, and ends where Prometheus then refuses one."""


class Latest(DeclaredModel):
    """``ModelVersionPolicy.Latest``."""

    num_versions: Count = Field(default=1, description="How many of the highest version numbers to serve.")


class All(DeclaredModel):
    """``ModelVersionPolicy.All``."""


class Specific(DeclaredModel):
    """``ModelVersionPolicy.Specific``."""

    versions: tuple[VersionNumber, ...] = Field(min_length=1, description="The version numbers to serve.")


class VersionPolicy(DeclaredModel):
    """``ModelVersionPolicy``: which versions are served. Exactly one of the three is set."""

    latest: Latest | None = Field(default=None, description="Serve the highest version numbers.")
    all: All | None = Field(default=None, description="Serve every version.")
    specific: Specific | None = Field(default=None, description="Serve the versions listed.")

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> VersionPolicy:
        chosen = [name for name in ("latest", "all", "specific") if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise PlacedError(
                expected="exactly one of latest, all, specific", got=", ".join(chosen) if chosen else "none"
            )
        return self


class ResponseCache(DeclaredModel):
    """``ModelResponseCache``: whether equal requests are answered from memory."""

    enable: bool = Field(description="The server needs --cache-config too.")


class TransactionPolicy(DeclaredModel):
    """``ModelTransactionPolicy``."""

    decoupled: bool = Field(description="A request may get any number of replies, which need a stream.")


class MetricIdentifier(DeclaredModel):
    """``ModelMetrics.MetricControl.MetricIdentifier``."""

    family: str = Field(  # rule C16
        min_length=1, description="The metric, for example nv_inference_first_response_histogram_ms."
    )


class HistogramOptions(DeclaredModel):
    """``ModelMetrics.MetricControl.HistogramOptions``."""

    buckets: tuple[Number, ...] = Field(min_length=1, description="Upper bounds of the buckets, ascending.")  # rule C18

    @pydantic.field_validator("buckets")
    @classmethod
    def _ascending(cls, buckets: tuple[float, ...]) -> tuple[float, ...]:
        if any(not low < high for low, high in pairwise(buckets)):
            raise PlacedError(expected="ascending bounds", got=str(list(buckets)))
        return buckets


class MetricControl(DeclaredModel):
    """``ModelMetrics.MetricControl``: the buckets of one histogram."""

    metric_identifier: MetricIdentifier = Field(description="Which metric.")  # rule C15
    histogram_options: HistogramOptions = Field(description="Its buckets.")  # rule C17


class ModelMetrics(DeclaredModel):
    """``ModelMetrics``: which buckets the histograms of the model have. Older servers do not know it."""

    metric_control: tuple[MetricControl, ...] = Field(min_length=1, description="One for each metric.")


class Agent(DeclaredModel):
    """``ModelRepositoryAgents.Agent``: a library of the server that looks at the model before it loads."""

    name: str = Field(min_length=1, description="The agent, for example checksum.")
    parameters: dict[str, str] = Field(default_factory=dict, description="Its parameters.")


class ModelRepositoryAgents(DeclaredModel):
    """``ModelRepositoryAgents``."""

    agents: tuple[Agent, ...] = Field(min_length=1, description="In the order they are asked.")
