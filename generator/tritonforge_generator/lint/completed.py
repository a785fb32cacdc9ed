"""The config as the server answers it at ``GET /v2/models/M/config``: completed and with every default.

Source: ``NormalizeModelConfig``, ``NormalizeInstanceGroup`` and ``ModelConfigToJson`` in the server's
``model_config_utils.cc``; ``Model.served`` for what a back-end takes from the model's file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from tritonforge_client.core.proto import full_json_from_message
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, ModelConfig, schema
from tritonforge_generator.lint.rules.decoupled import ensemble_is_decoupled

Origin: TypeAlias = Literal["written", "default", "from the file"]
"""Who says what a field holds: the config's author, the server, or the model's file (its content or its name)."""

_IDLE_MICROSECONDS: Final = 1_000_000
# Back-ends that run two instances on a CPU unless told otherwise.
_TWO_ON_CPU: Final = frozenset({"onnxruntime", "tensorflow"})
_STEP: Final = re.compile(r"([^.\[\]]+)(?:\[(\d+)\])?")
_GUESSED: Final = ("backend", "platform", "default_model_filename")


@dataclass(frozen=True, slots=True)
class CompletedConfig:
    """A config as the server answers it.

    Attributes:
        config: The server's JSON: all scalar fields, messages where they are set, enums by name.
        origins: Who says it, by the path of every field that is no message, for example ``"input[0].dims"``; a map is
            one field.
    """

    config: Mapping[str, Any]
    origins: Mapping[str, Origin]


def field_at(config: Mapping[str, Any], path: str) -> Any:
    """Return a field of the server's JSON by its path in ``CompletedConfig.origins``."""
    value: Any = config
    for name, index in _STEP.findall(path):
        value = value[name] if index == "" else value[name][int(index)]
    return value


def completed_config(model: Model) -> CompletedConfig | None:
    """Complete a config as the server does.

    An instance group of KIND_AUTO becomes what the declared host makes of it; without one KIND_GPU for a plan,
    otherwise KIND_CPU. ``runtime`` stays as it is written: the server fills in which library of the back-end it found.

    Args:
        model: A model that the server would load; what is wrong with it is for the rules to say.

    Returns:
        The config, or ``None`` when only the back-end itself could tell what it fills in.
    """
    served = model.served
    if served is None:
        return None
    completed, default = schema().ModelConfig(), schema().ModelConfig()
    completed.CopyFrom(served)
    default.CopyFrom(model.config)
    gpus = _gpus(model)
    for config in (completed, default):
        _fill_defaults(config, gpus)
        if model.is_ensemble:
            config.model_transaction_policy.decoupled = ensemble_is_decoupled(model)
    shown, before = full_json_from_message(completed), full_json_from_message(default)
    guessed = all(getattr(model.written, field) == "" for field in _GUESSED)
    origins: dict[str, Origin] = {}
    for path, value, unfinished in _leaves(shown, before, completed.DESCRIPTOR):
        if value != unfinished or (guessed and path in _GUESSED and value != ""):
            origins[path] = "from the file"
        else:
            origins[path] = "written" if model.is_written(path) else "default"
    return CompletedConfig(shown, origins)


def _gpus(model: Model) -> tuple[int, ...]:
    """Ids of the GPUs to reckon with; without a declared host a plan is taken to be meant for one."""
    if model.host is None:
        return (0,) if model.is_tensorrt else ()
    return model.host.supported_gpus or ()


def _fill_defaults(config: ModelConfig, gpus: tuple[int, ...]) -> None:
    """Fill what no check looks at; the rest of the defaults is in already."""
    if config.HasField("ensemble_scheduling"):
        return
    for name in ("input_pinned_memory", "output_pinned_memory"):
        if not config.optimization.HasField(name):
            getattr(config.optimization, name).enable = True
    if config.HasField("dynamic_batching") and config.max_batch_size > 0:
        batching = config.dynamic_batching
        if len(batching.preferred_batch_size) == 0:
            batching.preferred_batch_size.append(config.max_batch_size)
    if config.HasField("sequence_batching"):
        batching = config.sequence_batching
        batching.max_sequence_idle_microseconds = batching.max_sequence_idle_microseconds or _IDLE_MICROSECONDS
    if len(config.instance_group) == 0:
        config.instance_group.add(name=config.name)
    for group in config.instance_group:
        _fill_group(group, config.backend, gpus)


def _fill_group(group: Message, backend: str, gpus: tuple[int, ...]) -> None:
    if group.kind == group.KIND_AUTO:
        group.kind = group.KIND_GPU if gpus and set(group.gpus) <= set(gpus) else group.KIND_CPU
    if group.count < 1:
        group.count = 2 if group.kind == group.KIND_CPU and backend in _TWO_ON_CPU else 1
    if group.kind == group.KIND_GPU and len(group.gpus) == 0:
        group.gpus.extend(gpus)


def _leaves(shown: Mapping[str, Any], before: Any, descriptor: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield ``(path, value, value before the back-end's completion)`` of every field that is no message.

    A map is one field. What a message holds that was not there before is compared with that of an empty one.
    """
    from google.protobuf.message_factory import GetMessageClass

    before = before or full_json_from_message(GetMessageClass(descriptor)())
    for name, value in shown.items():
        path, old = f"{prefix}{name}", before.get(name)
        kind = descriptor.fields_by_name[name].message_type
        if kind is None or kind.GetOptions().map_entry:
            yield path, value, old
        elif isinstance(value, list):
            for index, one in enumerate(value):
                known = old[index] if old is not None and index < len(old) else None
                yield from _leaves(one, known, kind, f"{path}[{index}].")
        else:
            yield from _leaves(value, old, kind, f"{path}.")
