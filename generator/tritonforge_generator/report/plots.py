"""Plots as inline SVG that follows the page: its fonts, its light and its dark palette.

matplotlib draws with placeholder colours; each becomes a CSS variable, so one drawing serves both palettes.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonforge_client.extras import require_extra
from tritonforge_generator.report.figures import latency, significant
from tritonforge_generator.report.model import LatencyCurve, LoadReport, Moment, Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, _RULE, _BAD = "#010101", "#010102", "#010103"
SERIES = ("#010111", "#010112", "#010113", "#010114", "#010115", "#010116")
"""Placeholders of the page's colours for series."""
_VARIABLES = {
    INK: "var(--muted)",
    _RULE: "var(--rule)",
    _BAD: "var(--fail)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
_SIZE_INCHES = (4.8, 3.1)  # a third of a page, or the width of a phone
_NARROWEST_LABELLED_PHASE = 0.15  # of the time axis; below that a name does not fit
_LEGEND_LETTERS = 40  # that one line of a legend holds
_LOG_FROM_RATIO = 30.0  # slowest to fastest latency from which a linear axis hides the fast ones
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "xtick.color": _RULE,
    "xtick.labelcolor": INK,
    "ytick.color": _RULE,
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


def plots_from_load(load: LoadReport) -> list[Plot]:
    """Draw what the data of a load test allows.

    Args:
        load: The load test.

    Returns:
        Latency over time, throughput over time and the latency distribution, each where there is data for it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    plots = []
    answered = [moment for moment in load.moments if moment.p50_ms is not None]
    if answered:
        plots.append(_latency_over_time(answered, load.phases))
    if load.moments:
        plots.append(_throughput_over_time(load.moments, load.phases))
    curves = [curve for curve in load.curves if curve.points]
    if curves:
        plots.append(_latency_distribution(curves))
    return plots


def _latency_over_time(moments: Sequence[Moment], phases: Sequence[Phase]) -> Plot:
    drawn = _apart(moments, phases)
    at_s = [moment.at_s for moment in drawn]
    series = {
        "p99": [_or_nan(moment.p99_ms) for moment in drawn],
        "p95": [_or_nan(moment.p95_ms) for moment in drawn],
        "p50": [_or_nan(moment.p50_ms) for moment in drawn],
    }

    def draw(axes: Axes) -> None:
        for colour, (label, values) in zip(SERIES, series.items(), strict=False):
            axes.plot(at_s, values, color=colour, label=label, marker="o" if len(at_s) == 1 else "")
        _latency_axis(axes, [value for values in series.values() for value in values])
        _time_axis(axes, phases)

    medians = [moment.p50_ms for moment in moments if moment.p50_ms is not None]
    slowest = max((moment.p99_ms for moment in moments if moment.p99_ms is not None), default=max(medians))
    description = (
        f"The median stays between {latency(min(medians))} and {latency(max(medians))}; "
        f"the highest 99th percentile of an interval is {latency(slowest)}."
    )
    return Plot("Latency over time, ms", description, svg_of_drawing("latency", description, draw))


def _throughput_over_time(moments: Sequence[Moment], phases: Sequence[Phase]) -> Plot:
    drawn = _apart(moments, phases)
    at_s = [moment.at_s for moment in drawn]
    answers = [moment.rate_per_s for moment in drawn]
    errors = [moment.errors_per_s for moment in drawn]
    most_answers = max(moment.rate_per_s for moment in moments)
    most_errors = max(moment.errors_per_s for moment in moments)

    def draw(axes: Axes) -> None:
        axes.plot(at_s, answers, color=SERIES[0], label="answers", marker="o" if len(at_s) == 1 else "")
        axes.fill_between(at_s, answers, color=SERIES[0], alpha=0.12, linewidth=0)
        if most_errors > 0:
            axes.plot(at_s, errors, color=_BAD, label="errors")
        axes.set_ylim(0, most_answers * 1.12 or 1)
        axes.yaxis.set_major_formatter(_formatter())
        _time_axis(axes, phases)

    failed = "no request failed" if most_errors == 0 else f"at most {significant(most_errors)} errors a second"
    description = f"At most {significant(most_answers)} answers a second; {failed}."
    return Plot("Throughput over time, requests/s", description, svg_of_drawing("throughput", description, draw))


def _latency_distribution(curves: Sequence[LatencyCurve]) -> Plot:
    # Each decade nearer to 100 % takes the same width: the tail is where services differ.
    shown = curves[: len(SERIES)]
    largest = max(percentile for curve in shown for percentile, _ in curve.points)
    ticks = [tick for tick in (50, 90, 99, 99.9, 99.99, 99.999) if tick <= largest]

    def draw(axes: Axes) -> None:
        for colour, curve in zip(SERIES, shown, strict=False):
            tail = [100 / (100 - percentile) for percentile, _ in curve.points]
            axes.plot(tail, [value_ms for _, value_ms in curve.points], color=colour, label=curve.label)
        axes.set_xscale("log")
        axes.set_xticks([100 / (100 - tick) for tick in ticks], [f"{tick:g} %" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(1, max(2.0, 100 / (100 - largest)))
        _latency_axis(axes, [value_ms for curve in shown for _, value_ms in curve.points])
        axes.set_xlabel("share of requests answered at least this fast")

    ends = ", ".join(f"{curve.label} reaches {latency(curve.points[-1][1])}" for curve in shown)
    left_out = "" if len(curves) == len(shown) else f" {len(curves) - len(shown)} more are in the table only."
    description = f"At the {largest:g}th percentile: {ends}.{left_out}"
    return Plot("Latency distribution, ms", description, svg_of_drawing("distribution", description, draw))


def _apart(moments: Sequence[Moment], phases: Sequence[Phase]) -> list[Moment]:
    """The moments with a gap where a phase begins, because no line leads from one load to another."""
    starts_s = sorted(phase.start_s for phase in phases)
    drawn: list[Moment] = []
    for moment in moments:
        if drawn and any(drawn[-1].at_s < start_s <= moment.at_s for start_s in starts_s):
            nan = float("nan")
            drawn.append(Moment(at_s=nan, rate_per_s=nan, errors_per_s=nan, p50_ms=None, p95_ms=None, p99_ms=None))
        drawn.append(moment)
    return drawn


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _formatter() -> Any:
    ticker = require_extra("matplotlib.ticker", "report")
    return ticker.FuncFormatter(lambda value, _: f"{value:,.6g}")


def _latency_axis(axes: Axes, values_ms: Sequence[float]) -> None:
    positive = [value for value in values_ms if value > 0]
    if positive and max(positive) / min(positive) > _LOG_FROM_RATIO:
        log_axis(axes, positive)
    else:
        axes.set_ylim(0, max(positive, default=1.0) * 1.12)
        axes.yaxis.set_major_formatter(_formatter())


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
    axes.yaxis.set_major_formatter(_formatter())


def _time_axis(axes: Axes, phases: Sequence[Phase]) -> None:
    end_s = max([phase.end_s for phase in phases], default=axes.get_xlim()[1])
    axes.set_xlim(0, end_s)
    axes.set_xlabel("seconds of measurement")
    top = axes.get_xaxis_transform()
    for phase in phases:
        if phase.start_s > 0:
            axes.axvline(phase.start_s, color=_RULE, linewidth=0.9)
        if (phase.end_s - phase.start_s) / end_s >= _NARROWEST_LABELLED_PHASE:
            middle = (phase.start_s + phase.end_s) / 2
            axes.text(middle, 1.02, phase.name, transform=top, ha="center", va="bottom", fontsize=9, parse_math=False)


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
            columns = 3 if sum(map(len, labels)) < _LEGEND_LETTERS else 1
            legend = figure.legend(loc="outside upper left", ncols=legend_columns or columns)
            for text in legend.get_texts():
                text.set_parse_math(False)
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _inline(buffer.getvalue(), name, description)


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
