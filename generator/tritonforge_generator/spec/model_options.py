"""Options of one model. Names are those of ``model_config.proto`` wherever the option becomes a field of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel
from tritonforge_generator.spec.instance_options import InstanceGroup
from tritonforge_generator.spec.model_checks import check_instances, check_platform, check_schedulers, check_tensors
from tritonforge_generator.spec.names import SafeName
from tritonforge_generator.spec.numbers import Natural, Number, Size, VersionNumber
from tritonforge_generator.spec.optimization_options import Optimization
from tritonforge_generator.spec.precision_options import PrecisionOptions, PrecisionType
from tritonforge_generator.spec.preprocess_options import PreprocessOptions
from tritonforge_generator.spec.scheduling_options import DynamicBatching
from tritonforge_generator.spec.sequence_options import SequenceBatching
from tritonforge_generator.spec.server_options import (
    Latest,
    MetricTags,
    ModelMetrics,
    ModelRepositoryAgents,
    ResponseCache,
    TransactionPolicy,
    VersionPolicy,
)
from tritonforge_generator.spec.tensor_options import BatchInput, BatchOutput, InputOptions, OutputOptions
from tritonforge_generator.spec.tensorrt_options import TensorRTOptions
from tritonforge_generator.spec.warmup_options import WarmupSample

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

Text = Annotated[str, Field(min_length=1)]
ComputeCapability = Annotated[str, Field(pattern=r"^\d+\.\d+$")]


class VerifyOptions(DeclaredModel):
    """How a model is proven before it is published."""

    samples: Path | None = Field(
        default=None, description="An .npz file: one array per input, samples on the first axis."
    )
    seed: int = Field(default=0, description="Seed of drawn samples.")
    shapes: dict[str, tuple[Size, ...]] = Field(
        default_factory=dict, description="By input: the shape of one sample, for dynamic axes."
    )
    expected: Path | None = Field(
        default=None, description="An .npz file with the answers to the samples, by output: Python models only."
    )
    rtol: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="Relative tolerance; by default the dtype's."
    )
    atol: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="Absolute tolerance; by default the dtype's."
    )

    def resolved(self, folder: Path) -> VerifyOptions:
        """The same options with their paths relative to a folder."""
        given = {"samples": self.samples, "expected": self.expected}
        return self.model_copy(update={name: folder / path for name, path in given.items() if path is not None})


class ModelOptions(DeclaredModel):
    """One model to generate."""

    name: SafeName = Field(description="Model name: the folder in the repository and the name clients call.")
    source: Path = Field(description="The ONNX file, torch:package.module:factory, or a Python backend's model.py.")
    platform: Literal["onnxruntime", "tensorrt", "auto", "python"] = Field(
        default="onnxruntime",
        description="What serves the model; auto builds a TensorRT plan where that is possible.",
    )
    precision: PrecisionOptions | PrecisionType | None = Field(
        default=None, description="FP16 and so on, or its fields; by default the graph's own types."
    )
    preprocess: PreprocessOptions | None = Field(
        default=None, description="Image preprocessing to write into the graph."
    )
    tensorrt: TensorRTOptions = Field(default=TensorRTOptions(), description="How the plan is built.")
    cc_model_files: dict[ComputeCapability, Path] | None = Field(
        default=None, description="By compute capability such as '8.0': a plan that was built for such GPUs."
    )
    files: tuple[Path, ...] | None = Field(
        default=None, description="Files that a Python model needs; copied beside it."
    )
    version: VersionNumber | None = Field(
        default=None, description="Version number; by default one more than the highest."
    )
    max_batch_size: Natural | None = Field(
        default=None, description="Largest batch; by default 32 where the graph can be batched, else 0."
    )
    dynamic_batching: DynamicBatching | bool = Field(
        default=True, description="true for the defaults, false for none, or its fields."
    )
    sequence_batching: SequenceBatching | None = Field(
        default=None, description="Requests are steps of sequences; instead of dynamic_batching."
    )
    input: tuple[InputOptions, ...] | None = Field(
        default=None, description="What differs from the graph's inputs, by name, such as reshape."
    )
    output: tuple[OutputOptions, ...] | None = Field(
        default=None, description="What differs from the graph's outputs, by name, such as reshape."
    )
    batch_input: tuple[BatchInput, ...] | None = Field(
        default=None, description="Inputs that the server fills from the requests of a batch."
    )
    batch_output: tuple[BatchOutput, ...] | None = Field(
        default=None, description="Outputs that are cut into the replies by the size of an input."
    )
    labels: dict[str, tuple[Text, ...] | Path] | None = Field(
        default=None, description="By output: names of its elements, as a list or a text file with one a line."
    )
    instance_group: tuple[InstanceGroup, ...] = Field(
        default=(InstanceGroup(),), min_length=1, description="Where it runs."
    )
    version_policy: VersionPolicy = Field(
        default=VersionPolicy(latest=Latest()), description="Which versions the server serves."
    )
    model_warmup: bool | tuple[WarmupSample, ...] = Field(
        default=True,
        description="What runs through every instance before it takes requests: true for zeros in the smallest and the "
        "largest batch (and in each profile's opt shapes), false for nothing, or samples.",
    )
    response_cache: ResponseCache | None = Field(default=None, description="Answer equal requests from memory.")
    model_transaction_policy: TransactionPolicy | None = Field(
        default=None, description="Whether a request may get several replies (Python models)."
    )
    model_metrics: ModelMetrics | None = Field(default=None, description="Buckets of the model's histograms.")
    metric_tags: MetricTags | None = Field(default=None, description="Labels of all metrics of the model.")
    model_repository_agents: ModelRepositoryAgents | None = Field(
        default=None, description="Agents that look at the model before it loads."
    )
    optimization: Optimization | None = Field(default=None, description="Settings of ONNX Runtime and of transfers.")
    parameters: dict[str, str] = Field(
        default_factory=dict, description="Settings of the backend, for example intra_op_thread_count."
    )
    verify: VerifyOptions = Field(default_factory=VerifyOptions, description="How it is proven before publishing.")

    @property
    def precision_options(self) -> PrecisionOptions | None:
        """The number types asked for; ``None`` keeps the graph's own."""
        return PrecisionOptions(type=self.precision) if isinstance(self.precision, str) else self.precision

    @property
    def plan_precision(self) -> PrecisionOptions:
        """The number types of a plan: those asked for, or what TensorRT does by itself, which is TF32."""
        return self.precision_options or PrecisionOptions()

    @property
    def needs_plan(self) -> bool:
        """Whether nothing but a plan computes in the precision asked for: ONNX Runtime's CPU has no kernels for it."""
        return self.precision_options is not None and self.precision_options.type in {"BF16", "FP8"}

    def resolved(self, folder: Path) -> ModelOptions:
        """The same options with their paths relative to a folder, usually that of the file they came from."""
        changed: dict[str, Any] = {"verify": self.verify.resolved(folder), "tensorrt": self.tensorrt.resolved(folder)}
        if not str(self.source).startswith("torch:"):
            changed["source"] = folder / self.source
        if isinstance(self.precision, PrecisionOptions):
            changed["precision"] = self.precision.resolved(folder)
        if self.sequence_batching is not None:
            changed["sequence_batching"] = self.sequence_batching.resolved(folder)
        if not isinstance(self.model_warmup, bool):
            changed["model_warmup"] = tuple(sample.resolved(folder) for sample in self.model_warmup)
        if self.labels is not None:
            changed["labels"] = {
                name: folder / given if isinstance(given, Path) else given for name, given in self.labels.items()
            }
        if self.cc_model_files is not None:
            changed["cc_model_files"] = {key: folder / path for key, path in self.cc_model_files.items()}
        if self.files is not None:
            changed["files"] = tuple(folder / path for path in self.files)
        return self.model_copy(update=changed)

    @property
    def decoupled(self) -> bool:
        """Whether a request may get any number of replies."""
        return self.model_transaction_policy is not None and self.model_transaction_policy.decoupled

    @pydantic.model_validator(mode="after")
    def _fit_together(self) -> ModelOptions:
        check_platform(self)
        check_schedulers(self)
        check_instances(self)
        check_tensors(self)
        return self
