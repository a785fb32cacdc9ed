"""A comparison of runtimes as a page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.benches import full_bench
from support.browser import look_at
from support.pages import cells_of

from tritonforge_generator.report import Bench, RunReport, bench_from_json, render_report


def page_of(bench: Bench) -> str:
    return render_report(RunReport(title=bench.model, command="tritonforge bench", started_at="", tool="", bench=bench))


def test_the_tables_say_speed_and_accuracy_side_by_side() -> None:
    document = page_of(full_bench())
    speed = cells_of(document, "Speed by runtime, precision and batch size")
    assert speed[7] == [
        *("TensorRT FP16", "64", "4.00", "4.40", "5.60", "16,000", "10.0"),
        *("6.00", "6.60", "8.40", "10,667", "7.50", "1,980", "412"),
    ]
    assert speed[0][-2:] == ["\N{EN DASH}", "\N{EN DASH}"], "a CPU has no clocks"
    accuracy = cells_of(document, "Accuracy and cost by runtime and precision")
    assert accuracy[4][:8] == [
        *("TensorRT INT8", "\N{MULTIPLICATION X} outside its limit", "1.2e-01", "97.50%"),
        *("96.25%", "21,333", "770 MB", "50.3 MB"),
    ]
    assert accuracy[3][1].endswith("within its limit")
    assert cells_of(document, "Left out") == [["PyTorch compiled", "torch is not installed", "Run: pip install torch."]]
    assert "--calibration" in document


def test_the_headline_is_the_fastest_of_those_that_are_right() -> None:
    bench = full_bench()
    assert bench.fastest is bench.entries[3]
    headline = page_of(bench).partition("<main>")[0]
    assert "TensorRT FP16, batch 64" in headline
    assert "TensorRT INT8" not in headline
    assert "over ONNX Runtime CPU FP32 at batch 64" in headline


def test_a_cpu_has_no_copies_to_tell_apart() -> None:
    bench = full_bench()
    document = page_of(replace(bench, entries=bench.entries[:1]))
    assert "copies" not in document
    assert len(cells_of(document, "Speed by runtime, precision and batch size")[0]) == 7


def test_answers_that_are_not_finite_are_said_to_be() -> None:
    bench = full_bench()
    broken = replace(bench.entries[4], finite=False, relative_error=None, accurate=False)
    document = page_of(replace(bench, entries=(*bench.entries[:4], broken)))
    assert cells_of(document, "Accuracy and cost by runtime and precision")[4][2] == "not finite"


def test_a_comparison_of_nothing_says_why() -> None:
    document = page_of(replace(full_bench(), entries=(), baseline=""))
    assert "torch is not installed" in document
    assert "<svg" not in document
    assert "Accuracy and cost" not in document


def test_names_are_text() -> None:
    document = page_of(replace(full_bench(), model="<b>$x$</b>", samples="<i>", notes=("<u>",)))
    assert not re.search(r"<b>\$x|<i>|<u>", document)


def test_plots_tell_runtimes_and_precisions_apart() -> None:
    document = page_of(full_bench())
    best, batches, error = re.findall(r"<svg.*?</svg>", document, re.DOTALL)
    assert "TensorRT INT8 answers the most: 21,333 rows a second at batch 64; answers of TensorRT INT8 are" in best
    assert best.count("\N{MULTIPLICATION X}") == 1, "at the bar of what is outside its limit"
    assert [label for label in ("PyTorch", "TensorRT", "TF32", "INT8") if f">{label}<" not in batches] == []
    assert "The largest relative error is 1.2e-01, of TensorRT INT8" in error
    one_size = replace(full_bench(), entries=tuple(replace(one, rows=one.rows[:1]) for one in full_bench().entries))
    assert page_of(one_size).count("<svg") == 2, "over one batch size there is no line to draw"


def test_json_and_back() -> None:
    bench = full_bench()
    data = json.loads(json.dumps(bench.to_json(), allow_nan=False))
    assert bench_from_json(data) == bench
    assert data["entries"][3]["rows"][1]["rows_per_s"] == pytest.approx(16_000)
    assert data["entries"][3]["rows"][1]["total_rows_per_s"] == pytest.approx(64 / 6 * 1e3)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_and_draws_everything(tmp_path: Path, width: int) -> None:
    look = look_at(page_of(full_bench()), tmp_path, width=width)
    assert look.console == []
    assert look.figures["scroll_width"] == width
    assert look.figures["clipped"] == []
    assert len(look.figures["svgs"]) == 3
    assert all(svg_width > 250 and svg_height > 150 for svg_width, svg_height in look.figures["svgs"])
    assert look.figures["headings"][1:3] == ["Speed", "Accuracy and cost"]
