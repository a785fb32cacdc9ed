"""What can be known of a plan that is there: from its header alone, and from TensorRT where it loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tritonforge_generator.plan.containers import TENSORRT_BY_RELEASE, objection_of_release
from tritonforge_generator.plan.cuda import Gpu, gpu_from_device_id
from tritonforge_generator.plan.engine import Engine, PlanTensor, ShapeRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """The Triton releases that load a plan, as far as it is the TensorRT version that decides.

    Attributes:
        sure: Their TensorRT is the plan's in all four parts.
        possible: The parts of theirs that are known are the plan's.
        version_compatible: They load it only if it was built with ``version_compatible``, which a header does not say.
    """

    sure: tuple[str, ...]
    possible: tuple[str, ...]
    version_compatible: tuple[str, ...]


def releases_from_version(version: tuple[int, int, int, int]) -> Releases:
    """Sort the known releases by whether they load a plan.

    Args:
        version: From the plan's header.
    """
    fitting = [one for one in TENSORRT_BY_RELEASE if _loads(one, version, version_compatible=False)]
    sure = [one for one in fitting if len(_known(one)) == len(version)]
    possible = [one for one in fitting if one not in sure and _between_neighbours(one, version)]
    compatible = [one for one in TENSORRT_BY_RELEASE if _loads(one, version, version_compatible=True)]
    return Releases(
        sure=tuple(sure),
        possible=tuple(possible),
        version_compatible=tuple(
            one for one in compatible if one not in {*sure, *possible} and _may_be_newer(one, version)
        ),
    )


def _loads(release: str, version: tuple[int, int, int, int], *, version_compatible: bool) -> bool:
    return objection_of_release(release, version, version_compatible=version_compatible) == ""


def _known(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in TENSORRT_BY_RELEASE[release].split("."))


def _may_be_newer(release: str, version: tuple[int, ...]) -> bool:
    """Whether no release from this one on has an older TensorRT: containers never go back."""
    later = (one for one in TENSORRT_BY_RELEASE if one >= release)
    return all(_known(one) >= version[: len(_known(one))] for one in later)


def _between_neighbours(release: str, version: tuple[int, ...]) -> bool:
    """Whether a version fits between those of the releases before and after."""
    return all(
        _known(one) <= version[: len(_known(one))] if one < release else version[: len(_known(one))] <= _known(one)
        for one in TENSORRT_BY_RELEASE
        if one != release
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What TensorRT says of a plan that it loaded.

    Attributes:
        gpu: The GPU that it was loaded on.
        tensors: Inputs and outputs.
        profiles: By profile, the range of each input.
        device_memory_bytes: By profile, the scratch memory of one execution context.
        layer_count: The engine's layers.
    """

    gpu: Gpu
    tensors: tuple[PlanTensor, ...]
    profiles: tuple[Mapping[str, ShapeRange], ...]
    device_memory_bytes: tuple[int, ...]
    layer_count: int


def engine_facts_from_path(path: Path, device_id: int = 0) -> EngineFacts:
    """Load a plan and read its facts.

    Args:
        path: The plan.
        device_id: The GPU to load it on.

    Raises:
        PlanError: It does not load.
        TensorRTMissingError: TensorRT, cuda-python or the GPU is missing.
    """
    gpu = gpu_from_device_id(device_id)
    with Engine(path, device_id) as engine:
        return EngineFacts(
            gpu=gpu,
            tensors=engine.tensors,
            profiles=engine.profiles,
            device_memory_bytes=tuple(engine.device_memory_bytes(index) for index in range(len(engine.profiles))),
            layer_count=int(engine.handle.num_layers),
        )
