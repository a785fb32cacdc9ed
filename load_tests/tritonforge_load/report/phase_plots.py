"""Drawings by phase: where time goes in the server, batches, latency over throughput, and latency distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tritonforge_generator.report.drawing import INK, SERIES, Plot, latency_axis, number_formatter
from tritonforge_generator.report.drawing import svg_of_drawing as svg_of
from tritonforge_generator.report.figures import latency, significant
from tritonforge_load.measure import CampaignResult, WorkloadResult
from tritonforge_load.observe.models import ModelFacts
from tritonforge_load.report.knee import LoadCurve, LoadPoint, curves_from_result
from tritonforge_load.report.view import model_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BARS: Final = 12
_FEWEST_PLACES: Final = 5  # so that one bar alone is no block
_MOST_LETTERS: Final = 20
_POINTS_PER_DECADE: Final = 20  # of the distribution, each decade nearer to 100 %
_NINES: Final = (50, 90, 99, 99.9, 99.99, 99.999, 99.9999)
_MS_PER_S: Final = 1e3
_DRAWN_PERCENTS: Final = (99.0, 95.0, 50.0)


def server_plots(result: CampaignResult) -> list[Plot]:
    """Draw queue against compute, and executed batch sizes, by phase and model.

    Args:
        result: The result.

    Returns:
        The drawings that there is data for.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    facts = [(phase.name, model) for phase in result.phases for model in model_rows(phase)]
    several = len({model.model for _, model in facts}) > 1
    named = [(f"{phase}, {model.model}" if several else phase, model) for phase, model in facts]
    plots = []
    served = [(name, model) for name, model in named if model.requests > 0]
    if served:
        plots.append(_time_in_server(served))
    executed = [(name, model) for name, model in named if model.batches]
    if executed:
        plots.append(_batches(executed))
    return plots


def _time_in_server(served: Sequence[tuple[str, ModelFacts]]) -> Plot:
    shown = served[:_MOST_BARS]
    parts = {
        "queue": [model.queue_s / model.requests * _MS_PER_S for _, model in shown],
        "input": [model.compute_input_s / model.requests * _MS_PER_S for _, model in shown],
        "compute": [model.compute_infer_s / model.requests * _MS_PER_S for _, model in shown],
        "output": [model.compute_output_s / model.requests * _MS_PER_S for _, model in shown],
    }
    notes = ["" if math.isnan(model.queue_share) else f"{model.queue_share:.0%} queue" for _, model in shown]
    colours = (SERIES[1], SERIES[3], SERIES[0], SERIES[2])
    largest, model = max(shown, key=lambda one: one[1].queue_mean_ms)
    description = f"Requests wait longest in {largest}: {latency(model.queue_mean_ms)} on average in the queue."
    title = "Time in the server, mean ms of a request" + _first(len(shown), len(served))
    bars = _Bars([name for name, _ in shown], parts, colours, notes)
    return Plot(title, description, svg_of("load-server", description, bars.draw))


def _batches(executed: Sequence[tuple[str, ModelFacts]]) -> Plot:
    shown = executed[:_MOST_BARS]
    bins = _bins(sorted({rows for _, model in shown for rows in model.batches}))
    parts = {}
    for label, sizes in bins.items():
        counts = [sum(count for rows, count in model.batches.items() if rows in sizes) for _, model in shown]
        parts[label] = [
            100 * count / sum(model.batches.values()) for count, (_, model) in zip(counts, shown, strict=True)
        ]
    notes = [f"mean {significant(model.batch_rows_mean)}" for _, model in shown]
    means = "; ".join(f"{name} {significant(model.batch_rows_mean)}" for name, model in shown)
    description = f"Rows of an execution on average: {means}."
    title = "Executed batches by rows, % of executions" + _first(len(shown), len(executed))
    bars = _Bars([name for name, _ in shown], parts, SERIES, notes, ticks=(0, 25, 50, 75, 100))
    return Plot(title, description, svg_of("load-batches", description, bars.draw))


def _bins(sizes: Sequence[int]) -> dict[str, frozenset[int]]:
    """A bin a size while there are colours; else one a doubling, and one for all that is larger."""
    if len(sizes) <= len(SERIES):
        return {str(size): frozenset({size}) for size in sizes}
    bins: dict[str, frozenset[int]] = {}
    first = sizes[0].bit_length() - 1
    for power in range(first, first + len(SERIES)):
        last = power == first + len(SERIES) - 1
        within = frozenset(size for size in sizes if 2**power <= size and (last or size < 2 ** (power + 1)))
        if within:
            low, high = min(within), max(within)
            bins[str(low) if low == high else f"{low}\N{EN DASH}{high}"] = within
    return bins


