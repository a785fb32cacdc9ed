"""``ModelOptimizationPolicy``: how backends execute a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import Natural, Size

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

TENSORRT_ACCELERATOR_KEYS: Final = frozenset(
    {
        "precision_mode",
        "max_workspace_size_bytes",
        "int8_calibration_table_name",
        "int8_use_native_calibration_table",
        "trt_max_partition_iterations",
        "trt_min_subgraph_size",
        "trt_dla_enable",
        "trt_dla_core",
        "trt_engine_cache_enable",
        "trt_engine_cache_path",
        "trt_engine_cache_prefix",
        "trt_dump_subgraphs",
        "trt_force_sequential_engine_build",
        "trt_context_memory_sharing_enable",
        "trt_layer_norm_fp32_fallback",
        "trt_timing_cache_enable",
        "trt_timing_cache_path",
        "trt_force_timing_cache",
        "trt_detailed_build_log",
        "trt_build_heuristics_enable",
        "trt_sparsity_enable",
        "trt_builder_optimization_level",
        "trt_auxiliary_streams",
        "trt_tactic_sources",
        "trt_extra_plugin_lib_paths",
        "trt_profile_min_shapes",
        "trt_profile_max_shapes",
        "trt_profile_opt_shapes",
        "trt_cuda_graph_enable",
        "trt_dump_ep_context_model",
        "trt_ep_context_file_path",
        "trt_ep_context_embed_mode",
    }
)
"""Parameters that the ONNX Runtime backend knows for its TensorRT accelerator (``onnxruntime.cc``, LoadModel)."""

_PRECISION_MODES: Final = ("FP32", "FP16", "BF16", "INT8")


class GraphOptimization(DeclaredModel):
    """``ModelOptimizationPolicy.Graph``."""

    level: Literal[-1, 0, 1, 2] = Field(
        description="ONNX Runtime's graph optimisations: -1 basic, 0 all, 1 extended, 2 none."
    )


class PinnedMemory(DeclaredModel):
    """``ModelOptimizationPolicy.PinnedMemoryBuffer``."""

    enable: bool = Field(description="Stage transfers through pinned memory.")


class GraphLowerBound(DeclaredModel):
    """``Cuda.GraphSpec.LowerBound``: the smallest request that a CUDA graph answers."""

    batch_size: Natural = Field(default=0, description="Rows; 0 without batches.")
    input: dict[str, tuple[Size, ...]] = Field(description="By input, its sizes without the batch.")


class GraphSpec(DeclaredModel):
    """``Cuda.GraphSpec``: one shape that a CUDA graph is captured for."""

    batch_size: Natural = Field(default=0, description="Rows; 0 without batches.")
    input: dict[str, tuple[Size, ...]] = Field(  # rule T57
        default_factory=dict,
        description="By input, its sizes without the batch: of all inputs, or of none where the plan's do not vary.",
    )
    graph_lower_bound: GraphLowerBound | None = Field(
        default=None, description="Smaller requests down to this one are padded and answered by the same graph."
    )

    @pydantic.model_validator(mode="after")
    def _bound_is_lower(self) -> GraphSpec:
        bound = self.graph_lower_bound
        if bound is None:
            return self
        if bound.batch_size > self.batch_size:  # rule T54
            raise PlacedError(
                at=("graph_lower_bound", "batch_size"), expected=f"at most {self.batch_size}", got=str(bound.batch_size)
            )
        for name, sizes in self.input.items():  # rules T55, T56 and T58
            below = bound.input.get(name)
            if (
                below is None
                or len(below) != len(sizes)
                or any(low > high for low, high in zip(below, sizes, strict=True))
            ):
                raise PlacedError(
                    at=("graph_lower_bound", "input"),
                    expected=f"'{name}' with sizes of at most {list(sizes)}",
                    got="none" if below is None else str(list(below)),
                )
        return self


class CudaOptimization(DeclaredModel):
    """``ModelOptimizationPolicy.Cuda``: how the TensorRT backend launches work."""

    graphs: bool = Field(default=True, description="Launch a batch size that comes again as one CUDA graph.")
    busy_wait_events: bool = Field(default=False, description="Wait for the GPU in a loop, which costs a core.")
    graph_spec: tuple[GraphSpec, ...] | None = Field(
        default=None, min_length=1, description="The shapes to capture; by default those of usual batches."
    )
    output_copy_stream: bool = Field(default=False, description="Copy outputs on a stream of their own.")

    @pydantic.model_validator(mode="after")
    def _graphs_are_on(self) -> CudaOptimization:
        if self.graph_spec is not None and not self.graphs:
            raise PlacedError(at=("graph_spec",), expected="graphs: true beside it", got="graphs: false")
        return self


class GpuAccelerator(DeclaredModel):
    """``ExecutionAccelerators.Accelerator`` of instances on a GPU."""

    name: Literal["tensorrt", "cuda"] = Field(  # rule O5
        description="ONNX Runtime's provider: tensorrt builds engines from parts of the graph; cuda takes parameters."
    )
    parameters: dict[str, str] = Field(default_factory=dict, description="Its parameters.")

    @pydantic.model_validator(mode="after")
    def _known_parameters(self) -> GpuAccelerator:
        if self.name != "tensorrt":
            return self
        for key, value in self.parameters.items():
            if key not in TENSORRT_ACCELERATOR_KEYS:  # rule O7
                raise PlacedError(
                    at=("parameters", key), expected=f"one of {', '.join(sorted(TENSORRT_ACCELERATOR_KEYS))}", got=key
                )
            if key == "precision_mode" and value not in _PRECISION_MODES:  # rule O6
                raise PlacedError(at=("parameters", key), expected=f"one of {', '.join(_PRECISION_MODES)}", got=value)
        return self


class CpuAccelerator(DeclaredModel):
    """``ExecutionAccelerators.Accelerator`` of instances on the CPU."""

    name: Literal["openvino"] = Field(description="ONNX Runtime's provider.")  # rule O5
    parameters: dict[str, str] = Field(default_factory=dict, description="Its parameters.")


class ExecutionAccelerators(DeclaredModel):
    """``ModelOptimizationPolicy.ExecutionAccelerators``: ONNX Runtime's providers beside the usual ones."""

    gpu_execution_accelerator: tuple[GpuAccelerator, ...] = Field(
        default=(), description="On GPUs, first choice first."
    )
    cpu_execution_accelerator: tuple[CpuAccelerator, ...] = Field(default=(), description="On the CPU.")

    @pydantic.model_validator(mode="after")
    def _some(self) -> ExecutionAccelerators:
        if not self.gpu_execution_accelerator and not self.cpu_execution_accelerator:
            raise PlacedError(expected="gpu_execution_accelerator or cpu_execution_accelerator", got="neither")
        return self


