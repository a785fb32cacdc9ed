"""Published ONNX models are judged again as they were when they were generated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import graphs
from support.networks import residual_network

from tritonforge_generator.errors import RepositoryError, SourceError
from tritonforge_generator.pipeline import generate
from tritonforge_generator.reverify import verify_repository
from tritonforge_generator.spec import forge_spec_from_flags
from tritonforge_generator.verify import Check, Verification

PIXELS: dict[str, Any] = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3], "resize": [20, 24]}
ANSWERS = "staged model answers like the source"
AGAIN = "the model repeats its answers"
ROWS = "rows are independent of their batch"
FILES = "the files are those of the manifest"
RULES = "the server's rules"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return residual_network(tmp_path_factory.mktemp("network") / "residual.onnx")


def published(folder: Path, source: Path, **options: Any) -> Path:
    """A repository with the model ``m``."""
    repository = folder / "repo"
    flags = {"name": "m", "source": str(source), "max_batch_size": 4, **options}
    generate(forge_spec_from_flags(flags, repository=repository), serve_check=False)
    return repository


def verified(repository: Path, **asked: Any) -> Verification:
    (one,) = verify_repository(repository, serve_check=False, **asked)
    return one


def checks_of(verification: Verification) -> Mapping[str, Check]:
    return {check.name: check for check in verification.checks}


def test_without_a_source_a_model_is_its_own_reference(tmp_path: Path, network: Path) -> None:
    found = verified(published(tmp_path, network))
    assert found.passed
    assert list(checks_of(found)) == [FILES, AGAIN, ROWS, RULES]
    assert found.samples == "8 drawn with seed 0"


@pytest.mark.parametrize("precision", ["FP16", "INT8"])
def test_fewer_bits_are_judged_by_their_own_limits(tmp_path: Path, network: Path, precision: str) -> None:
    """Against the FP32 source, whose tolerances would refuse them."""
    found = verified(published(tmp_path, network, precision=precision), source=network)
    assert [check.summary for check in found.checks if not check.passed] == []
    near = checks_of(found)[f"{precision} stays near FP32 on the CPU"]
    assert near.summary.endswith("allowed 0.01" if precision == "FP16" else "allowed 0.2")
    max_abs = near.figures[0].max_abs
    assert max_abs is not None
    assert max_abs > 1e-5  # it is the network in fewer bits that was compared


def test_recorded_limits_are_kept(tmp_path: Path, network: Path) -> None:
    precision = {"type": "FP16", "max_relative_error": 0.5, "min_top1": 0.5, "calibration": {"method": "MinMax"}}
    repository = published(tmp_path, network, precision=precision)
    manifest = repository / "m" / "1" / "manifest.json"
    assert checks_of(verified(repository, source=network))["FP16 stays near FP32 on the CPU"].passed
    facts = json.loads(manifest.read_text())
    facts["options"]["precision"]["max_relative_error"] = 1e-9
    manifest.write_text(json.dumps(facts))
    check = checks_of(verified(repository, source=network))["FP16 stays near FP32 on the CPU"]
    assert not check.passed
    assert "allowed 1e-09" in check.summary


@pytest.mark.parametrize("precision", [None, "FP16"])
def test_preprocessing_is_written_into_the_source_first(tmp_path: Path, network: Path, precision: str | None) -> None:
    given = {} if precision is None else {"precision": precision}
    repository = published(tmp_path, network, preprocess=PIXELS, **given)
    pixels = np.random.default_rng(3).integers(0, 256, (5, 20, 24, 3)).astype(np.uint8)
    np.savez(tmp_path / "pixels.npz", images=pixels)
    for samples in (None, tmp_path / "pixels.npz"):
        found = verified(repository, source=network, samples=samples)
        assert [check.summary for check in found.checks if not check.passed] == []
        assert "preprocessing in the graph equals numpy" in checks_of(found)
    assert found.samples.startswith("5 from pixels.npz")


def test_other_preprocessing_than_recorded_is_found(tmp_path: Path, network: Path) -> None:
    repository = published(tmp_path, network, preprocess=PIXELS)
    manifest = repository / "m" / "1" / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["options"]["preprocess"]["mean"] = [0.4, 0.5, 0.9]
    manifest.write_text(json.dumps(facts))
    check = checks_of(verified(repository, source=network))[ANSWERS]
    assert not check.passed
    assert "largest difference" in check.summary


@pytest.mark.parametrize("options", [{}, {"precision": "FP16"}, {"precision": "INT8"}], ids=str)
def test_another_source_is_found(tmp_path: Path, network: Path, options: dict[str, Any]) -> None:
    repository = published(tmp_path, network, **options)
    other = residual_network(tmp_path / "other.onnx", seed=1)
    found = verified(repository, source=other)
    assert not found.passed
    assert {check.name for check in found.checks if not check.passed} >= {ANSWERS, ROWS}


def test_recorded_shapes_and_tolerances_are_used(tmp_path: Path) -> None:
    source = graphs.embedding(tmp_path / "m.onnx")
    repository = published(tmp_path, source, verify={"shapes": {"ids": [7]}, "seed": 4})
    assert verified(repository).samples == "8 drawn with seed 4"
    found = verified(repository, source=source, seed=9)
    assert found.passed
    assert found.samples == "8 drawn with seed 9"
    other = graphs.linear(tmp_path / "linear.onnx")
    loose = published(tmp_path / "loose", other, verify={"atol": 100.0})
    assert verified(loose, source=graphs.linear(tmp_path / "other.onnx", seed=1)).passed


def test_a_source_that_does_not_fit_fails_its_model(tmp_path: Path, network: Path) -> None:
    repository = published(tmp_path, network, preprocess=PIXELS)
    check = checks_of(verified(repository, source=graphs.linear(tmp_path / "linear.onnx")))["the model can be checked"]
    assert not check.passed
    assert "has no image input to preprocess for" in check.summary


def test_a_source_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    repository = published(tmp_path, graphs.linear(tmp_path / "m.onnx"))
    with pytest.raises(SourceError, match="no such file"):
        verified(repository, source=tmp_path / "absent.onnx")


def test_a_source_belongs_to_one_model(tmp_path: Path) -> None:
    source = graphs.linear(tmp_path / "m.onnx")
    repository = published(tmp_path, source)
    published(tmp_path, source, name="other")
    with pytest.raises(RepositoryError, match="a source belongs to one model"):
        verified(repository, source=source)
    assert verified(repository, source=source, models=["other"]).passed


def test_options_that_nobody_knows_fail_their_model(tmp_path: Path) -> None:
    repository = published(tmp_path, graphs.linear(tmp_path / "m.onnx"))
    manifest = repository / "m" / "1" / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["options"]["precision"] = "FP3"
    manifest.write_text(json.dumps(facts))
    found = verified(repository)
    assert not found.passed
    assert "the manifest of 'm'" in checks_of(found)["the model can be checked"].summary


def test_models_of_other_backends_fail(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "theirs"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text('backend: "pytorch"')
    check = checks_of(verified(tmp_path / "repo"))["the model can be checked"]
    assert "expected the backend onnxruntime, tensorrt or python, got 'pytorch'" in check.summary


@pytest.mark.triton
def test_pixels_in_half_precision_are_served_like_the_source(tmp_path: Path, network: Path) -> None:
    repository = published(tmp_path, network, preprocess=PIXELS, precision="FP16")
    (found,) = verify_repository(repository, source=network)
    assert found.passed
    assert found.checks[-1].name == "a real Triton serves the same answers"


def test_a_configuration_that_is_no_text_fails_its_model(tmp_path: Path, network: Path) -> None:
    repository = published(tmp_path, network)
    (repository / "m" / "config.pbtxt").write_bytes(b'name: "\xff"')
    found = verified(repository)
    assert not found.passed
    assert not checks_of(found)[RULES].passed
