"""TensorRT's own error texts in words that say what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an error text of TensorRT means.

    Attributes:
        meaning: What went wrong.
        action: What the user can do.
    """

    meaning: str
    action: str


# Texts of libnvinfer 8.6 to 11 (strings of the libraries), the most telling first.
_KNOWN: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), Diagnosis(meaning, action))
    for pattern, meaning, action in (
        (
            r"expecting library version (\S+) got (\S+?),? please rebuild|Version tag does not match",
            "the plan was built by another TensorRT version",
            "Build it with the TensorRT of the server that loads it (all four parts of the version must match).",
        ),
        (
            r"incompatible device|got compute|Expected compute capability",
            "the plan was built for another GPU",
            "Build it on the GPU that serves it, or set tensorrt.hardware_compatibility_level.",
        ),
        (
            r"magic ?tag",
            "the file does not begin like a plan",
            "It may carry a JSON prefix (tritonforge inspect PLAN --strip-prefix OUT), or be no plan at all.",
        ),
        (
            r"header\.size == blobSize|empty memory buffer|Serialization assertion",
            "the plan is cut off or damaged",
            "Copy or build it again, and compare its SHA-256 with the manifest.",
        ),
        (
            r"Cannot deserialize engine with lean runtime|engineHostCodeAllowed",
            "the plan is version-compatible and brings code of its own",
            "Start the server with --backend-config=tensorrt,version-compatible=true.",
        ),
        (
            r"lean runtime",
            "the lean runtime that a version-compatible plan embeds is missing",
            "Install it beside TensorRT, or set tensorrt.exclude_lean_runtime.",
        ),
        (
            r"out of memory|OutOfMemory|Cuda Error in allocate|could not allocate|insufficient (device )?memory",
            "the GPU's memory does not suffice",
            "Lower max_batch_size or tensorrt.workspace_bytes, or free the GPU.",
        ),
        (
            r"Could not find any implementation for node|no valid tactics",
            "no kernel fits a layer within the limits set",
            "Raise tensorrt.workspace_bytes, or keep the layer in FP32 with precision.keep_fp32.",
        ),
        (
            r"does not support UINT8 types for intermediate tensors",
            "a uint8 tensor is used for more than a Cast right behind the input",
            "Cast it first; the option preprocess writes it that way.",
        ),
        (
            r"CUDA initialization failure|no CUDA-capable device|CUDA driver version is insufficient",
            "the GPU cannot be used",
            "Check nvidia-smi, and that the driver serves this TensorRT's CUDA version.",
        ),
    )
)


def diagnosis_of(messages: Sequence[str]) -> Diagnosis | None:
    """The first known cause among error messages of TensorRT."""
    for pattern, diagnosis in _KNOWN:
        if any(pattern.search(message) for message in messages):
            return diagnosis
    return None
