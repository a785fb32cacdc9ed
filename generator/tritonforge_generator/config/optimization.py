"""``optimization``: how backends execute a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tritonforge_generator.config.fields import Enum, Field, map_entry, message, text_entries
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.graph import GraphTensor
from tritonforge_generator.spec import CudaOptimization, ExecutionAccelerators, GraphSpec, ModelOptions, Optimization

_LEVELS = {-1: "basic", 0: "all", 1: "extended", 2: "no"}


def optimization_field(options: ModelOptions, inputs: Sequence[GraphTensor], *, max_batch_size: int) -> Field | None:
    """``optimization``, where declared.

    Args:
        options: What the user declared.
        inputs: What the graph takes.
        max_batch_size: As it will be configured.

    Raises:
        ConfigError: A CUDA graph is asked for that the model cannot be captured with.
    """
    declared = options.optimization
    if declared is not None and options.platform != "tensorrt":  # of no use where `auto` chose ONNX Runtime
        declared = declared.model_copy(update=dict.fromkeys(declared.plan_only))
    if declared is None or declared == Optimization():
        return None
    if declared.cuda is not None:
        for spec in declared.cuda.graph_spec or ():
            _check_graph_spec(spec, options.name, inputs, max_batch_size=max_batch_size)
    return message("optimization", *_fields(declared))


def _fields(declared: Optimization) -> Iterator[Field]:
    if declared.graph is not None:
        level = declared.graph.level
        yield message("graph", Field("level", level, f"{_LEVELS[level]} graph optimisations of ONNX Runtime"))
    if declared.priority is not None:
        yield Field("priority", Enum(declared.priority), "as declared")
    if declared.cuda is not None:
        yield _cuda_field(declared.cuda)
    if declared.execution_accelerators is not None:
        yield _accelerators_field(declared.execution_accelerators)
    for name in ("input_pinned_memory", "output_pinned_memory"):
        memory = getattr(declared, name)
        if memory is not None:
            yield message(name, Field("enable", memory.enable, "as declared"))
    threshold = declared.gather_kernel_buffer_threshold
    if threshold is not None:
        reason = "a kernel gathers the inputs of so many requests" if threshold > 0 else "inputs are copied one by one"
        yield Field("gather_kernel_buffer_threshold", threshold, reason)
    if declared.eager_batching is not None:
        reason = "the next batch is prepared early" if declared.eager_batching else "batches wait for a free instance"
        yield Field("eager_batching", declared.eager_batching, reason)


def _cuda_field(cuda: CudaOptimization) -> Field:
    launched = "a batch size that comes again is launched as one CUDA graph" if cuda.graphs else "layer by layer"
    return message(
        "cuda",
        Field("graphs", cuda.graphs, launched),
        Field("busy_wait_events", value=True, reason="waits in a loop") if cuda.busy_wait_events else None,
        *(_graph_spec_field(spec) for spec in cuda.graph_spec or ()),
        Field("output_copy_stream", value=True, reason="outputs on their own stream")
        if cuda.output_copy_stream
        else None,
    )


def _graph_spec_field(spec: GraphSpec) -> Field:
    bound = spec.graph_lower_bound
    return message(
        "graph_spec",
        Field("batch_size", spec.batch_size, "rows of the shape to capture"),
        *_shapes(spec.input),
        message(
            "graph_lower_bound",
            Field("batch_size", bound.batch_size, "smaller requests are padded, down to this one"),
            *_shapes(bound.input),
        )
        if bound is not None
        else None,
    )


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Field]:
    for name, sizes in shapes.items():
        yield map_entry("input", name, Field("dim", list(sizes), "as declared"), reason="the input")


def _check_graph_spec(spec: GraphSpec, model: str, inputs: Sequence[GraphTensor], *, max_batch_size: int) -> None:
    """The checks of ``ValidateGraphSpec`` in the TensorRT backend."""
    low = 1 if max_batch_size > 0 else 0
    sizes = [spec.batch_size, *([spec.graph_lower_bound.batch_size] if spec.graph_lower_bound is not None else [])]
    if any(not low <= size <= max_batch_size for size in sizes):  # rules T52 and T53
        raise ConfigError(
            f"model '{model}': optimization.cuda.graph_spec has a batch_size that the model does not take",
            expected=f"{low} to {max_batch_size}" if low else "0, because max_batch_size is 0",
            got=str(sizes),
        )
    known = {tensor.name: tensor.dims(batched=max_batch_size > 0) for tensor in inputs}
    for name, shape in spec.input.items():
        dims = known.get(name)
        if (
            dims is None
            or len(dims) != len(shape)
            or any(-1 != dim != size for dim, size in zip(dims, shape, strict=True))
        ):
            raise ConfigError(
                f"model '{model}': optimization.cuda.graph_spec does not fit the graph's inputs",
                expected=", ".join(f"'{one}' {list(sizes)}" for one, sizes in known.items()),
                got=f"'{name}' {list(shape)}",
            )
    # With some inputs the backend wants them all, and without any it takes a profile's opt shapes (SetCudaGraphShape).
    missing = [name for name, dims in known.items() if name not in spec.input and (spec.input or -1 in dims)]
    if missing:
        raise ConfigError(
            f"model '{model}': optimization.cuda.graph_spec leaves a size open",
            expected="the sizes of every input",
            got=f"none for {', '.join(missing)}",
        )


def _accelerators_field(accelerators: ExecutionAccelerators) -> Field:
    reasons = {
        "tensorrt": "parts of the graph become TensorRT engines while the model loads",
        "cuda": "parameters of the CUDA provider",
        "openvino": "Intel's provider, where the server has it",
    }
    keys = ("gpu_execution_accelerator", "cpu_execution_accelerator")
    return message(
        "execution_accelerators",
        *(
            message(key, Field("name", one.name, reasons[one.name]), *text_entries("parameters", one.parameters))
            for key in keys
            for one in getattr(accelerators, key)
        ),
    )
