"""L: what the server accepts although it is almost surely not meant. The texts are ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final

from tritonforge_generator.lint.model import CONFIG_FILENAME, Model
from tritonforge_generator.lint.onnx_io import OnnxGraph
from tritonforge_generator.lint.plan_io import PlanIo
from tritonforge_generator.lint.proto import enum_name
from tritonforge_generator.lint.rule import Hit, rule
from tritonforge_generator.lint.rules.onnx_settings import PARAMETERS

_IMAGE_BATCH_RANK: Final = 4


@rule(
    "L1",
    severity="warning",
    text="{kind} '{tensor}' is configured twice; the second entry is dropped",
    fix="Remove one of the two.",
)
def tensor_names_differ(model: Model) -> Iterator[Hit]:
    """Two inputs, or two outputs, do not share a name."""
    seen: set[tuple[str, str]] = set()
    for kind, index, tensor in model.tensors():
        if tensor.name != "" and (kind, tensor.name) in seen:
            yield Hit(f"{kind}[{index}].name", {"kind": kind, "tensor": tensor.name})
        seen.add((kind, tensor.name))


@rule(
    "L2",
    severity="warning",
    text="step {step} leaves `model_version` out, which asks for version 0 of '{name}', not for the latest",
    fix="Write `model_version: -1` for the latest version.",
)
def step_version_is_written(model: Model) -> Iterator[Hit]:
    """A step says which version it wants: left out it is 0, and -1 is the latest."""
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        path = f"ensemble_scheduling.step[{index}]"
        if step.model_version == 0 and not model.is_written(f"{path}.model_version"):
            yield Hit(path, {"step": index, "name": step.model_name})


@rule(
    "L4",
    needs="dir",
    severity="warning",
    text="version directory '{directory}' is read as version {version}, whose files the server looks for in "
    "'{version}'",
    fix="Rename it to '{version}'.",
)
def version_directory_is_plain(model: Model) -> Iterator[Hit]:
    """A version directory is named by its number and nothing else: ``1abc`` counts as 1."""
    for version, name in model.existing_versions.items():
        if name != str(version):
            yield Hit("", {"directory": name, "version": version}, file=model.directory / name)


@rule(
    "L5",
    severity="warning",
    text="requests are never batched: max_batch_size is {limit} but there is no `dynamic_batching`, and the server "
    "adds none because inputs and outputs are written",
    fix="Add `dynamic_batching {{ }}`, or write `max_batch_size: 1` when batching is not wanted.",
)
def batching_model_has_a_batcher(model: Model) -> Iterator[Hit]:
    """With inputs and outputs written, ONNX models are only batched when ``dynamic_batching`` is written as well."""
    config = model.config
    if (
        model.is_onnxruntime
        and not model.completes_onnx
        and config.max_batch_size > 1
        and config.WhichOneof("scheduling_choice") is None
    ):
        yield Hit("max_batch_size", {"limit": config.max_batch_size})


@rule(
    "L6",
    severity="warning",
    text="`dynamic_batching` has nothing to batch: max_batch_size is {limit}",
    fix="Raise max_batch_size, or remove `dynamic_batching`.",
)
def batcher_has_room(model: Model) -> Iterator[Hit]:
    """``dynamic_batching`` needs a ``max_batch_size`` of at least 2 to put requests together.

    Priorities, queue policies and ``preserve_ordering`` have their effect without batches too.
    """
    served, batching = model.served, model.config.dynamic_batching
    orders = batching.priority_levels > 0 or batching.HasField("default_queue_policy") or batching.preserve_ordering
    if served is None or orders or not model.config.HasField("dynamic_batching"):
        return
    if 0 <= served.max_batch_size <= 1:
        yield Hit("dynamic_batching", {"limit": served.max_batch_size})


@rule(
    "L7",
    severity="warning",
    text="`preferred_batch_size` leaves out max_batch_size ({limit}), so a full batch is not preferred",
    fix="Add {limit}, or leave `preferred_batch_size` out: the largest batch is then preferred.",
)
def largest_batch_is_preferred(model: Model) -> Iterator[Hit]:
    """``preferred_batch_size`` contains ``max_batch_size``."""
    batching, limit = model.written.dynamic_batching, model.config.max_batch_size
    if len(batching.preferred_batch_size) > 0 and limit > 0 and limit not in batching.preferred_batch_size:
        yield Hit("dynamic_batching.preferred_batch_size", {"limit": limit})


@rule(
    "L8",
    severity="warning",
    text="`optimization.cuda` has no effect: only the TensorRT back-end reads it, not '{backend}'",
    fix="Remove `optimization.cuda`.",
)
def cuda_settings_are_for_tensorrt(model: Model) -> Iterator[Hit]:
    """``optimization.cuda`` is read by the TensorRT back-end alone."""
    config = model.config
    if config.optimization.HasField("cuda") and config.backend not in {"tensorrt", ""}:
        yield Hit("optimization.cuda", {"backend": config.backend})


@rule(
    "L9",
    severity="warning",
    text="`count: {count}` of instance group {group} is replaced by the default",
    fix="Write the number of instances, or remove the group's `count`.",
)
def instance_count_is_positive(model: Model) -> Iterator[Hit]:
    """``count`` is at least 1; 0 does not switch a group off."""
    for index, group in enumerate(model.config.instance_group):
        path = f"instance_group[{index}].count"
        if group.count < 1 and model.is_written(path):
            yield Hit(path, {"count": group.count, "group": group.name})


@rule(
    "L10",
    severity="warning",
    text="`format: {format}` of input '{tensor}' transposes nothing; the server only checks that there are 3 dims",
    fix="Remove `format`, and send the layout that the model takes.",
)
def format_does_not_transpose(model: Model) -> Iterator[Hit]:
    """``format`` is a note: neither TensorRT nor ONNX Runtime converts between NHWC and NCHW because of it."""
    for index, tensor in enumerate(model.config.input):
        name = enum_name(tensor, "format")
        if name != "FORMAT_NONE":
            yield Hit(f"input[{index}].format", {"format": name, "tensor": tensor.name})


@rule(
    "L11",
    severity="warning",
    text="parameter '{name}' is ignored: the ONNX Runtime back-end does not know it",
    fix="Did you mean '{near}'?",
)
def parameter_is_spelt_right(model: Model) -> Iterator[Hit]:
    """Unknown parameters are ignored without a word; one that is nearly a known one is a slip."""
    for name in sorted(model.config.parameters) if model.is_onnxruntime else ():
        near = difflib.get_close_matches(name.lower(), PARAMETERS, n=1, cutoff=0.8) if name not in PARAMETERS else []
        if near:
            yield Hit(f'parameters["{name}"]', {"name": name, "near": near[0]})


@rule(
    "L12",
    needs="dir",
    severity="warning",
    text="{path} is never read: the server looks for the config in the model's directory",
    fix="Move it up one level.",
)
def config_is_not_in_a_version(model: Model) -> Iterator[Hit]:
    """The config lies beside the version directories, not inside one."""
    for name in model.existing_versions.values():
        path = model.directory / name / CONFIG_FILENAME
        if path.is_file():
            yield Hit("", {"path": path}, file=path)


@rule(
    "L14",
    needs="dir",
    severity="warning",
    text="the server guesses the back-end from '{directory}', which is no version: it looks into the alphabetically "
    "first sub-directory",
    fix="Write `backend`, or move '{directory}' out of the model.",
)
def first_directory_is_a_version(model: Model) -> Iterator[Hit]:
    """When files decide the back-end, the alphabetically first sub-directory is a version."""
    written = model.written
    if written.backend == written.platform == written.default_model_filename == "" and model.subdirectories:
        first = model.subdirectories[0]
        if first not in model.existing_versions.values():
            yield Hit("", {"directory": first}, file=model.directory / first)


@rule(
    "L15",
    severity="warning",
    text="`allow_timeout_override` has no effect without `default_timeout_microseconds`: a request may only shorten it",
    fix="Write the longest time that a request may wait as `default_timeout_microseconds`.",
)
def override_has_a_default(model: Model) -> Iterator[Hit]:
    """A request's timeout reaches the queue only when it is shorter than a default that is not 0."""
    batching = model.config.dynamic_batching
    policies = {"default_queue_policy": batching.default_queue_policy}
    policies |= {f'priority_queue_policy["{k}"].value': p for k, p in sorted(batching.priority_queue_policy.items())}
    for name, policy in policies.items():
        if policy.allow_timeout_override and policy.default_timeout_microseconds == 0:
            yield Hit(f"dynamic_batching.{name}.allow_timeout_override")


