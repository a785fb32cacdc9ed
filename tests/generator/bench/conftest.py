"""A small network with labelled samples, and stand-ins for a Python that crashes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.networks import residual_network

from tritonforge_generator.graph import OnnxSession

WRONG_LABELS = 3
SAMPLES = 40


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return residual_network(tmp_path_factory.mktemp("network") / "residual.onnx")


@pytest.fixture(scope="session")
def samples(network: Path) -> Path:
    """Images with labels that the network gets right, but for the first three."""
    images = np.random.default_rng(7).standard_normal((SAMPLES, 3, 16, 16)).astype(np.float32)
    labels = OnnxSession(network).run({"images": images})["logits"].argmax(axis=1)
    labels[:WRONG_LABELS] = (labels[:WRONG_LABELS] + 1) % 10
    path = network.with_name("samples.npz")
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Writes a shell script that stands in for a Python."""

    def write(text: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return os.fspath(path)

    return write
