"""The artifact of the plan stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tritonforge_generator.plan.cuda import Gpu
from tritonforge_generator.plan.engine import PlanTensor, ShapeRange
from tritonforge_generator.plan.layers import Layer, PrecisionProof, kernel_share
from tritonforge_generator.spec import PrecisionType


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingCacheUse:
    """What the timing cache did for a build.

    Attributes:
        path: The cache's file; ``None`` when it was turned off.
        read_bytes: What was known before.
        written_bytes: What is known now.
        note: Why it was not used, if it was not.
    """

    path: str | None
    read_bytes: int
    written_bytes: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A TensorRT plan with everything that is known of it.

    Attributes:
        path: The file.
        sha256: Hex digest of its bytes.
        size_bytes: Its size.
        recipe_sha256: Digest of what it was made from; see ``recipe.py``.
        precision: What was asked for.
        tensorrt_version: What built it, in four parts where known.
        gpu: What it was built on.
        tensors: Inputs and outputs.
        profiles: By profile, the range of each input.
        device_memory_bytes: By profile, the scratch memory of one execution context.
        layers: The engine's layers with the ONNX nodes that became each.
        proof: Which types the layers really compute in.
        newly_built: False where a known plan of the same recipe was taken.
        build_s: Seconds that the builder took.
        timing_cache: What the timing cache did.
    """

    path: Path
    sha256: str
    size_bytes: int
    recipe_sha256: str
    precision: PrecisionType
    tensorrt_version: str
    gpu: Gpu
    tensors: tuple[PlanTensor, ...]
    profiles: tuple[Mapping[str, ShapeRange], ...]
    device_memory_bytes: tuple[int, ...]
    layers: tuple[Layer, ...]
    proof: PrecisionProof
    newly_built: bool
    build_s: float
    timing_cache: TimingCacheUse

    def to_json(self) -> dict[str, Any]:
        """Plain data for reports and the manifest, without the layers and the place of files."""
        facts = asdict(self)
        for private in ("path", "layers"):
            del facts[private]
        del facts["timing_cache"]["path"]
        facts["layer_count"] = len(self.layers)
        facts["kernel_share"] = kernel_share(self.layers)
        return facts