@rule(
    "L17",
    severity="warning",
    text="`dims` of {kind} '{tensor}' begin with 1 although max_batch_size puts a batch dimension in front",
    fix="Remove the leading 1: `dims` have no batch dimension when max_batch_size is above 0.",
)
def batch_dimension_is_not_written(model: Model) -> Iterator[Hit]:
    """With ``max_batch_size`` above 0, ``dims`` leave the batch dimension out.

    Reported for image-like tensors ([1, 3, 224, 224]) whose graph or plan is not there to settle it.
    """
    for kind, index, tensor in model.tensors() if model.batches else ():
        # The file is opened last: few tensors look like this.
        if len(tensor.dims) >= _IMAGE_BATCH_RANK and tensor.dims[0] == 1 and not _settled_by_file(model):
            yield Hit(f"{kind}[{index}].dims", {"kind": kind, "tensor": tensor.name})


def _settled_by_file(model: Model) -> bool:
    if model.model_filename is None:  # which file would settle it is not known
        return True
    if not model.reads_files:
        files = model.plan_files if model.is_tensorrt else model.model_files
        return any(path.exists() for path in files.values())
    known = (*model.graphs.values(), *model.plans.values())
    return any(isinstance(content, OnnxGraph | PlanIo) for content in known)


@rule(
    "L18",
    severity="warning",
    text="the accelerator 'tensorrt' has no effect on instance group {group}, which runs on the CPU",
    fix="Remove the accelerator, or write KIND_GPU.",
)
def tensorrt_accelerator_has_a_gpu(model: Model) -> Iterator[Hit]:
    """The accelerator tensorrt is used by instances on a GPU only."""
    accelerators = model.config.optimization.execution_accelerators.gpu_execution_accelerator
    if model.is_onnxruntime and any(entry.name == "tensorrt" for entry in accelerators):
        for index, group in enumerate(model.config.instance_group):
            if enum_name(group, "kind") == "KIND_CPU":
                yield Hit(f"instance_group[{index}].kind", {"group": group.name})
