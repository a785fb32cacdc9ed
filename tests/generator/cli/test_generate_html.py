"""``tritonforge generate --html``, with plans of the stand-in TensorRT."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import graphs, stand_in_graphs
from support.pages import cells_of
from support.stand_in_plans import stand_in_tensorrt

from tritonforge_generator.cli.main import group
from tritonforge_generator.errors import VerificationError
from tritonforge_generator.hashing import sha256_of_file

SPEC = """
models:
  - {name: planned, source: m.onnx, platform: tensorrt, max_batch_size: 8, precision: {type: FP16, keep_fp32: [Relu]}}
  - {name: plain, source: linear.onnx, platform: onnxruntime, max_batch_size: 4}
"""
PLAN = ("m.onnx", "--platform", "tensorrt", "--max-batch-size", "8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with two ONNX files, which is the current one; plans can be built."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stand_in_graphs.product(tmp_path / "m.onnx", half=False)
    graphs.linear(tmp_path / "linear.onnx")
    with stand_in_tensorrt():
        yield tmp_path


def generate(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["generate", "--no-serve-check", *arguments])


def test_page_holds_all_that_is_known_of_a_plan(folder: Path) -> None:
    result = generate(*PLAN, "--precision", "{type: FP16, keep_fp32: [Relu]}", "--html", "out/page.html")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("report out/page.html\n")
    document = (folder / "out" / "page.html").read_text("utf-8")
    assert "<title>m: passed</title>" in document
    assert "The model is published as version 1." in document
    assert sha256_of_file(folder / "model_repository" / "m" / "1" / "model.plan") in document
    gates = {row[1] for row in cells_of(document, "Verification")}
    assert {"FP16 stays near FP32 on the CPU", "the plan computes in what was asked", "the server&#39;s rules"} <= gates
    assert cells_of(document, "Nodes kept in FP32") == [["fc/Relu", "Relu", "declared: Relu"]]
    layers = cells_of(document, "Layers of the plan")
    assert ["fc/MatMul", "CaskGemmMatrixMultiply", "FP16"] in [[row[0], row[2], row[3]] for row in layers]
    assert cells_of(document, "Types that the layers compute in")[0][:3] == ["FP16", "100%", "100%"]
    assert [row[0] for row in cells_of(document, "Time per stage")][:4] == ["source", "graph", "precision", "plan"]
    assert "stand-in, compute capability 9.0" in document


def test_models_of_a_spec_share_a_page(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC)
    result = generate("spec.yaml", "--html", "page.html")
    assert result.exit_code == 0, result.output
    document = (folder / "page.html").read_text("utf-8")
    assert "<title>2 models: passed</title>" in document
    planned, plain = cells_of(document, "Models")
    assert (planned[0], planned[3], planned[4]) == ("planned", "tensorrt", "FP16")
    assert (plain[0], plain[3], plain[4], plain[6]) == ("plain", "onnxruntime", "as in the file", "\N{EN DASH}")
    assert document.count("The TensorRT plan<") == 1
    assert re.findall(r'<h3 class="part" id="model-2-(\w+)"', document) == ["verification", "config", "graph", "stages"]


def test_a_failed_gate_is_on_the_page_with_those_that_passed(folder: Path) -> None:
    result = generate(*PLAN, "--instance-group", "[{profile: [3]}]", "--html", "page.html")
    assert isinstance(result.exception, VerificationError)
    assert "report page.html" in result.stderr
    document = (folder / "page.html").read_text("utf-8")
    assert "<title>m: failed</title>" in document
    assert "The model is not published." in document
    verdicts = {row[1]: row[0].split()[-1] for row in cells_of(document, "Verification")}
    assert verdicts["every instance takes every batch"] == "failed"
    assert verdicts["the plan computes in what was asked"] == "passed"
    assert cells_of(document, "Figures per output")[0][:2] == ["the plan answers like the FP32 graph", "y"]
    assert not (folder / "model_repository").exists()


def test_json_stays_for_programs(folder: Path) -> None:
    result = generate("linear.onnx", "--platform", "onnxruntime", "--html", "page.html", "--json")
    assert json.loads(result.stdout)["models"][0]["model"] == "linear"
    assert (folder / "page.html").is_file()


def test_no_page_is_written_unless_asked_for(folder: Path) -> None:
    assert generate("linear.onnx", "--platform", "onnxruntime").exit_code == 0
    assert not generate(*PLAN, "--instance-group", "[{profile: [3]}]").stderr.count("report")
    assert list(folder.rglob("*.html")) == []
