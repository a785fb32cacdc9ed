"""Options of one ensemble: models that run one after another in the server, behind one name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.model_options import VerifyOptions
from tritonforge_generator.spec.names import SafeName
from tritonforge_generator.spec.numbers import LARGEST_INT64, Natural, OpenSize, VersionNumber
from tritonforge_generator.spec.server_options import Latest, MetricTags, ModelMetrics, ResponseCache, VersionPolicy

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

Text = Annotated[str, Field(min_length=1)]
NameMap = Annotated[dict[Text, Text], Field(min_length=1)]

LATEST = -1
"""``model_version`` of a step that takes the newest version of its model that is loaded."""


class EnsembleTensor(DeclaredModel):
    """An input or output of an ensemble; what is left out comes from the steps."""

    name: Text = Field(description="The ensemble's own name of the tensor.")
    data_type: Annotated[str, Field(pattern="^TYPE_[A-Z0-9]+$")] | None = Field(
        default=None, description="Such as TYPE_FP32; must be that of the steps."
    )
    dims: tuple[OpenSize, ...] | None = Field(  # rule I3
        default=None,
        min_length=1,
        description="Sizes without the batch; -1 in the steps' dims may be made a number here.",
    )


class EnsembleStep(DeclaredModel):
    """``ModelEnsembling.Step``: one model of an ensemble."""

    model_name: Text = Field(description="A model of this spec, or one that is in the repository already.")  # rule E6
    model_version: int = Field(
        default=LATEST, description="The version that answers; -1 for the newest that is loaded."
    )
    input_map: NameMap | None = Field(  # rule E7
        default=None,
        description="By the model's input: the ensemble tensor it takes. By default those of the same names.",
    )
    output_map: NameMap | None = Field(  # rule E8
        default=None,
        description="By the model's output: the ensemble tensor it makes. By default those of the same names that "
        "something takes.",
    )

    @pydantic.field_validator("model_version")
    @classmethod
    def _a_version(cls, version: int) -> int:
        if version != LATEST and not 1 <= version <= LARGEST_INT64:
            raise PlacedError(expected="-1 for the newest, or a version number", got=str(version))
        return version


class EnsembleScheduling(DeclaredModel):
    """``ModelEnsembling``."""

    step: tuple[EnsembleStep, ...] = Field(min_length=1, description="The models, in any order.")  # rule E5
    max_inflight_requests: Natural = Field(
        default=0,
        description="Requests that may be between two steps at once; 0 means no limit. Older servers do not know it.",
    )


class EnsembleOptions(DeclaredModel):
    """One ensemble to generate."""

    name: SafeName = Field(description="Model name: the folder in the repository and the name clients call.")
    version: VersionNumber | None = Field(
        default=None, description="Version number; by default one more than the highest."
    )
    max_batch_size: Natural | None = Field(
        default=None, description="Largest batch; by default the smallest of the steps, 0 where one takes no batches."
    )
    input: tuple[EnsembleTensor, ...] = Field(min_length=1, description="What requests give, by name.")
    output: tuple[EnsembleTensor, ...] = Field(min_length=1, description="What replies hold, by name.")
    ensemble_scheduling: EnsembleScheduling = Field(description="The steps.")
    version_policy: VersionPolicy = Field(
        default=VersionPolicy(latest=Latest()), description="Which versions the server serves."
    )
    response_cache: ResponseCache | None = Field(default=None, description="Answer equal requests from memory.")
    model_metrics: ModelMetrics | None = Field(default=None, description="Buckets of the ensemble's histograms.")
    metric_tags: MetricTags | None = Field(default=None, description="Labels of all metrics of the ensemble.")
    parameters: dict[str, str] = Field(default_factory=dict, description="Texts that clients can read.")
    verify: VerifyOptions = Field(default_factory=VerifyOptions, description="How it is proven before publishing.")

    @pydantic.model_validator(mode="after")
    def _distinct_tensors(self) -> EnsembleOptions:
        _check_distinct("input", self.input, set())
        # A tensor that is given and made at once is not noticed by the server (rule E9).
        _check_distinct("output", self.output, {tensor.name for tensor in self.input})
        if self.verify.expected is not None:
            raise PlacedError(
                at=("verify", "expected"), expected="nothing: the steps say what is right", got="a file of answers"
            )
        return self

    @property
    def steps(self) -> tuple[EnsembleStep, ...]:
        """The steps as written."""
        return self.ensemble_scheduling.step

    def resolved(self, folder: Path) -> EnsembleOptions:
        """The same options with their paths relative to a folder."""
        return self.model_copy(update={"verify": self.verify.resolved(folder)})


def _check_distinct(key: str, tensors: Sequence[EnsembleTensor], taken: set[str]) -> None:
    for index, tensor in enumerate(tensors):
        if tensor.name in taken:
            raise PlacedError(at=(key, index, "name"), expected="a name of its own", got=f"'{tensor.name}' twice")
        taken.add(tensor.name)
