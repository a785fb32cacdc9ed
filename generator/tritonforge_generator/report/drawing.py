"""Plots as inline SVG that follows the page: its fonts, its light and its dark palette.

matplotlib draws with placeholder colours; each becomes a CSS variable, so one drawing serves both palettes.
"""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonforge_client.extras import require_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, RULE, BAD = "#010101", "#010102", "#010103"
"""Placeholders of the page's colours for words, lines of the grid and what is wrong."""
SERIES = ("#010111", "#010112", "#010113", "#010114", "#010115", "#010116")
"""Placeholders of the page's colours for series."""
_VARIABLES = {
    INK: "var(--muted)",
    RULE: "var(--rule)",
    BAD: "var(--fail)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
_SIZE_INCHES = (4.8, 3.1)  # a third of a page, or the width of a phone
_LEGEND_LETTERS = 64  # that one line of a legend holds
_MARK_LETTERS = 7  # that the mark and the blanks of an entry take
_LOG_FROM_RATIO = 30.0  # slowest to fastest latency from which a linear axis hides the fast ones
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.color": RULE,
    "ytick.labelcolor": INK,
    "ytick.left": False,
    "ytick.minor.left": False,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.columnspacing": 1.4,
    "legend.borderaxespad": 0.0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing and its words.

    Attributes:
        title: Its caption.
        description: What it shows, for those who do not see it.
        svg: An ``<svg>`` element for inline use, without scripts, links and fixed colours.
    """

    title: str
    description: str
    svg: str


def number_formatter() -> Any:
    """Ticks as full numbers, thousands apart.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    ticker = require_extra("matplotlib.ticker", "report")
    return ticker.FuncFormatter(lambda value, _: f"{value:,.6g}")


def latency_axis(axes: Axes, values_ms: Sequence[float]) -> None:
    """Make the vertical axis fit latencies: from zero, or logarithmic where that would hide the fast ones.

    Args:
        axes: What it is an axis of.
        values_ms: What is drawn; what is not above zero does not count.
    """
    positive = [value for value in values_ms if value > 0]
    if positive and max(positive) / min(positive) > _LOG_FROM_RATIO:
        log_axis(axes, positive)
    else:
        axes.set_ylim(0, max(positive, default=1.0) * 1.12)
        axes.yaxis.set_major_formatter(number_formatter())


def log_axis(axes: Axes, values: Sequence[float]) -> None:
    """Make the vertical axis logarithmic, with ticks in full numbers.

    Args:
        axes: What it is an axis of.
        values: What is drawn, all above zero.
    """
    ticker = require_extra("matplotlib.ticker", "report")
    axes.set_yscale("log")
    within_decade = (1, 2, 5) if max(values) / min(values) < 100 else (1, 3)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=within_decade, numticks=12))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(number_formatter())


def svg_of_drawing(
    name: str, description: str, draw: Callable[[Axes], None], *, legend_columns: int | None = None
) -> str:
    """Draw for inline use.

    Args:
        name: Prefix of the drawing's ids, unique on the page.
        description: What it shows, for those who do not see it.
        draw: Draws on the axes, in colours of ``SERIES``.
        legend_columns: Columns of the legend; by default as many as its words allow.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = require_extra("matplotlib", "report")
    figures = require_extra("matplotlib.figure", "report")
    buffer = io.BytesIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = figures.Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        labels = axes.get_legend_handles_labels()[1]
        if len(labels) > 1:
            legend = figure.legend(loc="outside upper left", ncols=legend_columns or _columns(labels))
            for text in legend.get_texts():
                text.set_parse_math(False)
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _inline(buffer.getvalue(), name, description)


def _columns(labels: Sequence[str]) -> int:
    """As many columns as fit, evenly filled."""
    most = max(1, _LEGEND_LETTERS // (max(map(len, labels)) + _MARK_LETTERS))
    rows = math.ceil(len(labels) / most)
    return math.ceil(len(labels) / rows)


def _inline(document: bytes, name: str, description: str) -> str:
    """Make a stand-alone SVG fit to stand in a page beside others."""
    root = ET.fromstring(document)  # noqa: S314 - matplotlib has just written it
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            element.attrib[key.rpartition("}")[2]] = _attribute(key.rpartition("}")[2], value, name)
    for parent in (root, *root.findall("defs")):
        for child in (*parent.findall("metadata"), *parent.findall("style")):
            parent.remove(child)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", description)
    return ET.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    value = re.sub(r"\bfont: ([\d.]+px)[^;]*", r"font-size: \1", value)  # the family is the page's
    return re.sub(r"#0101[01][0-9]", lambda found: _VARIABLES.get(found.group(), found.group()), value)
