"""N, O4 to O9: settings of the ONNX Runtime back-end in ``parameters`` and ``execution_accelerators``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge_generator.lint.finding import Severity
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule

_BOOLEANS: Final = frozenset({"true", "on", "1", "false", "off", "0"})
_INTEGER: Final = re.compile(r"\s*[+-]?\d+")
# In the order in which the back-end reads them.
_INTEGER_PARAMETERS: Final = ("execution_mode", "intra_op_thread_count", "inter_op_thread_count")
_BOOLEAN_PARAMETERS: Final = ("enable_mem_arena", "enable_mem_pattern", "share_session_between_instances")
PARAMETERS: Final = (
    *_INTEGER_PARAMETERS,
    *_BOOLEAN_PARAMETERS,
    "session.use_device_allocator_for_initializers",
    "memory.enable_memory_arena_shrinkage",
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
)
# Parameters of the accelerator "tensorrt" by the kind of their value.
_TENSORRT_INTEGERS: Final = frozenset(
    {
        "trt_max_partition_iterations",
        "trt_min_subgraph_size",
        "trt_dla_core",
        "trt_builder_optimization_level",
        "trt_auxiliary_streams",
        "trt_ep_context_embed_mode",
    }
)
_TENSORRT_BOOLEANS: Final = frozenset(
    {
        "int8_use_native_calibration_table",
        "trt_dla_enable",
        "trt_engine_cache_enable",
        "trt_dump_subgraphs",
        "trt_force_sequential_engine_build",
        "trt_context_memory_sharing_enable",
        "trt_layer_norm_fp32_fallback",
        "trt_timing_cache_enable",
        "trt_force_timing_cache",
        "trt_detailed_build_log",
        "trt_build_heuristics_enable",
        "trt_sparsity_enable",
        "trt_cuda_graph_enable",
        "trt_dump_ep_context_model",
    }
)
_TENSORRT_STRINGS: Final = frozenset(
    {
        "int8_calibration_table_name",
        "trt_engine_cache_path",
        "trt_engine_cache_prefix",
        "trt_timing_cache_path",
        "trt_tactic_sources",
        "trt_extra_plugin_lib_paths",
        "trt_profile_min_shapes",
        "trt_profile_max_shapes",
        "trt_profile_opt_shapes",
        "trt_ep_context_file_path",
    }
)
_TENSORRT_PARAMETERS: Final = (
    _TENSORRT_INTEGERS | _TENSORRT_BOOLEANS | _TENSORRT_STRINGS | {"precision_mode", "max_workspace_size_bytes"}
)
_CUDA_BOOLEANS: Final = frozenset({"do_copy_in_default_stream", "use_ep_level_unified_stream"})
_PRECISIONS: Final = ("FP32", "FP16", "BF16", "INT8")
_ACCELERATORS: Final = "optimization.execution_accelerators"


def _parameter(model: Model, name: str) -> str | None:
    parameters = model.config.parameters
    return str(parameters[name].string_value) if name in parameters else None


def _value_path(name: str) -> str:
    return f'parameters["{name}"].value.string_value'


def _integer(value: str) -> int | None:
    """Read a number as ``std::stoi`` does: what follows the digits does not matter."""
    match = _INTEGER.match(value)
    return None if match is None else int(match.group())


def _gpu_severity(model: Model) -> Severity | None:
    """Say how bad it is when a setting is wrong that only instances on a GPU read; ``None`` when no one reads it.

    KIND_AUTO becomes KIND_GPU on a host that has the listed GPUs, or any; what an undeclared host has is not known.
    """
    if not model.is_onnxruntime:
        return None
    groups = model.config.instance_group
    if any(enum_name(group, "kind") == "KIND_GPU" for group in groups):
        return "error"
    listed = [set(group.gpus) for group in groups if enum_name(group, "kind") == "KIND_AUTO"]
    listed = listed if len(groups) > 0 else [set()]
    gpus = None if model.host is None else model.host.supported_gpus
    if gpus is None:
        return "warning" if listed else None
    return "error" if gpus and any(ids <= set(gpus) for ids in listed) else None


def _accelerators(model: Model) -> Iterator[tuple[int, str, Message, Severity]]:
    """Yield ``(index, path, GPU accelerator, severity)``."""
    severity = _gpu_severity(model)
    if severity is not None:
        for index, entry in enumerate(model.config.optimization.execution_accelerators.gpu_execution_accelerator):
            yield index, f"{_ACCELERATORS}.gpu_execution_accelerator[{index}]", entry, severity


def _accelerator_values(model: Model, name: str) -> Iterator[tuple[tuple[int, ...], str, str, str, Severity]]:
    """Yield ``(place in order, path, parameter, value, severity)`` of the accelerators of one name."""
    for index, path, entry, severity in _accelerators(model):
        for key in sorted(entry.parameters) if entry.name == name else ():
            yield (len(PARAMETERS), index), f'{path}.parameters["{key}"].value', key, entry.parameters[key], severity


@rule(
    "N1",
    text="failed to convert '{value}' to boolean",
    fix="Write true or false as a string_value for '{name}'.",
)
def boolean_settings_are_booleans(model: Model) -> Iterator[Hit]:
    """Switches of the ONNX Runtime back-end are true, on, 1, false, off or 0, in any case."""
    if not model.is_onnxruntime:
        return
    for order, name in enumerate(_BOOLEAN_PARAMETERS, len(_INTEGER_PARAMETERS)):
        value = _parameter(model, name)
        if value is not None and value.lower() not in _BOOLEANS:
            yield Hit(_value_path(name), {"value": value, "name": name}, at=(order,))
    for accelerator, booleans in (("tensorrt", _TENSORRT_BOOLEANS), ("cuda", _CUDA_BOOLEANS)):
        for at, path, name, value, severity in _accelerator_values(model, accelerator):
            if name in booleans and value.lower() not in _BOOLEANS:
                yield Hit(path, {"value": value, "name": name}, at=at, severity=severity)


@rule(
    "N2",
    text="failed to convert '{value}' to integral number",
    fix="Write a number as a string_value for '{name}'.",
)
def integer_settings_are_numbers(model: Model) -> Iterator[Hit]:
    """Counts and modes of the ONNX Runtime back-end begin with a number."""
    if not model.is_onnxruntime:
        return
    for order, name in enumerate(_INTEGER_PARAMETERS):
        value = _parameter(model, name)
        if value is not None and _integer(value) is None:
            yield Hit(_value_path(name), {"value": value, "name": name}, at=(order,))
    severity = _gpu_severity(model)
    for order, name in enumerate(("cudnn_conv_algo_search", "arena_extend_strategy"), len(PARAMETERS) + 1):
        value = _parameter(model, name)
        if severity is not None and value is not None and _integer(value) is None:
            yield Hit(_value_path(name), {"value": value, "name": name}, at=(order,), severity=severity)
    for at, path, name, value, kind in _accelerator_values(model, "tensorrt"):
        if name in _TENSORRT_INTEGERS and _integer(value) is None:
            yield Hit(path, {"value": value, "name": name}, at=at, severity=kind)


@rule(
    "N3",
    text="failed to convert '{value}' to unsigned long long integral number",
    fix="Write a number of bytes for '{name}'.",
)
def workspace_is_a_number(model: Model) -> Iterator[Hit]:
    """``max_workspace_size_bytes`` of the accelerator tensorrt begins with a number."""
    for at, path, name, value, severity in _accelerator_values(model, "tensorrt"):
        if name == "max_workspace_size_bytes" and _integer(value) is None:
            yield Hit(path, {"value": value, "name": name}, at=at, severity=severity)


@rule(
    "O4",
    text="Invalid configuration value provided. Expected values for  execution_mode are 0 or 1 but got {value} .",
    fix='Write "0" (one node after the other) or "1" (branches in parallel).',
)
def execution_mode_is_known(model: Model) -> Iterator[Hit]:
    """The parameter ``execution_mode`` is 0 or 1."""
    value = _parameter(model, "execution_mode")
    number = None if value is None else _integer(value)
    if model.is_onnxruntime and number is not None and number not in {0, 1}:
        yield Hit(_value_path("execution_mode"), {"value": number}, at=(0,))


@rule(
    "O5",
    text="unknown Execution Accelerator '{name}' is requested",
    fix="GPU accelerators are tensorrt and cuda, the only CPU accelerator is openvino.",
)
def accelerator_is_known(model: Model) -> Iterator[Hit]:
    """The ONNX Runtime back-end knows the accelerators tensorrt and cuda on a GPU and openvino on the CPU."""
    for index, path, entry, severity in _accelerators(model):
        if entry.name not in {"tensorrt", "cuda"}:
            yield Hit(f"{path}.name", {"name": entry.name}, at=(0, index), severity=severity)
    if model.is_onnxruntime:
        for index, entry in enumerate(model.config.optimization.execution_accelerators.cpu_execution_accelerator):
            if entry.name != "openvino":
                path = f"{_ACCELERATORS}.cpu_execution_accelerator[{index}].name"
                yield Hit(path, {"name": entry.name}, at=(2, index))


@rule(
    "O6",
    text="unsupported precision mode '{value}' is requested",
    fix="Write FP32, FP16, BF16 or INT8.",
)
def accelerator_precision_is_known(model: Model) -> Iterator[Hit]:
    """``precision_mode`` of the accelerator tensorrt is FP32, FP16, BF16 or INT8."""
    for at, path, name, value, severity in _accelerator_values(model, "tensorrt"):
        if name == "precision_mode" and value not in _PRECISIONS:
            yield Hit(path, {"value": value}, at=(0, *at[1:]), severity=severity)


@rule(
    "O7",
    text="unknown parameter '{name}' is provided for TensorRT Execution Accelerator",
    fix="Remove it or correct its name.",
)
def accelerator_parameter_is_known(model: Model) -> Iterator[Hit]:
    """The accelerator tensorrt refuses parameters that it does not know."""
    for at, path, name, _, severity in _accelerator_values(model, "tensorrt"):
        if name not in _TENSORRT_PARAMETERS:
            yield Hit(path, {"name": name}, at=(0, *at[1:]), severity=severity)


@rule(
    "O8",
    text="unsupported cudnn_conv_algo_search value '{value}' is requested",
    fix='Write "0" (exhaustive), "1" (heuristic) or "2" (default).',
)
def convolution_search_is_known(model: Model) -> Iterator[Hit]:
    """The parameter ``cudnn_conv_algo_search`` is 0, 1 or 2."""
    yield from _choice(model, "cudnn_conv_algo_search", 2)


@rule(
    "O9",
    text="unsupported arena_extend_strategy value '{value}' is requested",
    fix='Write "0" (next power of two) or "1" (as requested).',
)
def arena_strategy_is_known(model: Model) -> Iterator[Hit]:
    """The parameter ``arena_extend_strategy`` is 0 or 1."""
    yield from _choice(model, "arena_extend_strategy", 1)


def _choice(model: Model, name: str, largest: int) -> Iterator[Hit]:
    value, severity = _parameter(model, name), _gpu_severity(model)
    number = None if value is None else _integer(value)
    if severity is not None and number is not None and not 0 <= number <= largest:
        yield Hit(_value_path(name), {"value": number}, at=(1,), severity=severity)
