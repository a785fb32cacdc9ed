from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from load.made_results import long_result, made_result
from support.browser import look_at

from tritonforge_load.measure import GateResult
from tritonforge_load.report.page import page_from_result

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page() -> str:
    return page_from_result(made_result())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_fits_and_draws_everything(page: str, tmp_path: Path, width: int, dark: bool) -> None:
    look = look_at(page, tmp_path, width=width, dark=dark)

    assert look.console == []
    assert look.figures["scroll_width"] == width
    assert look.figures["clipped"] == []
    assert len(look.figures["svgs"]) == 13
    assert all(svg_width > 250 and svg_height > 150 for svg_width, svg_height in look.figures["svgs"])
    assert look.figures["headings"][0].split() == ["digits", "Failed"]
    assert look.figures["background"] == ("rgb(16, 19, 23)" if dark else "rgb(255, 255, 255)")
    assert ("rgb(108, 176, 255)" if dark else "rgb(11, 99, 197)") in look.figures["strokes"]


@pytest.mark.slow
def test_a_long_campaign_fits(tmp_path: Path) -> None:
    look = look_at(page_from_result(long_result()), tmp_path, width=400)
    assert look.figures["scroll_width"] == 400
    assert look.figures["clipped"] == []


def test_endless_words_fit(tmp_path: Path) -> None:
    word = "w" * 300
    result = made_result()
    gates = (GateResult(word, f"p99({word}) < 1ms", "fail", None, word),)
    phases = (replace(result.phases[0], name=word), result.phases[2])
    timeline = replace(result.timeline, absent={word: word})
    hostile = replace(result, campaign=word, target=word, phases=phases, gates=gates, timeline=timeline)
    look = look_at(page_from_result(hostile), tmp_path, width=400)
    assert look.figures["scroll_width"] == 400
    assert look.figures["clipped"] == []
