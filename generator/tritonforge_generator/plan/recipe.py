"""What a plan was made from, so that the same is not built twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.plan.cuda import Gpu
from tritonforge_generator.plan.profiles import Profile
from tritonforge_generator.source import source_from_path
from tritonforge_generator.spec import PrecisionType, TensorRTOptions

_WITHOUT_EFFECT: Final = {"plugins", "device_id", "timing_cache", "time_budget_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPlan:
    """A plan that was built before.

    Attributes:
        path: The file.
        sha256: Hex digest of its bytes as they were built.
    """

    path: Path
    sha256: str


def recipe_sha256(
    network: Path, options: TensorRTOptions, gpu: Gpu, *, precision: PrecisionType, profiles: Sequence[Profile]
) -> str:
    """Hex digest of all that decides what is built: network, options, TensorRT, GPU and this package.

    Two builds of one recipe differ in the tactics that happened to be fastest, not in what they compute.

    Args:
        network: The ONNX file, in the types it is to compute in.
        options: How to build.
        gpu: What builds.
        precision: What the graph was typed for.
        profiles: Optimisation profiles.
    """
    source = source_from_path(network)
    parts: Mapping[str, Any] = {
        "network": [source.file.sha256, *(external.sha256 for external in source.external_data)],
        "options": options.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
        "plugins": [sha256_of_file(path) for path in options.plugins],
        "precision": precision,
        "profiles": [
            {name: shapes.model_dump(mode="json") for name, shapes in profile.items()} for profile in profiles
        ],
        "tensorrt": tensorrt_api.version(),
        "gpu": [gpu.name, gpu.compute_capability, gpu.memory_bytes],
        "tritonforge": metadata.version("tritonforge"),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
