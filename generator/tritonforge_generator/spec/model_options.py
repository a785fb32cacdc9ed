"""Options of one model. Names are those of ``model_config.proto`` wherever the option becomes a field of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.names import model_name_objection
from tritonforge_generator.spec.precision_options import PrecisionOptions, PrecisionType
from tritonforge_generator.spec.preprocess_options import PreprocessOptions
from tritonforge_generator.spec.tensorrt_options import TensorRTOptions

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

Count = Annotated[int, Field(ge=1)]
Microseconds = Annotated[int, Field(ge=0)]


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
        default=True, description="Let a request shorten its wait with its own deadline."
    )
    max_queue_size: Annotated[int, Field(ge=0)] = Field(
        default=1024, description="Requests that may wait; more are refused at once. 0 means no limit."
    )


class DynamicBatching(DeclaredModel):
    """``ModelDynamicBatching``: how single requests become batches."""

    preferred_batch_size: tuple[Count, ...] = Field(default=(), description="Batch sizes worth waiting for.")
    max_queue_delay_microseconds: Microseconds = Field(default=0, description="How long to wait for a fuller batch.")
    preserve_ordering: bool = Field(default=False, description="Answer in the order of arrival.")
    default_queue_policy: QueuePolicy | None = Field(
        default=None, description="The queue's limits; costs rare waits of up to 0.5 s, see the class."
    )


class InstanceGroup(DeclaredModel):
    """``ModelInstanceGroup``: how many copies of the model run, and where."""

    kind: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"] = Field(
        default="KIND_AUTO", description="KIND_AUTO takes the GPUs where there are some, else the CPU."
    )
    count: Count = Field(default=1, description="Instances, for each GPU listed or found.")
    gpus: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), description="GPU ids; none means all.")
    profile: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="Optimisation profiles of a TensorRT plan that its instances use; none means all."
    )

    @pydantic.model_validator(mode="after")
    def _no_gpus_on_cpu(self) -> InstanceGroup:
        if self.kind == "KIND_CPU" and self.gpus:
            raise PlacedError(
                at=("gpus",), expected="no GPU ids for KIND_CPU", got=str(list(self.gpus)), action="Use KIND_GPU."
            )
        return self


class Latest(DeclaredModel):
    """``ModelVersionPolicy.Latest``."""

    num_versions: Count = Field(default=1, description="How many of the highest version numbers to serve.")


class All(DeclaredModel):
    """``ModelVersionPolicy.All``."""


class Specific(DeclaredModel):
    """``ModelVersionPolicy.Specific``."""

    versions: tuple[Count, ...] = Field(min_length=1, description="The version numbers to serve.")


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


class GraphOptimization(DeclaredModel):
    """``ModelOptimizationPolicy.Graph``."""

    level: Literal[-1, 0, 1, 2] = Field(
        description="ONNX Runtime's graph optimisations: -1 basic, 0 all, 1 extended, 2 none."
    )


class PinnedMemory(DeclaredModel):
    """``ModelOptimizationPolicy.PinnedMemoryBuffer``."""

    enable: bool = Field(description="Stage transfers through pinned memory.")


class CudaOptimization(DeclaredModel):
    """``ModelOptimizationPolicy.Cuda``: how the TensorRT backend launches work."""

    graphs: bool = Field(default=True, description="Launch a batch size that comes again as one CUDA graph.")
    busy_wait_events: bool = Field(default=False, description="Wait for the GPU in a loop, which costs a core.")
    output_copy_stream: bool = Field(default=False, description="Copy outputs on a stream of their own.")


class Optimization(DeclaredModel):
    """``ModelOptimizationPolicy``."""

    graph: GraphOptimization | None = Field(default=None, description="Graph optimisation level.")
    cuda: CudaOptimization | None = Field(default=None, description="Settings of the TensorRT backend.")
    priority: Literal["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"] | None = Field(
        default=None, description="Priority of this model's execution."
    )
    input_pinned_memory: PinnedMemory | None = Field(default=None, description="Pinned memory for inputs.")
    output_pinned_memory: PinnedMemory | None = Field(default=None, description="Pinned memory for outputs.")


class VerifyOptions(DeclaredModel):
    """How a model is proven before it is published."""

    samples: Path | None = Field(
        default=None, description="An .npz file: one array per input, samples on the first axis."
    )
    seed: int = Field(default=0, description="Seed of drawn samples.")
    shapes: dict[str, tuple[Count, ...]] = Field(
        default_factory=dict, description="By input: the shape of one sample, for dynamic axes."
    )
    rtol: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Relative tolerance; by default the dtype's."
    )
    atol: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Absolute tolerance; by default the dtype's."
    )


class ModelOptions(DeclaredModel):
    """One model to generate."""

    name: str = Field(description="Model name: the folder in the repository and the name clients call.")
    source: Path = Field(description="The ONNX file, or torch:package.module:factory.")
    platform: Literal["onnxruntime", "tensorrt", "auto"] = Field(
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
    version: Count | None = Field(default=None, description="Version number; by default one more than the highest.")
    max_batch_size: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Largest batch; by default 32 where the graph can be batched, else 0."
    )
    dynamic_batching: DynamicBatching | bool = Field(
        default=True, description="true for the defaults, false for none, or its fields."
    )
    instance_group: tuple[InstanceGroup, ...] = Field(
        default=(InstanceGroup(),), min_length=1, description="Where it runs."
    )
    version_policy: VersionPolicy = Field(
        default=VersionPolicy(latest=Latest()), description="Which versions the server serves."
    )
    model_warmup: bool = Field(default=True, description="Run zeros through every instance before it takes requests.")
    response_cache: ResponseCache | None = Field(default=None, description="Answer equal requests from memory.")
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

    @pydantic.model_validator(mode="after")
    def _platform_has_its_options(self) -> ModelOptions:
        plan_only = {
            "tensorrt": self.tensorrt != TensorRTOptions(),
            "optimization.cuda": self.optimization is not None and self.optimization.cuda is not None,
            "instance_group.profile": any(group.profile for group in self.instance_group),
            "a precision that ONNX Runtime's CPU lacks": self.needs_plan,
        }
        given = [name for name, present in plan_only.items() if present]
        if self.platform == "onnxruntime" and given:
            raise PlacedError(at=("platform",), expected=f"tensorrt, because {given[0]} is set", got="onnxruntime")
        if self.platform != "onnxruntime" and self.optimization is not None and self.optimization.graph is not None:
            raise PlacedError(
                at=("optimization", "graph"), expected="nothing, because a plan has no ONNX Runtime", got="a level"
            )
        if self.tensorrt.strip_plan:
            raise PlacedError(
                at=("tensorrt", "strip_plan"),
                expected="false: Triton cannot put the weights back into a stripped plan",
                got="true",
            )
        if self.tensorrt.exclude_lean_runtime and not self.tensorrt.version_compatible:
            raise PlacedError(
                at=("tensorrt", "exclude_lean_runtime"), expected="version_compatible: true beside it", got="false"
            )
        if self.platform != "onnxruntime" and any(group.kind == "KIND_CPU" for group in self.instance_group):
            raise PlacedError(at=("instance_group",), expected="KIND_GPU or KIND_AUTO for a plan", got="KIND_CPU")
        return self

    @pydantic.field_validator("name")
    @classmethod
    def _safe_name(cls, name: str) -> str:
        objection = model_name_objection(name)
        if objection != "":
            raise PlacedError(
                expected="letters, digits, '_', '-' and '.', starting with a letter or digit", got=objection
            )
        return name
