"""T1 to T4, T12 to T19, N6: what the TensorRT back-end reads of a config alone, and the plan file as a whole.

The texts are those of the C++ back-end. Source: its ``model_state.cc``, ``instance_state.cc`` and ``loader.cc``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.plan_io import PlanIo, UnreadablePlanError, version_from_file
from tritonforge_generator.lint.plan_view import groups, instance_name
from tritonforge_generator.lint.proto import enum_name
from tritonforge_generator.lint.rule import Hit, rule

_NUMBER: Final = re.compile(r"[+-]?\d+")
# TensorRT 10.16 is the first that runs one engine on several GPUs, and 26.04 the first release that has it.
_MULTI_DEVICE: Final = "26.04"


def _parameter(model: Model, name: str) -> str | None:
    parameters = model.config.parameters
    return str(parameters[name].string_value) if model.is_tensorrt and name in parameters else None


def _value_path(name: str) -> str:
    return f'parameters["{name}"].value.string_value'


def _is_multi_device(model: Model) -> bool:
    """Whether one engine is to run on several GPUs; servers that cannot do that ignore the parameter."""
    able = model.host is None or model.host.has(_MULTI_DEVICE)
    return able and (_parameter(model, "enable_multi_device") or "").lower() in {"true", "1"}


def _device_entries(model: Model) -> list[str]:
    """List the GPUs of a multi-device model as written, without blank entries."""
    listed = _parameter(model, "multi_device_gpus") if _is_multi_device(model) else None
    return [entry for entry in (listed or "").split(",") if entry.strip(" \t") != ""]


@rule(
    "T1",
    text="unable to load model '{model}', TensorRT backend supports only GPU device",
    fix="Write `kind: KIND_GPU`, or leave the kind out and serve it where there is a GPU.",
)
def plan_runs_on_a_gpu(model: Model) -> Iterator[Hit]:
    """Every instance group of a TensorRT model is KIND_GPU; KIND_AUTO becomes that on a host with a GPU."""
    refused = {"KIND_CPU", "KIND_MODEL"}
    if model.host is not None and model.host.supported_gpus == ():
        refused.add("KIND_AUTO")
    for group in groups(model) if model.is_tensorrt and not _is_multi_device(model) else ():
        if group.kind in refused:
            yield Hit(f"{group.path}.kind", at=(group.index,))


@rule(
    "T2",
    needs="dir",
    text="unable to find '{path}' for model instance '{instance}'",
    fix="Put the plan there, or name the file in `{field}`.",
)
def plan_file_exists(model: Model) -> Iterator[Hit]:
    """The plan is in every version directory that is loaded.

    A server that completes configurations opens the plan earlier and says T3. With ``cc_model_filenames`` the file
    depends on the GPU, so its compute capability has to be declared.
    """
    if model.completes_plan or model.model_filename is None:
        return
    field, _ = model.model_filename
    for version, path in model.plan_files.items():
        if not path.exists():
            values = {"path": path, "instance": instance_name(model), "field": field}
            yield Hit(field, values, at=(version,), file=path)


def _unloadable(model: Model) -> Iterator[tuple[int, Path, str]]:
    """Yield version, path and what is wrong of the plans that no server, or not the declared one, loads."""
    for version, path in model.plan_files.items():
        known = model.plans.get(version)
        if isinstance(known, UnreadablePlanError):
            yield version, path, str(known)
        elif version in model.plans:
            objection = _release_objection(model, path) or _gpu_objection(model, known)
            if objection != "":
                yield version, path, objection


def _release_objection(model: Model, path: Path) -> str:
    """Why the declared release does not load a plan, whatever options it was built with."""
    if model.host is None or model.host.tensorrt == "":
        return ""
    from tritonforge_generator.plan.containers import objection_of_release

    version = version_from_file(path)
    return "" if version is None else objection_of_release(model.host.release, version, version_compatible=True)


def _gpu_objection(model: Model, plan: PlanIo | None) -> str:
    """Why the declared GPUs do not load a plan."""
    here = None if model.host is None else model.host.compute_capability
    built_for = None if plan is None else plan.built_for
    if here is None or built_for is None or here == built_for:
        return ""
    shown = [".".join(map(str, capability)) for capability in (built_for, here)]
    return f"the plan was built for GPUs of compute capability {shown[0]}, the host's have {shown[1]}"


@rule(
    "T3",
    needs="file",
    text="unable to load plan file to auto complete config: {path}",
    fix="Copy or build the plan again: {problem}",
)
def completed_plan_loads(model: Model) -> Iterator[Hit]:
    """While completing, the plan is there and TensorRT loads it.

    Its header tells files that no TensorRT loads, and, for a declared server, plans of another TensorRT. The manifest
    that the generator writes tells plans of another GPU.
    """
    if not model.completes_plan:
        return
    for version, path in model.plan_files.items():
        if not path.exists():
            yield Hit(values={"path": path, "problem": "the file is missing"}, at=(version,), file=path)
    for version, path, problem in _unloadable(model):
        yield Hit(values={"path": path, "problem": problem}, at=(version,), file=path)


@rule(
    "T4",
    needs="file",
    text="unable to create TensorRT engine: {problem}",
    fix="Build the plan with the TensorRT of the server that loads it, on the GPU that serves it, and copy it whole.",
)
def plan_loads(model: Model) -> Iterator[Hit]:
    """TensorRT loads the plan; decided as T3 is. After the colon come TensorRT's own words, which are others."""
    if not model.completes_plan:
        for version, path, problem in _unloadable(model):
            yield Hit(values={"problem": problem}, at=(version,), file=path)