class Optimization(DeclaredModel):
    """``ModelOptimizationPolicy``."""

    graph: GraphOptimization | None = Field(default=None, description="Graph optimisation level.")
    priority: Literal["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"] | None = Field(
        default=None, description="Priority of this model's execution."
    )
    cuda: CudaOptimization | None = Field(default=None, description="Settings of the TensorRT backend.")
    execution_accelerators: ExecutionAccelerators | None = Field(
        default=None, description="Accelerators of ONNX Runtime."
    )
    input_pinned_memory: PinnedMemory | None = Field(default=None, description="Pinned memory for inputs.")
    output_pinned_memory: PinnedMemory | None = Field(default=None, description="Pinned memory for outputs.")
    gather_kernel_buffer_threshold: Natural | None = Field(
        default=None, description="Requests from which on a kernel gathers their inputs; TensorRT plans only, 0 never."
    )
    eager_batching: bool | None = Field(
        default=None, description="Prepare the next batch before an instance is free; TensorRT plans only."
    )

    @property
    def plan_only(self) -> list[str]:
        """Names of what is set and means something for plans only."""
        names = ("cuda", "gather_kernel_buffer_threshold", "eager_batching")
        return [name for name in names if getattr(self, name) is not None]

    @property
    def onnx_only(self) -> list[str]:
        """Names of what is set and means something for ONNX Runtime only."""
        return [name for name in ("graph", "execution_accelerators") if getattr(self, name) is not None]
