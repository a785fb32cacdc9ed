"""Options of a TensorRT build. Names are those of ``IBuilderConfig`` and ``BuilderFlag`` wherever they set one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import Natural, Number, Size

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

MemoryPool = Literal["DLA_MANAGED_SRAM", "DLA_LOCAL_DRAM", "DLA_GLOBAL_DRAM", "TACTIC_DRAM", "TACTIC_SHARED_MEMORY"]
TacticSource = Literal["CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
PreviewFeature = Literal[
    "FASTER_DYNAMIC_SHAPES_0805",
    "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805",
    "PROFILE_SHARING_0806",
    "ALIASED_PLUGIN_IO_10_03",
    "RUNTIME_ACTIVATION_RESIZE_10_10",
    "MULTIDEVICE_RUNTIME_10_16",
]


class ProfileShapes(DeclaredModel):
    """The shapes of one input in one optimisation profile, in full, the batch included."""

    min: tuple[Size, ...] = Field(description="The smallest shape.")
    opt: tuple[Size, ...] = Field(description="The shape that tactics are timed with.")
    max: tuple[Size, ...] = Field(description="The largest shape.")

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> ProfileShapes:
        ranks = {len(self.min), len(self.opt), len(self.max)}
        sizes = list(zip(self.min, self.opt, self.max, strict=False))
        if len(ranks) > 1 or any(not low <= middle <= high for low, middle, high in sizes):
            raise PlacedError(expected="min <= opt <= max, axis by axis", got=f"{self.min}, {self.opt}, {self.max}")
        return self


class TensorRTOptions(DeclaredModel):
    """How a plan is built."""

    profiles: tuple[dict[str, ProfileShapes], ...] = Field(
        default=(),
        description="Optimisation profiles, each by input; by default one, from 1 to max_batch_size.",
    )
    opt_batch_size: Size | None = Field(
        default=None, description="Batch that tactics are timed with; by default the largest preferred one."
    )
    workspace_bytes: Size | None = Field(default=None, description="Scratch memory limit; by default all of the GPU's.")
    memory_pool_bytes: dict[MemoryPool, Size] = Field(
        default_factory=dict, description="Limits of the other memory pools, by name in MemoryPoolType."
    )
    builder_optimization_level: Annotated[int, Field(ge=0, le=5)] = Field(
        default=3, description="0 builds fastest, 5 searches longest."
    )
    avg_timing_iterations: Size | None = Field(default=None, description="Runs that a tactic's time is the mean of.")
    max_num_tactics: Size | None = Field(default=None, description="Tactics tried a layer (TensorRT 10.4 or later).")
    max_aux_streams: Natural | None = Field(
        default=None, description="Streams beside the main one that layers may run on."
    )
    tiling_optimization_level: Literal["NONE", "FAST", "MODERATE", "FULL"] = Field(
        default="NONE", description="Search for tilings that keep data in the L2 cache (TensorRT 10.8 or later)."
    )
    l2_limit_for_tiling: Size | None = Field(
        default=None, description="Bytes of the L2 cache that tilings may use (TensorRT 10.8 or later)."
    )
    tactic_sources: tuple[TacticSource, ...] = Field(
        default=("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"),
        description="Kernels beside TensorRT's core ones; CUBLAS, CUBLAS_LT and CUDNN are gone in TensorRT 11.",
    )
    preview_features: dict[PreviewFeature, bool] = Field(
        default_factory=dict, description="Features of one version to turn on or off, by name in PreviewFeature."
    )
    distributive_independence: bool = Field(
        default=False, description="Equal rows give equal answers, wherever they are (TensorRT 10.12 or later)."
    )
    sparse_weights: bool = Field(default=False, description="Use 2:4 structured sparsity where the weights have it.")
    version_compatible: bool = Field(
        default=False, description="A plan that newer TensorRT can load; the server needs version-compatible=true."
    )
    exclude_lean_runtime: bool = Field(
        default=False, description="Leave the lean runtime out of a version-compatible plan."
    )
    hardware_compatibility_level: Literal["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"] = Field(
        default="NONE", description="Other GPUs that the plan must run on; costs speed."
    )
    refit: bool = Field(default=False, description="Weights can be replaced in the plan.")
    strip_plan: bool = Field(
        default=False, description="Leave the weights out; Triton cannot load such a plan (TensorRT 10 or later)."
    )
    dla_core: Natural | None = Field(default=None, description="Run on this DLA core (Jetson).")
    gpu_fallback: bool = Field(default=True, description="Layers that the DLA cannot run go to the GPU.")
    plugins: tuple[Path, ...] = Field(default=(), description="Plugin libraries to load first.")
    device_id: Natural = Field(default=0, description="The GPU that builds.")
    timing_cache: bool | Path = Field(
        default=True, description="Keep measured tactics: true for the user's cache folder, a folder, or false."
    )
    error_on_timing_cache_miss: bool = Field(
        default=False, description="Fail where the timing cache lacks a tactic (TensorRT 10 or later)."
    )
    disable_compilation_cache: bool = Field(
        default=False, description="Keep compiled code out of the timing cache (TensorRT 10 or later)."
    )
    time_budget_s: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="Longest build; a build that takes longer is stopped and nothing is published."
    )

    @pydantic.model_validator(mode="after")
    def _has_what_it_must_hit(self) -> TensorRTOptions:
        if self.error_on_timing_cache_miss and self.timing_cache is False:
            raise PlacedError(at=("error_on_timing_cache_miss",), expected="a timing cache", got="timing_cache: false")
        return self

    def resolved(self, folder: Path) -> TensorRTOptions:
        """The same options with their paths relative to a folder."""
        cache = self.timing_cache if isinstance(self.timing_cache, bool) else folder / self.timing_cache
        return self.model_copy(update={"plugins": tuple(folder / path for path in self.plugins), "timing_cache": cache})
