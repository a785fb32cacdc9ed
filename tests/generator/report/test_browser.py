from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.browser import look_at

from tritonforge_generator.report import RunReport, render_report

pytestmark = pytest.mark.browser

PALETTES = [False, True]


@pytest.mark.parametrize("dark", PALETTES, ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_and_draws_everything(report: RunReport, tmp_path: Path, width: int, dark: bool) -> None:
    look = look_at(render_report(report), tmp_path, width=width, dark=dark)

    assert look.console == []
    assert look.figures["client_width"] == width
    assert look.figures["scroll_width"] == width
    assert look.figures["clipped"] == []
    assert len(look.figures["svgs"]) == 3
    assert all(svg_width > 250 and svg_height > 150 for svg_width, svg_height in look.figures["svgs"])
    assert look.figures["headings"][0].split() == ["digits", "Passed"]
    assert look.picture.stat().st_size > 20_000


def test_palette_follows_the_reader(report: RunReport, tmp_path: Path) -> None:
    light, dark = (look_at(render_report(report), tmp_path, width=1280, dark=dark) for dark in PALETTES)

    assert light.figures["background"] == "rgb(255, 255, 255)"
    assert dark.figures["background"] == "rgb(16, 19, 23)"
    first_series = {"light": "rgb(11, 99, 197)", "dark": "rgb(108, 176, 255)"}
    assert first_series["light"] in light.figures["strokes"]
    assert first_series["dark"] in dark.figures["strokes"]
    assert first_series["light"] not in dark.figures["strokes"]


def test_a_hostile_report_still_fits(failed_report: RunReport, tmp_path: Path) -> None:
    long = "model_" + "x" * 300
    look = look_at(render_report(replace(failed_report, title=long, command=long)), tmp_path, width=390)

    assert look.figures["scroll_width"] == 390
    assert look.figures["clipped"] == []
