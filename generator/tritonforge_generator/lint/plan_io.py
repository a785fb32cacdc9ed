"""What the TensorRT back-end will find in a plan, read from the least that tells it.

First the header, which says whether the file is a plan at all; then the manifest that the generator wrote beside it, if
the plan is still the one that it describes; then TensorRT itself, where it and a GPU are there. Where none of them
tells, nothing is known of the plan, and the rules that compare with it are silent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MANIFEST_FILENAME: Final = "manifest.json"
# Plans of TensorRT 7 and earlier begin so; their header is not known here.
_OLD_MAGIC: Final = b"ptrt"
_DATA_TYPES: Final = frozenset(
    f"TYPE_{name}" for name in ("BOOL", "UINT8", "INT8", "INT32", "INT64", "FP16", "FP32", "BF16")
)
_LARGEST_SIZE: Final = 2**31 - 1
# Only such an output can hold a shape.
_SHAPE_TYPES: Final = frozenset({"TYPE_INT32", "TYPE_INT64"})


class UnreadablePlanError(Exception):
    """No TensorRT loads the file; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """One input or output of a plan.

    Attributes:
        name: Its name.
        is_input: Whether requests give it.
        data_type: Name in ``model_config.proto``; ``"TYPE_INVALID"`` for what Triton has no type for.
        dims: Full shape; -1 for every dynamic size; empty for a scalar.
        is_shape_tensor: Whether its values are shapes of other tensors; ``None`` when that is not known.
        is_linear: Whether its elements lie in the order of its dimensions, as Triton has them.
    """

    name: str
    is_input: bool
    data_type: str
    dims: tuple[int, ...]
    is_shape_tensor: bool | None = False
    is_linear: bool = True

    @property
    def is_dynamic(self) -> bool:
        """Whether requests decide one of its sizes."""
        return -1 in self.dims


@dataclass(frozen=True, slots=True)
class ShapeBounds:
    """The shapes that one profile takes for one input, in full.

    Attributes:
        min: The smallest.
        max: The largest.
    """

    min: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlanIo:
    """Inputs, outputs and optimisation profiles of a plan.

    Attributes:
        tensors: Inputs and outputs in the plan's order.
        profiles: By profile, the bounds of each input that is no shape tensor.
        built_for: Compute capability of the GPUs that load it; ``None`` when several do, or that is not known.
    """

    tensors: tuple[PlanTensor, ...]
    profiles: tuple[Mapping[str, ShapeBounds], ...]
    built_for: tuple[int, int] | None = None

    def find(self, name: str) -> PlanTensor | None:
        """Return the tensor of a name, if there is one."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    @property
    def inputs(self) -> tuple[PlanTensor, ...]:
        """What requests give."""
        return tuple(tensor for tensor in self.tensors if tensor.is_input)

    @property
    def outputs(self) -> tuple[PlanTensor, ...]:
        """What they get."""
        return tuple(tensor for tensor in self.tensors if not tensor.is_input)


def plan_from_file(path: Path) -> PlanIo | None:
    """Read what a plan takes and gives.

    Args:
        path: The plan.

    Returns:
        ``None`` when nothing tells.

    Raises:
        UnreadablePlanError: No TensorRT loads it.
    """
    if not path.is_file() and not path.is_dir():  # a pipe, for example, of which reading never ends
        return None
    _require_a_plan(path)
    facts = _manifest_facts(path)
    if facts is None:
        from tritonforge_generator.plan.interface import interface_from_path  # brings all that builds plans

        facts = interface_from_path(path)
    return None if facts is None else _from_facts(facts)


def _require_a_plan(path: Path) -> None:
    from tritonforge_generator.errors import SourceError
    from tritonforge_generator.plan.header import UnknownLayoutError, plan_header_from_path

    try:
        with path.open("rb") as stream:
            if stream.read(len(_OLD_MAGIC)) == _OLD_MAGIC:
                return
        header = plan_header_from_path(path)
    except UnknownLayoutError:
        return
    except SourceError as error:
        raise UnreadablePlanError(f"expected {error.expected}, got {error.got}") from error
    except OSError as error:
        raise UnreadablePlanError(error.strerror or str(error)) from error
    if header.prefix_bytes > 0:
        raise UnreadablePlanError(f"{header.prefix_bytes} bytes stand in front of the plan")


def version_from_file(path: Path) -> tuple[int, int, int, int] | None:
    """Return the TensorRT version that built a plan; ``None`` when its header does not say so."""
    from tritonforge_generator.errors import SourceError
    from tritonforge_generator.plan.header import plan_header_from_path

    try:
        return plan_header_from_path(path).tensorrt_version
    except SourceError:
        return None


def _manifest_facts(path: Path) -> Mapping[str, Any] | None:
    """Return what the manifest beside a plan says of it, if it is still that plan."""
    from tritonforge_generator.hashing import sha256_of_file

    manifest_path = path.parent / MANIFEST_FILENAME
    if manifest_path.is_symlink() or not manifest_path.is_file():  # a link may lead out of the repository
        return None
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        facts: Mapping[str, Any] = manifest["made"]["plan"]
        # The size is compared first, because large files take long to hash.
        same = facts["size_bytes"] == path.stat().st_size and facts["sha256"] == sha256_of_file(path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return {**facts, "built_for": _capability(manifest)} if same else None


def _capability(manifest: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the compute capability that a plan was built for, unless it was built for all from Ampere on."""
    try:
        level = manifest["options"]["tensorrt"]["hardware_compatibility_level"]
        major, minor = manifest["made"]["plan"]["gpu"]["compute_capability"].split(".")
        return (int(major), int(minor)) if level in {"NONE", "SAME_COMPUTE_CAPABILITY"} else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _from_facts(facts: Mapping[str, Any]) -> PlanIo | None:
    """Read facts as ``Plan.to_json`` writes them; ``None`` when they are none."""
    try:
        tensors = tuple(_tensor(tensor) for tensor in facts["tensors"])
        ranks = {tensor.name: len(tensor.dims) for tensor in tensors}
        profiles = tuple(
            {str(name): _bounds(bounds, ranks[name]) for name, bounds in profile.items()}
            for profile in facts["profiles"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    return PlanIo(tensors, profiles, facts.get("built_for")) if profiles else None


def _bounds(facts: Mapping[str, Any], rank: int) -> ShapeBounds:
    found = ShapeBounds(_dims(facts["min"]), _dims(facts["max"]))
    if not len(found.min) == len(found.max) == rank:
        raise ValueError(f"{found} is not of rank {rank}")
    return found


def _tensor(facts: Mapping[str, Any]) -> PlanTensor:
    data_type, dims = f"TYPE_{facts['datatype']}", _dims(facts["shape"])
    # The generator builds no plan with shape tensors among its inputs; of outputs its manifests do not say.
    unsure = not facts["is_input"] and len(dims) <= 1 and data_type in _SHAPE_TYPES
    return PlanTensor(
        name=str(facts["name"]),
        is_input=bool(facts["is_input"]),
        data_type=data_type if data_type in _DATA_TYPES else "TYPE_INVALID",
        dims=dims,
        is_shape_tensor=facts.get("is_shape_tensor", None if unsure else False),
        is_linear=facts.get("is_linear", True),
    )


def _dims(sizes: Sequence[Any]) -> tuple[int, ...]:
    dims = tuple(int(size) for size in sizes)
    if any(not -1 <= size <= _LARGEST_SIZE for size in dims):
        raise ValueError(f"{dims} is no shape")
    return dims
