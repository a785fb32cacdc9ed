"""Dumps in the form of TensorRT's inspector, verbosity DETAILED, for small engines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonforge_generator.plan.layers import Layer, kernel_share, layers_from_inspector, precision_proof
from tritonforge_generator.spec import PrecisionType

ROW_MAJOR = "Row major linear FP32"
HALF = "Channel major FP16 format where channel % 8 == 0"
INT8 = "Thirty-two wide channel vectorized row major Int8 format"


def tensor(name: str, form: str) -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": [8, 64, 16, 16], "Format/Datatype": form}


def entry(name: str, kind: str, given: str, taken: str, *nodes: str, **more: Any) -> dict[str, Any]:
    """One layer; fused nodes are separated by a control character, as TensorRT does."""
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [tensor(f"{name}.in", given)],
        "Outputs": [tensor(f"{name}.out", taken)],
        "TacticName": more.pop("tactic", "sm80_xmma_fprop"),
        "StreamId": 0,
        "Metadata": "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes),
        **more,
    }


def dump(*entries: dict[str, Any] | str) -> str:
    """The text with control characters unescaped, as 8.6 writes it."""
    return json.dumps({"Layers": entries, "Bindings": ["images", "logits"]}).replace("\\u001e", "\x1e")


STEM = entry("conv1 + relu1", "CaskConvolution", HALF, HALF, "stem/Conv", "stem/Relu")
FLOPS = {"stem/Conv": 900, "fc/Gemm": 100}


def test_fused_nodes_became_one_layer() -> None:
    (layer,) = layers_from_inspector(dump(STEM), FLOPS)
    assert layer == Layer(
        name="conv1 + relu1",
        kind="CaskConvolution",
        precision="FP16",
        nodes=("stem/Conv", "stem/Relu"),
        tactic="sm80_xmma_fprop",
        flops=900,
    )


@pytest.mark.parametrize(
    ("given", "taken", "expected"),
    [
        (ROW_MAJOR, ROW_MAJOR, "FP32"),
        (HALF, HALF, "FP16"),
        (HALF, ROW_MAJOR, "FP16"),  # a kernel that reads FP16 multiplies in it
        (INT8, HALF, "INT8"),
        (INT8, ROW_MAJOR, "INT8"),
        ("Row major linear BFloat16", ROW_MAJOR, "BF16"),
        ("Row major linear FP8", HALF, "FP8"),
        ("Float", "Float", "FP32"),  # as TensorRT 10 and 11 write them
        ("Half", "Half", "FP16"),
        ("Row major linear INT32", "Row major linear INT32", "unknown"),
        ("a format of the future", "another", "unknown"),
    ],
)
def test_the_narrowest_type_is_what_a_layer_multiplies_in(given: str, taken: str, expected: str) -> None:
    (layer,) = layers_from_inspector(dump(entry("one", "CaskConvolution", given, taken, "stem/Conv")), {})
    assert layer.precision == expected


def test_types_of_weights_count_and_tf32_is_told_by_the_kernel() -> None:
    int8 = entry("a", "CaskConvolution", HALF, HALF, Weights={"Type": "Int8", "Count": 576})
    tf32 = entry("b", "CaskConvolution", ROW_MAJOR, ROW_MAJOR, tactic="sm80_xmma_fprop_tf32f32_tf32f32_f32")
    assert [layer.precision for layer in layers_from_inspector(dump(int8, tf32), {})] == ["INT8", "TF32"]


def test_layers_that_move_data_compute_in_nothing() -> None:
    reformat = entry("Reformatting CopyNode", "Reformat", ROW_MAJOR, HALF, "stem/Conv")
    layers = layers_from_inspector(dump(reformat, STEM), FLOPS)
    assert [(layer.precision, layer.flops) for layer in layers] == [("", 0), ("FP16", 900)]


def test_a_node_in_two_layers_is_counted_once() -> None:
    layers = layers_from_inspector(dump(STEM, entry("again", "CaskConvolution", HALF, HALF, "stem/Conv")), FLOPS)
    assert [layer.flops for layer in layers] == [900, 0]


def test_what_no_layer_names_lies_in_the_myelin_regions() -> None:
    regions = [{"Name": f"foreign{n}", "LayerType": "Myelin", "Metadata": ""} for n in range(2)]
    layers = layers_from_inspector(dump(STEM, *regions), FLOPS)
    assert [(layer.precision, layer.flops) for layer in layers] == [("FP16", 900), ("unknown", 50), ("unknown", 50)]


def test_names_alone_are_no_layers() -> None:
    """With verbosity LAYER_NAMES_ONLY each entry is a text."""
    assert layers_from_inspector(dump("conv1", "fc"), FLOPS) == ()


def layer(precision: str, flops: int, kind: str = "CaskConvolution") -> Layer:
    return Layer(name=precision, kind=kind, precision=precision, nodes=(), tactic="", flops=flops)


def passed(asked: PrecisionType, *layers: Layer, size_bytes: int = 0, parameter_count: int = 0) -> bool:
    return precision_proof(layers, asked, size_bytes=size_bytes, parameter_count=parameter_count).passed


@pytest.mark.parametrize("asked", ["FP16", "BF16", "INT8", "FP8"])
def test_a_build_in_fp32_proves_nothing_narrower(asked: PrecisionType) -> None:
    assert not passed(asked, layer("FP32", 900), layer("FP32", 100))
    assert not passed(asked, layer("TF32", 1000))


@pytest.mark.parametrize(
    ("asked", "built", "expected"),
    [
        ("FP16", "FP16", True),
        ("FP16", "INT8", True),
        ("FP16", "BF16", False),
        ("BF16", "FP16", False),
        ("INT8", "FP16", False),
        ("FP8", "FP8", True),
        ("FP8", "FP16", False),
        ("FP32", "FP32", True),
        ("TF32", "TF32", True),
    ],
)
def test_the_type_asked_for_must_be_the_one_built(asked: PrecisionType, built: str, expected: bool) -> None:
    assert passed(asked, layer(built, 1000)) is expected


def test_flops_are_weighed_and_layers_that_move_data_are_not_counted() -> None:
    layers = [layer("FP16", 600), layer("FP32", 300), layer("FP32", 100), layer("", 0, "Reformat")]
    proof = precision_proof(layers, "FP16", size_bytes=2000, parameter_count=1000)
    assert proof.flop_share == {"FP16": 0.6, "FP32": 0.4}
    assert proof.layer_share == {"FP16": 0.333333, "FP32": 0.666667}
    assert proof.passed
    assert proof.summary == "FP16 60%, FP32 40% of the FLOPs, 2.0 bytes a parameter"
    assert not passed("FP16", layer("FP16", 499), layer("FP32", 501))


def test_without_flops_the_layers_are_the_evidence() -> None:
    proof = precision_proof([layer("FP16", 0), layer("FP32", 0)], "FP16", size_bytes=0, parameter_count=0)
    assert proof.flop_share == {}
    assert (proof.passed, proof.summary) == (True, "FP16 50%, FP32 50% of the layers, 0.0 bytes a parameter")


@pytest.mark.parametrize(("size_bytes", "expected"), [(5_000_000, True), (8_400_000, False)])
def test_inside_myelin_regions_the_size_of_the_plan_is_the_evidence(size_bytes: int, expected: bool) -> None:
    hidden = layer("unknown", 1000, "Myelin")
    proof = precision_proof([hidden], "FP16", size_bytes=size_bytes, parameter_count=2_000_000)
    assert proof.passed is expected
    assert "does not say the types inside Myelin regions" in proof.summary


def test_kernels_are_counted_by_the_generation_they_were_written_for() -> None:
    head = entry("fc", "CaskGemmMatrixMultiply", HALF, HALF, "fc/Gemm", tactic="sm90_xmma_gemm_f16f16_f16f32")
    pool = entry("pool", "Pooling", HALF, HALF, "pool", tactic="")
    layers = layers_from_inspector(dump(STEM, head, pool), FLOPS | {"pool": 1000})
    assert kernel_share(layers) == {"sm80": 0.45, "sm90": 0.05, "unknown": 0.5}