@rule(
    "T12",
    text="Invalid value for 'execution_context_allocation_strategy': '{value}' for model instance '{model}'. Supported "
    "values are 'STATIC' and 'ON_PROFILE_CHANGE'.",
    fix="Write STATIC (memory for the largest profile at once) or ON_PROFILE_CHANGE (for the profile in use).",
)
def allocation_strategy_is_known(model: Model) -> Iterator[Hit]:
    """The parameter ``execution_context_allocation_strategy`` is STATIC or ON_PROFILE_CHANGE.

    Which release brought it is not known; older ones ignore it.
    """
    value = _parameter(model, "execution_context_allocation_strategy")
    if value is not None and value not in {"STATIC", "ON_PROFILE_CHANGE"}:
        yield Hit(_value_path("execution_context_allocation_strategy"), {"value": value})


@rule(
    "N6",
    text="model configuration is missing the parameter {name}",
    fix="Add the parameter `{name}`.",
    since=_MULTI_DEVICE,
)
def mandatory_parameters_are_written(model: Model) -> Iterator[Hit]:
    """A TensorRT model with ``enable_multi_device`` lists its GPUs in ``multi_device_gpus``."""
    if _is_multi_device(model) and _parameter(model, "multi_device_gpus") is None:
        yield Hit(_value_path("enable_multi_device"), {"name": "multi_device_gpus"})


@rule(
    "T13",
    text="Invalid 'multi_device_gpus' entry '{entry}' for model '{model}'; expected comma-separated GPU ids.",
    fix='Write ids of GPUs, for example "0,1".',
    since=_MULTI_DEVICE,
)
def devices_are_numbers(model: Model) -> Iterator[Hit]:
    """``multi_device_gpus`` of a multi-device TensorRT model lists numbers."""
    for index, entry in enumerate(_device_entries(model)):
        if _NUMBER.match(entry.strip(" \t")) is None:
            yield Hit(_value_path("multi_device_gpus"), {"entry": entry}, at=(index,))


@rule(
    "T14",
    needs="host",
    text="'multi_device_gpus' references GPU {device} but only {count} device(s) are present for model '{model}'.",
    fix="List GPUs that the host has, from 0 on.",
    since=_MULTI_DEVICE,
)
def devices_are_present(model: Model) -> Iterator[Hit]:
    """``multi_device_gpus`` of a multi-device TensorRT model lists GPUs of the host."""
    count = None if model.host is None else model.host.gpus
    for index, entry in enumerate(_device_entries(model) if count is not None else ()):
        match = _NUMBER.match(entry.strip(" \t"))
        if match is not None and count is not None and not 0 <= int(match.group()) < count:
            values = {"device": int(match.group()), "count": count}
            yield Hit(_value_path("multi_device_gpus"), values, at=(index,))


@rule(
    "T15",
    text="'enable_multi_device' is true but 'multi_device_gpus' lists fewer than 2 GPUs for model '{model}'; "
    "multi-device requires at least 2 ranks.",
    fix="List at least two GPUs, or remove `enable_multi_device`.",
    since=_MULTI_DEVICE,
)
def devices_are_several(model: Model) -> Iterator[Hit]:
    """A multi-device TensorRT model lists at least two GPUs."""
    listed = _parameter(model, "multi_device_gpus")
    entries = _device_entries(model)
    if _is_multi_device(model) and listed is not None and len(entries) < 2:
        yield Hit(_value_path("multi_device_gpus"), at=(len(entries),))


@rule(
    "T16",
    text="unable to load model '{model}', TensorRT Multi-Device (enable_multi_device) requires instance_group kind "
    "KIND_MODEL",
    fix="Write `kind: KIND_MODEL`: the model chooses its GPUs by `multi_device_gpus`.",
    since=_MULTI_DEVICE,
)
def multi_device_is_kind_model(model: Model) -> Iterator[Hit]:
    """Every instance group of a multi-device TensorRT model is KIND_MODEL; older servers ignore the parameter."""
    for group in groups(model) if _is_multi_device(model) else ():
        if group.kind != "KIND_MODEL":
            yield Hit(f"{group.path}.kind", at=(group.index,))


@rule(
    "T17",
    text="TensorRT Multi-Device for '{instance}' requires exactly one optimization profile, got {count}",
    fix="Name one profile.",
    since=_MULTI_DEVICE,
)
def multi_device_has_one_profile(model: Model) -> Iterator[Hit]:
    """An instance group of a multi-device TensorRT model uses one optimisation profile."""
    for group in groups(model) if _is_multi_device(model) else ():
        count = len({index for _, index in group.profiles})
        if count != 1:
            yield Hit(f"{group.path}.profile", {"instance": group.instance, "count": count}, at=(group.index,))


@rule(
    "T18",
    text="{instance} of model {model} must have either zero or or one secondary devices",
    fix="Keep one of `secondary_devices`; write one instance group for each device.",
)
def secondary_device_is_single(model: Model) -> Iterator[Hit]:
    """An instance group of a TensorRT model has at most one of ``secondary_devices``."""
    for group in groups(model) if model.is_tensorrt else ():
        if len(group.secondary_devices) > 1:
            yield Hit(f"{group.path}.secondary_devices[1]", {"instance": group.instance}, at=(group.index,))


@rule(
    "T19",
    text="secondary device for {instance} of model {model} must be KIND_NVDLA",
    fix="Write `kind: KIND_NVDLA`.",
)
def secondary_device_is_known(model: Model) -> Iterator[Hit]:
    """A secondary device of a TensorRT model is KIND_NVDLA, the only one that has a name."""
    for group in groups(model) if model.is_tensorrt else ():
        for device in group.secondary_devices[:1]:
            if enum_name(device, "kind") != "KIND_NVDLA":
                yield Hit(f"{group.path}.secondary_devices[0].kind", {"instance": group.instance}, at=(group.index,))
