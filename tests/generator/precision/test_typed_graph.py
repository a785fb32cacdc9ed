from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, version_converter
from support.networks import residual_network, transformer
from support.samples import calibration, images, tokens

from tritonforge_generator.errors import PrecisionError
from tritonforge_generator.graph import OnnxSession, Samples
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.precision import PrecisionStage, TypedGraph
from tritonforge_generator.spec import PrecisionOptions

PATTERNS = ["fc/*", "Relu"]


def stage_of(path: Path, samples: Samples | None = None, **options: Any) -> PrecisionStage:
    return PrecisionStage(path, PrecisionOptions(**options), calibration(samples or images(8)), batched=True)


def typed(path: Path, samples: Samples | None = None, **options: Any) -> TypedGraph:
    folder = path.parent / "typed"
    folder.mkdir(exist_ok=True)
    return stage_of(path, samples, **options).typed_graph(folder)


def with_opset(path: Path, opset: int) -> Path:
    onnx.save(version_converter.convert_version(onnx.load(str(path)), opset), str(path))
    return path


@pytest.mark.parametrize("precision", ["FP16", "BF16", "INT8", "FP8"])
@pytest.mark.parametrize(
    ("write", "samples"),
    [(residual_network, images(8)), (transformer, tokens(8))],
    ids=["residual", "transformer"],
)
def test_files_are_valid_and_the_source_is_left_alone(
    tmp_path: Path, write: Callable[[Path], Path], samples: Samples, precision: str
) -> None:
    path = with_opset(write(tmp_path / "net.onnx"), 19)
    before = path.read_bytes()
    found = typed(path, samples, type=precision)
    assert path.read_bytes() == before
    for file in {found.path, found.check_path}:
        onnx.checker.check_model(onnx.load(str(file)), full_check=True)
    assert (found.check_path == found.path) == (precision == "INT8")
    assert found.sha256 == sha256_of_file(found.path)
    assert (found.precision, found.kept_fp32) == (precision, ())
    assert found.layer_count > 0
    assert found.calibration == "a test, sha256 of a test"
    assert (found.to_json()["calibration"], "path" in found.to_json()) == (found.calibration, False)
    source = OnnxSession(path)
    assert (OnnxSession(found.check_path).inputs, OnnxSession(found.check_path).outputs) == (
        source.inputs,
        source.outputs,
    )


@pytest.mark.parametrize("precision", ["FP32", "TF32"])
def test_fp32_is_the_source_itself(tmp_path: Path, precision: str) -> None:
    path = residual_network(tmp_path / "net.onnx")
    found = typed(path, type=precision)
    assert (found.path, found.check_path, found.sha256) == (path, path, sha256_of_file(path))
    assert (found.kept_fp32, found.layer_count, found.calibration) == ((), 0, "")
    assert list((tmp_path / "typed").iterdir()) == []


def test_declared_nodes_stay_in_fp32(tmp_path: Path) -> None:
    found = typed(residual_network(tmp_path / "net.onnx"), type="FP16", keep_fp32=tuple(PATTERNS))
    assert {one.name: one.reason for one in found.kept_fp32} == {
        "fc/Gemm": "declared: fc/*",
        **dict.fromkeys(
            ["stem/Relu", "b0/first/Relu", "b0/Relu", "b1/first/Relu", "b1/Relu"],
            "declared: Relu",
        ),
    }
    model = onnx.load(str(found.path))
    half = {one.name for one in model.graph.initializer if one.data_type == TensorProto.FLOAT16}
    assert "stem.weight__fp16" in half
    assert not any(name.startswith("fc.") for name in half)


def test_only_what_could_be_quantised_counts_as_kept_of_int8(tmp_path: Path) -> None:
    found = typed(residual_network(tmp_path / "net.onnx"), type="INT8", keep_fp32=tuple(PATTERNS))
    assert [one.name for one in found.kept_fp32] == ["fc/Gemm"]
    assert found.layer_count == 8  # five convolutions, two additions and the classifier
    (gemm,) = (one for one in onnx.load(str(found.path)).graph.node if one.name == "fc/Gemm")
    assert list(gemm.input) == ["flat", "fc.weight", "fc.bias"]


@pytest.mark.parametrize("precision", ["FP16", "INT8"])
def test_candidates_are_what_is_smaller_now(tmp_path: Path, precision: str) -> None:
    stage = stage_of(residual_network(tmp_path / "net.onnx"), type=precision, keep_fp32=("fc/*",))
    found = stage.typed_graph(tmp_path, kept={"stem/Conv": "a test"})
    assert {one.name: one.reason for one in found.kept_fp32} == {"fc/Gemm": "declared: fc/*", "stem/Conv": "a test"}
    names = stage.candidates(found)
    assert len(names) == found.layer_count - 2
    assert not {"fc/Gemm", "stem/Conv"} & set(names)


@pytest.mark.parametrize(
    ("pattern", "action"),
    [
        ("fc/Gem", r"Did you mean fc/Gemm"),
        ("Relus", r"Did you mean Relu\?"),
        ("nothing/like/it*", r"See tritonforge inspect\."),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused(tmp_path: Path, pattern: str, action: str) -> None:
    path = residual_network(tmp_path / "net.onnx")
    with pytest.raises(PrecisionError, match=rf"keep_fp32 names nothing in net\.onnx.*{action}"):
        stage_of(path, type="FP16", keep_fp32=("stem/*", pattern))


@pytest.mark.parametrize(
    ("precision", "opset", "least"), [("FP8", 18, 19), ("INT8", 12, 13), ("BF16", 12, 13), ("FP16", 8, 9)]
)
def test_a_graph_that_is_too_old_is_refused(tmp_path: Path, precision: str, opset: int, least: int) -> None:
    path = residual_network(tmp_path / "net.onnx")
    model = onnx.load(str(path))
    model.opset_import[0].version = opset  # it is refused before anything is run
    onnx.save(model, str(path))
    with pytest.raises(PrecisionError, match=f"precision {precision} needs a newer opset: expected opset {least} or"):
        stage_of(path, type=precision)


def test_fewer_bits_make_smaller_files(tmp_path: Path) -> None:
    path = transformer(tmp_path / "net.onnx", layers=2)
    whole = path.stat().st_size
    half = typed(path, tokens(8), type="BF16").path.stat().st_size
    assert half < 0.7 * whole
