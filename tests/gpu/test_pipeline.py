"""From a trained model to a served plan, and what must not be published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.networks import residual_network, transformer

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import TritonforgeError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.pipeline import generate
from tritonforge_generator.spec import (
    CudaOptimization,
    ForgeSpec,
    InstanceGroup,
    ModelOptions,
    Optimization,
    PrecisionOptions,
    PreprocessOptions,
    VerifyOptions,
)

pytestmark = [pytest.mark.gpu, pytest.mark.triton, pytest.mark.timeout(900)]


def test_plans_are_published_and_served(tmp_path: Path) -> None:
    network = residual_network(tmp_path / "residual.onnx")
    tokens = transformer(tmp_path / "transformer.onnx", layers=2)
    cuda = Optimization(cuda=CudaOptimization())
    spec = ForgeSpec(
        repository=tmp_path / "models",
        models=(
            ModelOptions(name="half", source=network, platform="tensorrt", precision="FP16", optimization=cuda),
            ModelOptions(name="int8", source=network, platform="auto", precision="INT8", max_batch_size=8),
            ModelOptions(
                name="pixels",
                source=network,
                platform="tensorrt",
                precision="FP16",
                preprocess=PreprocessOptions(mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3), resize=(20, 24)),
                instance_group=(InstanceGroup(kind="KIND_GPU", count=2),),
            ),
            ModelOptions(name="tokens", source=tokens, platform="tensorrt", max_batch_size=4),
        ),
    )
    generated = generate(spec)
    assert all(one.verification.passed for one in generated)
    names = {check.name for one in generated for check in one.verification.checks}
    assert "a real Triton serves the same answers" in names
    assert not list((tmp_path / "models").rglob("*.onnx"))
    with EmbeddedTriton(tmp_path / "models") as server, Client(server.grpc_url) as client:
        images = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
        expected = OnnxSession(network).run({"images": images})["logits"]
        found = client.infer("half", {"images": images}).value["logits"]
        assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_a_graph_that_overflows_is_repaired(tmp_path: Path) -> None:
    """The hot tokens are not among those that calibrate, so only the gate can see what they do."""
    path = transformer(tmp_path / "hot.onnx", layers=4, hot_layer=2, gain=30_000.0, hot_from=32)
    samples, calibration = tmp_path / "samples.npz", tmp_path / "calibration.npz"
    random = np.random.default_rng(0)
    np.savez(samples, tokens=random.integers(0, 64, (16, 8)))
    np.savez(calibration, tokens=random.integers(0, 32, (16, 8)))
    spec = ForgeSpec(
        repository=tmp_path / "models",
        models=(
            ModelOptions(
                name="hot",
                source=path,
                platform="tensorrt",
                max_batch_size=4,
                precision=PrecisionOptions.model_validate(
                    {"type": "FP16", "calibration": {"samples": str(calibration)}}
                ),
                verify=VerifyOptions(samples=samples),
            ),
        ),
    )
    (generated,) = generate(spec)
    assert generated.typed is not None
    assert 0 < len(generated.typed.kept_fp32) <= 0.1 * generated.typed.layer_count
    assert any("before repair" in check.summary for check in generated.verification.checks)


def test_what_cannot_be_built_publishes_nothing(tmp_path: Path) -> None:
    network = residual_network(tmp_path / "residual.onnx")
    spec = ForgeSpec(
        repository=tmp_path / "models",
        models=(
            ModelOptions(name="good", source=network, platform="tensorrt"),
            ModelOptions(
                name="impossible",
                source=network,
                platform="tensorrt",
                instance_group=(InstanceGroup(kind="KIND_GPU", count=1, profile=(7,)),),
            ),
        ),
    )
    with pytest.raises(TritonforgeError, match="profile 7"):
        generate(spec, serve_check=False)
    assert not (tmp_path / "models").exists() or not list((tmp_path / "models").iterdir())
