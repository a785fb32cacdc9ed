"""Number types and preprocessing on the whole way: what is recorded of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.networks import residual_network

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import TritonforgeError, VerificationError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.graph.preprocess import preprocessed_array
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.spec import ForgeSpec, PreprocessOptions, forge_spec_from_flags

PIXELS: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3], "resize": [20, 24]}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return residual_network(tmp_path_factory.mktemp("network") / "residual.onnx")


def spec_of(folder: Path, network: Path, **options: Any) -> ForgeSpec:
    flags = {"name": "m", "source": str(network), "max_batch_size": 8, **options}
    return forge_spec_from_flags(flags, repository=folder / "repo")


def generated(folder: Path, network: Path, **options: Any) -> Generated:
    (one,) = generate(spec_of(folder, network, **options), serve_check=False)
    return one


def made_of(published: Generated) -> dict[str, Any]:
    """What the manifest says of how it was made."""
    made: dict[str, Any] = json.loads((published.version.path / "manifest.json").read_text())["made"]
    return made


def types_of(path: Path) -> set[str]:
    """Types of the weights of a published graph."""
    weights = onnx.load(str(path)).graph.initializer
    return {onnx.TensorProto.DataType.Name(one.data_type) for one in weights}


def test_half_precision_is_published_with_its_proof(tmp_path: Path, network: Path) -> None:
    before = sha256_of_file(network)
    one = generated(tmp_path, network, precision="FP16")
    made = made_of(one)
    assert made["source_sha256"] == before == sha256_of_file(network)
    assert made["typed_graph"]["precision"] == "FP16"
    assert made["typed_graph"]["sha256"] == sha256_of_file(one.version.path / "model.onnx")
    assert made["verification"]["checks"][0]["name"] == "FP16 stays near FP32 on the CPU"
    assert "plan" not in made
    assert str(tmp_path) not in json.dumps(made)
    assert "FLOAT16" in types_of(one.version.path / "model.onnx")


def test_inputs_and_outputs_keep_their_types(tmp_path: Path, network: Path) -> None:
    plain = generated(tmp_path / "plain", network).config.message
    half = generated(tmp_path / "half", network, precision="FP16").config.message
    assert half == plain


def test_int8_records_what_calibrated_it(tmp_path: Path, network: Path) -> None:
    images = np.random.default_rng(5).standard_normal((16, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", images=images)
    calibration = {"samples": str(tmp_path / "calibration.npz")}
    precision = {"type": "INT8", "calibration": calibration, "max_relative_error": 0.2}
    one = generated(tmp_path, network, precision=precision)
    typed = made_of(one)["typed_graph"]
    assert typed["precision"] == "INT8"
    assert typed["layer_count"] > 0
    assert "calibration.npz" in typed["calibration"]
    operators = {node.op_type for node in onnx.load(str(one.version.path / "model.onnx")).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


@pytest.mark.parametrize("precision", ["FP16", "INT8"])
def test_a_failed_accuracy_gate_publishes_nothing(tmp_path: Path, network: Path, precision: str) -> None:
    strict = {"type": precision, "max_relative_error": 1e-9, "repair": {"enable": False}}
    with pytest.raises(VerificationError, match=rf"{precision} stays near FP32 on the CPU: .*allowed 1e-09"):
        generated(tmp_path, network, precision=strict)
    assert list(tmp_path.iterdir()) == []


def test_nodes_that_the_user_keeps_are_named(tmp_path: Path, network: Path) -> None:
    one = generated(tmp_path, network, precision={"type": "FP16", "keep_fp32": ["fc/*"]})
    assert [node["name"] for node in made_of(one)["typed_graph"]["kept_fp32"]] == ["fc/Gemm"]
    assert any(note.startswith("fc/Gemm stays in FP32: ") for note in one.config.notes)
    assert "# Note: fc/Gemm stays in FP32: " in one.config.text


def test_changed_precision_is_a_new_version(tmp_path: Path, network: Path) -> None:
    assert generated(tmp_path, network).version.version == 1
    assert generated(tmp_path, network, precision="FP16").version.version == 2
    again = generated(tmp_path, network, precision="FP16").version
    assert (again.version, again.new) == (2, False)


def test_preprocessing_is_proven_against_numpy(tmp_path: Path, network: Path) -> None:
    one = generated(tmp_path, network, preprocess=PIXELS)
    (first, *_) = one.verification.checks
    assert (first.name, first.passed) == ("preprocessing in the graph equals numpy", True)
    assert list(one.config.message.input[0].dims) == [20, 24, 3]
    assert one.graph is not None
    assert one.graph.inputs[0].datatype == "UINT8"


def test_preprocessing_that_does_not_fit_publishes_nothing(tmp_path: Path, network: Path) -> None:
    with pytest.raises(TritonforgeError, match=r"preprocess\.mean does not fit .*: expected 3 values, got 1"):
        generated(tmp_path, network, preprocess={"mean": [0.5]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.triton
def test_pixels_are_served_in_half_precision(tmp_path: Path, network: Path) -> None:
    (one,) = generate(spec_of(tmp_path, network, precision="FP16", preprocess=PIXELS))
    assert one.verification.checks[-1].name == "a real Triton serves the same answers"
    pixels = np.random.default_rng(1).integers(0, 256, (3, 20, 24, 3)).astype(np.uint8)
    images = preprocessed_array(pixels, PreprocessOptions.model_validate(PIXELS), (16, 16))
    expected = OnnxSession(network).run({"images": images})["logits"]
    with EmbeddedTriton(tmp_path / "repo", stop_timeout_s=0) as server, Client(server.grpc_url) as client:
        found = client.infer("m", {"images": pixels}).value["logits"]
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)
