"""Precision and plan of a model as a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import reports
from support.browser import look_at
from support.pages import cells_of

from tritonforge_generator.report import ModelReport, RunReport, render_report


def page_of(model: ModelReport) -> str:
    return render_report(RunReport(title=model.name, command="c", started_at="now", tool="t", models=(model,)))


@pytest.fixture(scope="module")
def document() -> str:
    return page_of(reports.planned_model())


def test_the_headline_says_how_it_computes_and_what_it_took(document: str) -> None:
    headline = document.partition("<main>")[0]
    assert "unknown 88.41%, FP16 11.59%, FP32 &lt; 0.01% of the FLOPs" in headline
    for words in ("50.3 MB", "TensorRT 10.16.1.11, NVIDIA H200", "1 min 23 s"):
        assert words in headline


def test_layers_are_shown_with_the_nodes_that_became_them(document: str) -> None:
    fused, copied, region, wide = cells_of(document, "Layers of the plan")
    assert fused[:5] == [
        "/stem/conv/Conv, /stem/act/Relu",
        *("/stem/conv/Conv + /stem/act/Relu", "CaskConvolution", "FP16", "236 M"),
    ]
    assert fused[5].startswith("sm80_xmma_fprop")
    assert copied == ["\N{EN DASH}", "Reformatting CopyNode", "Reformat", *("\N{EN DASH}",) * 3]
    assert region[0].startswith("/encoder/layers.0/attention/self/MatMul_0 and 59 more")
    assert region[0].count("MatMul_") == 60
    assert wide[3] == "FP32"


def test_proof_profiles_and_cache_are_shown(document: str) -> None:
    assert [row[:3] for row in cells_of(document, "Types that the layers compute in")] == [
        ["unknown", "33.33%", "88.41%"],
        ["FP16", "33.33%", "11.59%"],
        ["FP32", "33.33%", "&lt; 0.01%"],
    ]
    assert cells_of(document, "Optimisation profiles")[1] == [
        *("1", "images", "[9, 1, 8, 8]", "[32, 1, 8, 8]", "[32, 1, 8, 8]", "16.8 MB")
    ]
    assert "0 bytes read, 182 kB written" in document


def test_nodes_kept_in_fp32_are_shown_with_reasons(document: str) -> None:
    assert cells_of(document, "Nodes kept in FP32") == [
        ["/head/Gemm", "Gemm", "declared: /head/*"],
        ["/norm/Pow", "Pow", "reaches 8.1e+04, above FP16&#39;s 65504"],
    ]
    assert "2 of 61 nodes that could be smaller" in document


def test_a_plan_without_counted_flops_is_shown_by_layers() -> None:
    model = reports.planned_model()
    assert model.plan is not None
    plan = replace(model.plan, proof=replace(model.plan.proof, flop_share={}))
    document = page_of(replace(model, plan=plan))
    rows = cells_of(document, "Types that the layers compute in")
    assert [len(row) for row in rows] == [3, 3, 3], "type, share of the layers, bar"
    assert "of the layers" in document.partition("<main>")[0]


def test_a_plan_that_was_not_built_again_has_no_time_and_no_cache() -> None:
    model = reports.planned_model()
    assert model.plan is not None
    document = page_of(replace(model, plan=replace(model.plan, newly_built=False, build_s=0.0)))
    assert "before this run: the published plan was made from the same" in document
    assert "Timing cache" not in document
    assert "Built in" not in document


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_with_its_lists_open(document: str, tmp_path: Path, width: int) -> None:
    look = look_at(document.replace("<details>", "<details open>"), tmp_path, width=width)
    assert look.console == []
    assert look.figures["scroll_width"] == width
    assert look.figures["clipped"] == []
    assert look.figures["headings"][1:5] == [
        *("Verification", "What was generated, and why", "Precision", "The TensorRT plan")
    ]