@dataclass(frozen=True, slots=True)
class _Bars:
    """A stacked bar a label, the first on top, with a note at its end."""

    labels: Sequence[str]
    parts: dict[str, list[float]]
    colours: Sequence[str]
    notes: Sequence[str]
    ticks: Sequence[float] | None = None

    def draw(self, axes: Axes) -> None:
        places = range(len(self.labels))
        ends = [0.0] * len(self.labels)
        for colour, (part, lengths) in zip(self.colours, self.parts.items(), strict=False):
            axes.barh(places, lengths, left=ends, color=colour, height=0.62, label=part)
            ends = [end + length for end, length in zip(ends, lengths, strict=True)]
        for place, (end, note) in enumerate(zip(ends, self.notes, strict=True)):
            axes.annotate(note, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(list(places), [_short(label) for label in self.labels], parse_math=False)
        axes.set_ylim(max(len(self.labels), _FEWEST_PLACES) - 0.5, -0.5)
        axes.set_xlim(0, max(ends) * 1.35 or 1)
        if self.ticks is not None:
            axes.set_xticks(list(self.ticks))
        axes.xaxis.set_major_formatter(number_formatter())
        axes.grid(visible=False)


def curve_plots(result: CampaignResult) -> list[Plot]:
    """Draw latency over throughput for each search, and for open or closed phases of several loads.

    Args:
        result: The result.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return [_curve(curve, f"load-curve-{number}") for number, curve in enumerate(curves_from_result(result), start=1)]


def knee_words(curve: LoadCurve) -> str:
    """Where the knee of a curve is, in words."""
    if curve.knee is None:
        words = "no knee was seen: latency does not bend within the loads that were tried"
    else:
        load = _load_words(curve, curve.knee)
        words = f"the knee is at {load}, with a p99 of {latency(curve.knee.total.percentile_ms(99))}"
    invalid = (
        f"; {curve.left_out} invalid run{'s are' if curve.left_out > 1 else ' is'} left out" if curve.left_out else ""
    )
    return f"In {curve.name} {words}{invalid}."


def _load_words(curve: LoadCurve, point: LoadPoint) -> str:
    return f"{point.load:,.0f} users" if curve.by_users else f"{point.load:,.6g}/s"


def _curve(curve: LoadCurve, name: str) -> Plot:
    # As many points as loads: where the server holds no more, the line goes straight up.
    rates = [point.total.rate_per_s for point in curve.points]
    series = {percent_: [point.total.percentile_ms(percent_) for point in curve.points] for percent_ in _DRAWN_PERCENTS}

    def draw(axes: Axes) -> None:
        for colour, (percent_, values) in zip(SERIES, series.items(), strict=False):
            axes.plot(rates, values, color=colour, marker="o", markersize=4, label=f"p{percent_:g}")
        latency_axis(axes, [value for values in series.values() for value in values])
        axes.set_xlim(0, max(rates) * 1.08)
        axes.xaxis.set_major_formatter(number_formatter())
        axes.set_xlabel("answered requests/s")
        if curve.knee is not None:
            at = curve.knee.total.rate_per_s
            axes.axvline(at, color=INK, linewidth=1, linestyle=":")
            text = f"knee: {_load_words(curve, curve.knee)}"
            left = at > max(rates) * 0.5
            axes.annotate(
                text, (at, 0.98), (-5 if left else 5, 0), xycoords=axes.get_xaxis_transform(),
                textcoords="offset points", ha="right" if left else "left", va="top", fontsize=9,
            )  # fmt: skip

    description = knee_words(curve)
    return Plot(f"Latency by throughput in {curve.name}, ms", description, svg_of(name, description, draw))


def distribution_plots(result: CampaignResult) -> list[Plot]:
    """Draw the latency distribution of each phase, and of its workloads while there are few.

    Args:
        result: The result.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    by_workload = [(phase.name, row) for phase in result.phases for row in phase.rows if row.answered > 1]
    rows = [(f"{phase}, {row.workload}", row) for phase, row in by_workload]
    if len(rows) > len(SERIES):
        rows = [(phase.name, phase.total) for phase in result.phases if phase.total.answered > 1]
    if not rows:
        return []
    shown = [(label, _tail(row)) for label, row in rows[: len(SERIES)]]
    return [_distribution(shown, of=len(rows))]


def _distribution(shown: Sequence[tuple[str, list[tuple[float, float]]]], *, of: int) -> Plot:
    # Each decade nearer to 100 % takes the same width: the tail is where services differ.
    largest = max(percent_ for _, points in shown for percent_, _ in points)
    ticks = [tick for tick in _NINES if tick <= largest]

    def draw(axes: Axes) -> None:
        for colour, (label, points) in zip(SERIES, shown, strict=False):
            tail = [100 / (100 - percent_) for percent_, _ in points]
            axes.plot(tail, [value_ms for _, value_ms in points], color=colour, label=_short(label, 2 * _MOST_LETTERS))
        axes.set_xscale("log")
        axes.set_xticks([100 / (100 - tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(1, max(2.0, 100 / (100 - largest)))
        latency_axis(axes, [value_ms for _, points in shown for _, value_ms in points])
        axes.set_xlabel("percentile")

    ends = ", ".join(f"{label} reaches {latency(points[-1][1])}" for label, points in shown)
    description = f"Up to the {largest:.6g}th percentile: {ends}."
    title = "Latency distribution, ms" + _first(len(shown), of)
    return Plot(title, description, svg_of("load-distribution", description, draw))


def _tail(row: WorkloadResult) -> list[tuple[float, float]]:
    """Percentiles up to the last that this number of answers can tell from the slowest one."""
    steps = int(_POINTS_PER_DECADE * math.log10(row.answered))
    percents = [100 * (1 - 10 ** (-step / _POINTS_PER_DECADE)) for step in range(steps + 1)]
    latencies_ns = row.cell.latency.percentiles_ns(percents)
    return [(percent_, value_ns / 1e6) for percent_, value_ns in zip(percents, latencies_ns, strict=True)]


def _first(shown: int, of: int) -> str:
    """What a title says when there was no room for all."""
    return f" (the first {shown} of {of})" if shown < of else ""


def _short(name: str, letters: int = _MOST_LETTERS) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}\N{HORIZONTAL ELLIPSIS}"
