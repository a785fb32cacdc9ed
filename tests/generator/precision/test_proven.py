"""The precision stage under its gate, as the pipeline runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import version_converter
from support.networks import residual_network
from support.samples import images, pool

from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph import OnnxSession, SampleOptions, graph_from_source
from tritonforge_generator.precision import LIMITS, TypedGraph
from tritonforge_generator.source import source_from_path
from tritonforge_generator.spec import PrecisionOptions, PrecisionType, VerifyOptions
from tritonforge_generator.verify import Check, Reference, proven_typed_graph, reference_from_path
from tritonforge_generator.verify.typed import precision_check


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = residual_network(tmp_path / "net.onnx")
    onnx.save(version_converter.convert_version(onnx.load(str(path)), 19), str(path))
    return path


def reference_of(network: Path, samples: Path | None = None) -> Reference:
    return reference_from_path(network, VerifyOptions(samples=samples), batched=True)


def proven(network: Path, reference: Reference, **options: Any) -> tuple[TypedGraph, Check]:
    graph = graph_from_source(source_from_path(network), SampleOptions())
    folder = network.parent / "typed"
    folder.mkdir(exist_ok=True)
    return proven_typed_graph(network, graph, PrecisionOptions.model_validate(options), reference, folder)


@pytest.mark.parametrize("precision", get_args(PrecisionType))
def test_a_common_network_passes_in_every_precision(network: Path, precision: PrecisionType) -> None:
    typed, check = proven(network, reference_of(network), type=precision)
    assert (check.name, check.passed) == (f"{precision} stays near FP32 on the CPU", True)
    assert f"allowed {LIMITS[precision]:g}" in check.summary
    assert [figures.name for figures in check.figures] == ["logits"]
    assert typed.precision == precision


def test_the_calibration_is_named_with_its_hash(network: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **images(8, seed=5).arrays)
    found = [
        proven(network, reference_of(network), type="INT8", **options)[0].calibration
        for options in ({}, {"calibration": {"samples": str(tmp_path / "own.npz")}})
    ]
    assert found[0].startswith("8 drawn with seed ")
    assert found[1].startswith("8 from own.npz (sha256 ")
    hashes = [text.rpartition("sha256 ")[2] for text in found]
    assert [len(one) for one in hashes] == [64, 64]
    assert hashes[0] != hashes[1]


def test_one_file_cannot_calibrate_and_judge(network: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    np.savez(samples, **images(8).arrays)
    with pytest.raises(SpecError, match="all calibration samples are verification samples too"):
        proven(network, reference_of(network, samples), type="INT8", calibration={"samples": str(samples)})


def test_calibration_that_shows_nothing_of_the_judging_samples_fails(network: Path, tmp_path: Path) -> None:
    """Ranges of dim images cut bright ones off."""
    np.savez(tmp_path / "bright.npz", **images(8, scale=30.0).arrays)
    np.savez(tmp_path / "dim.npz", **images(8, seed=1).arrays)
    reference = reference_of(network, tmp_path / "bright.npz")
    _, check = proven(network, reference, type="INT8", calibration={"samples": str(tmp_path / "dim.npz")})
    assert not check.passed
    assert "does not mend it; the worst are stem/Conv (" in check.summary


def test_a_session_that_does_not_run_fails_the_gate(network: Path) -> None:
    reference = reference_of(network)
    wrong = replace(reference, samples=pool(images=np.zeros((8, 3, 16, 15), np.float32)))
    check = precision_check(wrong, OnnxSession(network), PrecisionOptions(), "a gate")
    assert (check.name, check.passed) == ("a gate", False)
    assert "does not run on images (1, 3, 16, 15)" in check.summary
