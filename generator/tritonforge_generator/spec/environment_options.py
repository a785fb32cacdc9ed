"""What differs where a model is served: one more configuration for each environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel
from tritonforge_generator.spec.instance_options import InstanceGroup
from tritonforge_generator.spec.model_checks import check_instances, check_platform, check_schedulers, check_tensors
from tritonforge_generator.spec.model_options import ModelOptions
from tritonforge_generator.spec.numbers import Count
from tritonforge_generator.spec.optimization_options import Optimization
from tritonforge_generator.spec.scheduling_options import DynamicBatching
from tritonforge_generator.spec.server_options import MetricTags, ModelMetrics, ResponseCache, VersionPolicy

if TYPE_CHECKING:
    from pydantic import Field
else:
    Field = require_extra("pydantic", "generator").Field

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""It becomes a file name, ``configs/<name>.pbtxt``."""


class EnvironmentOptions(DeclaredModel):
    """What differs of one model in one environment; each key given replaces the model's own as a whole.

    Tensors are those of the model file, so they cannot differ.
    """

    max_batch_size: Count | None = Field(default=None, description="Largest batch; at most the model's own.")
    instance_group: Annotated[tuple[InstanceGroup, ...], Field(min_length=1)] | None = Field(
        default=None, description="Where it runs."
    )
    dynamic_batching: DynamicBatching | bool | None = Field(
        default=None, description="true for the defaults, false for none, or its fields."
    )
    version_policy: VersionPolicy | None = Field(default=None, description="Which versions the server serves.")
    response_cache: ResponseCache | None = Field(default=None, description="Answer equal requests from memory.")
    model_metrics: ModelMetrics | None = Field(default=None, description="Buckets of the model's histograms.")
    metric_tags: MetricTags | None = Field(default=None, description="Labels of all metrics of the model.")
    optimization: Optimization | None = Field(default=None, description="Settings of ONNX Runtime and of transfers.")
    parameters: dict[str, str] | None = Field(default=None, description="Settings of the backend.")

    def applied_to(self, options: ModelOptions) -> ModelOptions:
        """The options of the model in this environment.

        Args:
            options: The model's own.

        Raises:
            PlacedError: Together they ask for what does not fit.
        """
        given = {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}
        changed = options.model_copy(update=given)
        check_platform(changed)
        check_schedulers(changed)
        check_instances(changed)
        check_tensors(changed)
        return changed
