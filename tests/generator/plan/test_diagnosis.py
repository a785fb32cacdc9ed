"""Texts of the real libraries (libnvinfer 8.6 to 11) and of users' reports, with numbers filled in."""

from __future__ import annotations

import pytest

from tritonforge_generator.plan.diagnosis import diagnosis_of

TEXTS = {
    "The engine plan file is not compatible with this version of TensorRT, expecting library version 8.6.1.2 got "
    "8.6.0.12, please rebuild.": "built by another TensorRT version",
    "Error Code 1: Serialization (Serialization assertion stdVersionRead == serializationVersion failed.Version tag "
    "does not match. Note: Current Version: 236, Serialized Engine Version: 239)": "built by another TensorRT version",
    "The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.6, please "
    "rebuild.": "built for another GPU",
    "The current device is not compatible with this hardware-compatible engine. Expected compute capability >= 8.0": (
        "built for another GPU"
    ),
    "Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not "
    "match)": "does not begin like a plan",
    "Serialization assertion header.size == blobSize failed.": "cut off or damaged",
    "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is false.": (
        "brings code of its own"
    ),
    "Could not determine path for lean runtime!": "the lean runtime that a version-compatible plan embeds is missing",
    "Requested amount of GPU memory (8589934592 bytes) could not be allocated. [virtualMemoryBuffer.cpp] OutOfMemory": (
        "memory does not suffice"
    ),
    "Error Code 1: Cuda Runtime (out of memory)": "memory does not suffice",
    "Error Code 10: Internal Error (Could not find any implementation for node /fc/MatMul.)": "no kernel fits a layer",
    "Assertion failed: TensorRT does not support UINT8 types for intermediate tensors!": "a uint8 tensor",
    "CUDA initialization failure with error: 35": "the GPU cannot be used",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_of_tensorrt_is_explained(text: str) -> None:
    found = diagnosis_of(["something else before", text])
    assert found is not None
    assert TEXTS[text] in found.meaning
    assert found.action.endswith(".")


def test_the_cause_counts_more_than_what_follows_from_it() -> None:
    found = diagnosis_of(
        [
            "Could not find any implementation for node conv1",
            "Requested amount of GPU memory could not be allocated: OutOfMemory",
        ]
    )
    assert found is not None
    assert "memory does not suffice" in found.meaning


def test_what_is_not_known_is_not_explained() -> None:
    assert diagnosis_of(["a text that nobody has seen"]) is None
    assert diagnosis_of([]) is None
