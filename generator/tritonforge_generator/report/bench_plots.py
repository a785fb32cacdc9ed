"""Plots of a comparison: the colour says the runtime, the mark and the line say the precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tritonforge_generator.report.bench import Bench, BenchEntry
from tritonforge_generator.report.drawing import INK, SERIES, Plot, log_axis, svg_of_drawing
from tritonforge_generator.report.figures import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS: Final = {"FP32": "o", "TF32": "s", "FP16": "^", "BF16": "v", "INT8": "D", "FP8": "P"}
_LINES: Final = {"FP32": "-", "TF32": "--", "FP16": (0, (6, 1)), "BF16": "-.", "INT8": ":", "FP8": ":"}


def plots_from_bench(bench: Bench) -> list[Plot]:
    """Draw the best throughput of each entry, throughput over batch sizes, and speed against accuracy.

    Args:
        bench: The comparison, with at least one entry.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(entry.runtime for entry in bench.entries))
    colours = {name: SERIES[index % len(SERIES)] for index, name in enumerate(names)}
    plots = [_best(bench.entries, colours)]
    if len({row.batch_size for entry in bench.entries for row in entry.rows}) > 1:
        plots.append(_over_batches(bench.entries, colours))
    errors = [(one, one.relative_error) for one in bench.entries if one.relative_error]
    if errors:
        plots.append(_speed_and_accuracy(errors, colours))
    return plots


def _best(entries: Sequence[BenchEntry], colours: dict[str, str]) -> Plot:
    ranked = sorted(entries, key=lambda one: one.best.rows_per_s)

    def draw(axes: Axes) -> None:
        values = [entry.best.rows_per_s for entry in ranked]
        places = range(len(ranked))
        axes.barh(places, values, color=[colours[entry.runtime] for entry in ranked], height=0.62)
        axes.set_yticks(list(places), [entry.name for entry in ranked])
        for place, entry in enumerate(ranked):
            value = entry.best.rows_per_s
            text = significant(value) + ("" if entry.accurate else " \N{MULTIPLICATION X}")
            axes.annotate(text, (value, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_xlim(0, max(values) * 1.25)
        axes.set_xticks([])
        axes.grid(visible=False)

    fastest = ranked[-1]
    description = (
        f"{fastest.name} answers the most: {significant(fastest.best.rows_per_s)} rows a second at batch "
        f"{fastest.best.batch_size}"
    )
    wrong = [entry.name for entry in ranked if not entry.accurate]
    description += f"; answers of {', '.join(wrong)} are outside their limit." if wrong else "."
    return Plot("Most rows/s", description, svg_of_drawing("bench-best", description, draw))


def _over_batches(entries: Sequence[BenchEntry], colours: dict[str, str]) -> Plot:
    sizes = sorted({row.batch_size for entry in entries for row in entry.rows})

    def draw(axes: Axes) -> None:
        for entry in entries:
            axes.plot(
                [row.batch_size for row in entry.rows],
                [row.rows_per_s for row in entry.rows],
                color=colours[entry.runtime],
                linestyle=_LINES[entry.precision],
                marker=_MARKS[entry.precision],
                markersize=4.5,
            )
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        log_axis(axes, [row.rows_per_s for entry in entries for row in entry.rows])
        axes.set_xlabel("rows of a call")
        _explain(axes, entries, colours)

    slowest = min((row.rows_per_s, entry.name, row.batch_size) for entry in entries for row in entry.rows)
    description = f"The fewest are {significant(slowest[0])} rows a second, by {slowest[1]} at batch {slowest[2]}."
    return Plot(
        "Rows/s by batch size", description, svg_of_drawing("bench-batches", description, draw, legend_columns=2)
    )


def _speed_and_accuracy(errors: Sequence[tuple[BenchEntry, float]], colours: dict[str, str]) -> Plot:
    entries = [entry for entry, _ in errors]

    def draw(axes: Axes) -> None:
        for entry, error in errors:
            mark = _MARKS[entry.precision]
            axes.plot([error], [entry.best.rows_per_s], color=colours[entry.runtime], marker=mark, markersize=6)
        axes.set_xscale("log")
        axes.minorticks_off()
        log_axis(axes, [entry.best.rows_per_s for entry in entries])
        axes.set_xlabel("relative error: smaller is better")
        _explain(axes, entries, colours)

    worst, largest = max(errors, key=lambda one: one[1])
    description = f"The largest relative error is {largest:.1e}, of {worst.name}; entries without any are not drawn."
    return Plot("Most rows/s by error", description, svg_of_drawing("bench-error", description, draw, legend_columns=2))


def _explain(axes: Axes, entries: Sequence[BenchEntry], colours: dict[str, str]) -> None:
    """Entries of the legend: a column of colours for the runtimes, one of marks for the precisions."""
    labels = {entry.runtime: entry.label for entry in entries}
    precisions = list(dict.fromkeys(entry.precision for entry in entries))
    blanks = len(precisions) - len(labels)
    for runtime, label in labels.items():
        axes.plot([], [], color=colours[runtime], linewidth=4, label=label)
    for _ in range(blanks):
        axes.plot([], [], linestyle="", label=" ")
    for precision in precisions:
        mark, line = _MARKS[precision], _LINES[precision]
        axes.plot([], [], color=INK, linestyle=line, linewidth=1, marker=mark, markersize=4.5, label=precision)
    for _ in range(-blanks):
        axes.plot([], [], linestyle="", label=" ")
