"""G: instance groups, as far as no host is needed to judge them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tritonforge_generator.lint.host import resolved_kind
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, enum_name
from tritonforge_generator.lint.rule import Hit, rule

_NUMBER: Final = re.compile(r"\s*[+-]?\d+", re.ASCII)


def _groups(model: Model) -> Iterator[tuple[int, str, Message]]:
    """Yield ``(index, path, group)``; an ensemble's groups are refused as such (E2)."""
    if not model.is_ensemble:
        for index, group in enumerate(model.config.instance_group):
            yield index, f"instance_group[{index}]", group


@rule(
    "G2",
    text="instance group {group} of model {model} has kind KIND_MODEL but specifies one or more GPUs",
    fix="Remove `gpus`: with KIND_MODEL the model itself chooses its devices.",
)
def model_kind_has_no_gpus(model: Model) -> Iterator[Hit]:
    """KIND_MODEL leaves the choice of devices to the model, so it lists no ``gpus``."""
    for index, path, group in _groups(model):
        if enum_name(group, "kind") == "KIND_MODEL" and len(group.gpus) > 0:
            yield Hit(f"{path}.gpus", {"group": group.name}, at=(index,))


@rule(
    "G7",
    text="instance group {group} of model {model} has kind KIND_CPU but specifies one or more GPUs",
    fix="Remove `gpus`, or write KIND_GPU.",
)
def cpu_kind_has_no_gpus(model: Model) -> Iterator[Hit]:
    """KIND_CPU lists no ``gpus``; KIND_AUTO becomes KIND_CPU where one of them does not exist."""
    for index, path, group in _groups(model):
        if resolved_kind(group, model.host) == "KIND_CPU" and len(group.gpus) > 0:
            yield Hit(f"{path}.gpus", {"group": group.name}, at=(index,))


def _profiles(model: Model) -> Iterator[tuple[tuple[int, ...], str, Message, str]]:
    for index, path, group in _groups(model):
        for number, profile in enumerate(group.profile):
            yield (index, number), f"{path}.profile[{number}]", group, profile


@rule(
    "G9",
    text="instance group {group} of model {model} and platform {platform}specifies profile field which is only "
    "supported for TensorRT models",
    fix="Remove `profile`: optimisation profiles exist in TensorRT plans only.",
)
def profile_is_for_tensorrt(model: Model) -> Iterator[Hit]:
    """Only models of platform tensorrt_plan have optimisation profiles."""
    platform = model.config.platform
    for index, path, group in _groups(model):
        if len(group.profile) > 0 and platform != "tensorrt_plan":
            yield Hit(f"{path}.profile", {"group": group.name, "platform": platform}, at=(index, 0))


@rule(
    "G10",
    text="instance group {group} of model {model} and platform {platform} specifies invalid profile {profile}. The "
    "field should contain the string representation of a non-negative integer.",
    fix="Write the profile's index: 0 for the first.",
)
def profile_is_not_negative(model: Model) -> Iterator[Hit]:
    """A profile index is 0 or more."""
    for at, path, group, profile in _profiles(model):
        match = _NUMBER.match(profile)
        if model.config.platform == "tensorrt_plan" and match is not None and int(match.group()) < 0:
            yield Hit(path, {"group": group.name, "platform": model.config.platform, "profile": profile}, at=at)


@rule("G11", text="profile name must not be empty", fix="Write the profile's index, or remove `profile`.")
def profile_is_given(model: Model) -> Iterator[Hit]:
    """A profile index is not an empty string."""
    for at, path, _, profile in _profiles(model):
        if model.config.platform == "tensorrt_plan" and profile == "":
            yield Hit(path, at=at)


@rule("G12", text="unable to parse '{profile}': stoi", fix="Write the profile's index as a number in quotes.")
def profile_is_a_number(model: Model) -> Iterator[Hit]:
    """A profile is named by its index."""
    for at, path, _, profile in _profiles(model):
        if model.config.platform == "tensorrt_plan" and profile != "" and _NUMBER.match(profile) is None:
            yield Hit(path, {"profile": profile}, at=at)
