"""Drawings over time: requests, server, GPUs and load generators, all on the campaign's time line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tritonforge_generator.report.drawing import BAD, INK, SERIES, Plot, latency_axis, number_formatter
from tritonforge_generator.report.drawing import svg_of_drawing as svg_of
from tritonforge_generator.report.figures import latency, percent, significant, size
from tritonforge_load.measure import CampaignResult
from tritonforge_load.observe.timeline import Timeline
from tritonforge_load.report.over_time import (
    Moment,
    Span,
    Thinned,
    end_s_of,
    moments_of,
    sample_width_s,
    spans_of,
    thinned,
    width_s_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MINUTES_FROM_S: Final = 300.0
_LETTER_SHARE: Final = 0.019  # of the time axis, that a letter of a phase's name takes
_MARKED_UP_TO: Final = 1  # a line through so few points is not seen without marks
_BYTES_PER_GB: Final = 1e9
_BYTES_PER_MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class _Axis:
    """The time axis that all drawings have."""

    spans: tuple[Span, ...]
    end_s: float

    @property
    def unit_s(self) -> float:
        return 60.0 if self.end_s > _MINUTES_FROM_S else 1.0

    def at(self, times_s: Sequence[float]) -> list[float]:
        return [time_s / self.unit_s for time_s in times_s]

    def finish(self, axes: Axes) -> None:
        """Shade the runs and name the phases whose names fit."""
        axes.set_xlim(0, self.end_s / self.unit_s)
        axes.xaxis.set_major_formatter(number_formatter())
        axes.set_xlabel("minutes of the campaign" if self.unit_s > 1 else "seconds of the campaign")
        top = axes.get_xaxis_transform()
        for number, span in enumerate(self.spans):
            for start_s, end_s in span.runs:
                shade = 0.09 if number % 2 == 0 else 0.045
                axes.axvspan(start_s / self.unit_s, end_s / self.unit_s, color=INK, alpha=shade, linewidth=0, zorder=0)
        for place, name in placed_names(self.spans, self.end_s):
            at = place * self.end_s / self.unit_s
            axes.text(at, 1.02, name, transform=top, ha="center", va="bottom", fontsize=9, parse_math=False)


def placed_names(spans: Sequence[Span], end_s: float) -> list[tuple[float, str]]:
    """The names that can stand above their phases without touching each other, longest phases first.

    Returns:
        The middle of each name as a share of the axis, and the name.
    """
    taken: list[tuple[float, float]] = []
    placed = []
    for span in sorted(spans, key=lambda span: span.start_s - span.end_s):
        middle, half = (span.start_s + span.end_s) / 2 / end_s, _LETTER_SHARE * len(span.name) / 2
        left, right = middle - half, middle + half
        if left >= 0 and right <= 1 and all(right < start or end < left for start, end in taken):
            taken.append((left - _LETTER_SHARE, right + _LETTER_SHARE))
            placed.append((middle, span.name))
    return placed


@dataclass(frozen=True, slots=True)
class _Line:
    label: str
    drawn: Thinned
    colour: str
    style: str = "-"


def request_plots(result: CampaignResult) -> list[Plot]:
    """Draw latency and throughput over time.

    Args:
        result: The result.

    Returns:
        The drawings that there is data for.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    moments = moments_of(result, width_s_of(result))
    if not moments:
        return []
    axis = _Axis(tuple(spans_of(result)), end_s_of(result))
    plots = []
    if any(moment.answered_per_s > 0 for moment in moments):
        plots.append(_latency(moments, axis))
    return [*plots, _throughput(moments, axis)]


def _latency(moments: Sequence[Moment], axis: _Axis) -> Plot:
    at = axis.at([moment.at_s for moment in moments])
    series = {
        name: [moment.latency_ms[place] for moment in moments] for place, name in ((2, "p99"), (1, "p95"), (0, "p50"))
    }
    failing = [place for place, moment in zip(at, moments, strict=True) if moment.errors_per_s > 0]

    def draw(axes: Axes) -> None:
        for colour, (label, values) in zip(SERIES, series.items(), strict=False):
            axes.plot(at, values, color=colour, label=label, marker=_mark(values))
        latency_axis(axes, [value for values in series.values() for value in values if value > 0])
        if failing:
            bottom = axes.get_xaxis_transform()
            axes.plot(
                failing, [0.015] * len(failing), transform=bottom, color=BAD, marker="|", linestyle="", label="errors"
            )
        axis.finish(axes)

    medians, slowest = (_finite(series[name]) for name in ("p50", "p99"))
    description = (
        f"The median stays between {latency(min(medians))} and {latency(max(medians))}; "
        f"the highest 99th percentile of a point is {latency(max(slowest))}. "
        f"{'No request failed.' if not failing else f'Requests failed at {len(failing)} points.'}"
    )
    return Plot("Latency, ms", description, svg_of("load-latency", description, draw))


def _throughput(moments: Sequence[Moment], axis: _Axis) -> Plot:
    at = axis.at([moment.at_s for moment in moments])
    offered = [moment.offered_per_s for moment in moments]
    answered = [moment.answered_per_s for moment in moments]
    errors = [moment.errors_per_s for moment in moments]
    most_errors = max(_finite(errors), default=0.0)

    def draw(axes: Axes) -> None:
        axes.plot(at, answered, color=SERIES[0], label="answered", marker=_mark(answered))
        axes.fill_between(at, answered, color=SERIES[0], alpha=0.12, linewidth=0)
        if _finite(offered):
            axes.plot(
                at, offered, color=SERIES[1], label="offered", linestyle="--", linewidth=1.2, marker=_mark(offered)
            )
        if most_errors > 0:
            axes.vlines(at, 0, errors, color=BAD, label="errors", linewidth=1.6)
        axes.set_ylim(0, max(_finite([*answered, *offered, *errors])) * 1.12 or 1)
        axes.yaxis.set_major_formatter(number_formatter())
        axis.finish(axes)

    failed = "no request failed" if most_errors == 0 else f"at most {significant(most_errors)} errors a second"
    most = f"At most {significant(max(_finite(answered)))} answers a second"
    asked = f", at most {significant(max(_finite(offered)))} offered" if _finite(offered) else ""
    description = f"{most}{asked}; {failed}."
    title = "Offered and answered, requests/s" if _finite(offered) else "Answered, requests/s"
    return Plot(title, description, svg_of("load-throughput", description, draw))


def observed_plots(result: CampaignResult) -> list[Plot]:
    """Draw what was observed beside the requests.

    Args:
        result: The result.

    Returns:
        Queue and compute of the models, GPUs, CPUs and memory, each where there is data for it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    timeline = result.timeline
    axis = _Axis(tuple(spans_of(result)), end_s_of(result))
    made = [
        _plot("queue", "Mean time in the server's queue, ms", _each(timeline, r"model\.(.+)\.queue_ms"), axis, _ms),
        _plot(
            "gpu-utilization",
            "GPU utilisation, %",
            _gpus(timeline, "utilization_share", 100.0),
            axis,
            lambda value: percent(value / 100),
        ),
        _plot(
            "gpu-memory",
            "GPU memory, GB",
            _gpus(timeline, "memory_used_bytes", 1 / _BYTES_PER_GB),
            axis,
            lambda value: size(round(value * _BYTES_PER_GB)),
        ),
        _plot("gpu-power", "GPU power, W", _gpus(timeline, "power_w"), axis, lambda value: f"{value:,.0f} W"),
        _plot("gpu-clocks", "GPU clocks, MHz", _clocks(timeline), axis, lambda value: f"{value:,.0f} MHz"),
        _plot("cpu", "CPU of server and generators, %", _cpus(timeline), axis, lambda value: percent(value / 100)),
        _plot(
            "memory",
            "Memory of server and generators, MB",
            _memories(timeline),
            axis,
            lambda value: size(round(value * _BYTES_PER_MB)),
        ),
    ]
    return [plot for plot in made if plot is not None]


def _plot(name: str, title: str, lines: Sequence[_Line], axis: _Axis, words: Callable[[float], str]) -> Plot | None:
    lines = [line for line in lines if line.drawn.values]
    if not lines:
        return None

    def draw(axes: Axes) -> None:
        for line in lines:
            at, values = axis.at(line.drawn.at_s), line.drawn.values
            axes.plot(at, values, color=line.colour, linestyle=line.style, label=line.label, marker=_mark(values))
        axes.set_ylim(0, max(value for line in lines for value in _finite(line.drawn.values)) * 1.12 or 1)
        axes.yaxis.set_major_formatter(number_formatter())
        axis.finish(axes)

    ends = []
    for line in lines:
        values = _finite(line.drawn.values)
        ends.append(f"{line.label} from {words(min(values))} to {words(max(values))}")
    description = f"{'; '.join(ends)}."
    return Plot(title, description, svg_of(f"load-{name}", description, draw))


def _ms(value: float) -> str:
    return latency(value) if value > 0 else "0"


def _each(timeline: Timeline, pattern: str) -> list[_Line]:
    """A line for each name that fits; of more than there are colours, those with the largest values."""
    found = [(match[1], name) for name in timeline.names() if (match := re.fullmatch(pattern, name)) is not None]
    return _coloured([(label, _thin(timeline, name)) for label, name in found])


def _gpus(timeline: Timeline, what: str, scale: float = 1.0) -> list[_Line]:
    found = sorted(
        (int(match[1]), name)
        for name in timeline.names()
        if (match := re.fullmatch(rf"gpu\.(\d+)\.{what}", name)) is not None
    )
    return _coloured([(f"GPU {index}", _thin(timeline, name, scale)) for index, name in found])


def _clocks(timeline: Timeline) -> list[_Line]:
    processors, memories = _gpus(timeline, "sm_clock_mhz"), _gpus(timeline, "memory_clock_mhz")
    return [
        *(_Line(f"{line.label} SM", line.drawn, line.colour) for line in processors),
        *(_Line(f"{line.label} memory", line.drawn, line.colour, ":") for line in memories),
    ]


def _cpus(timeline: Timeline) -> list[_Line]:
    server = _Line("server, of all cores", _thin(timeline, "server.cpu_share", 100.0), SERIES[0])
    busiest, workers = _highest_generator(timeline, "cpu_share", 100.0)
    label = "generator" if workers == 1 else f"busiest of {workers} generators"
    return [server, _Line(f"{label}, of one core", busiest, SERIES[1])]


def _memories(timeline: Timeline) -> list[_Line]:
    server = _Line("server", _thin(timeline, "server.process_memory_bytes", 1 / _BYTES_PER_MB), SERIES[0])
    largest, workers = _highest_generator(timeline, "memory_bytes", 1 / _BYTES_PER_MB)
    label = "generator" if workers == 1 else f"largest of {workers} generators"
    return [server, _Line(label, largest, SERIES[1])]


def _highest_generator(timeline: Timeline, what: str, scale: float) -> tuple[Thinned, int]:
    """The line of the load generator that comes highest, and how many generators there are."""
    pattern = rf"generator\..+\.{what}"
    drawn = [_thin(timeline, name, scale) for name in timeline.names() if re.fullmatch(pattern, name) is not None]
    highest = max(drawn, key=lambda one: max(_finite(one.values), default=0.0), default=Thinned((), ()))
    return highest, len(drawn)


def _coloured(found: Sequence[tuple[str, Thinned]]) -> list[_Line]:
    """A colour for each; of more than there are colours, the highest, the lowest and the mean at each time."""
    if len(found) <= len(SERIES):
        return [_Line(label, drawn, colour) for colour, (label, drawn) in zip(SERIES, found, strict=False)]
    values_at: dict[float, list[float]] = {}
    for _, drawn in found:
        for at_s, value in zip(drawn.at_s, drawn.values, strict=True):
            values_at.setdefault(at_s, []).append(value)
    times_s = max((drawn.at_s for _, drawn in found), key=len)
    ways: dict[str, Callable[[list[float]], float]] = {
        f"highest of {len(found)}": max,
        "mean": lambda values: sum(values) / len(values),
        "lowest": min,
    }
    return [
        _Line(label, Thinned(times_s, tuple(way(values_at[at_s]) for at_s in times_s)), colour)
        for colour, (label, way) in zip(SERIES, ways.items(), strict=False)
    ]


def _thin(timeline: Timeline, name: str, scale: float = 1.0) -> Thinned:
    drawn = thinned(timeline, name, sample_width_s(timeline))
    return Thinned(drawn.at_s, tuple(value * scale for value in drawn.values))


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mark(values: Sequence[float]) -> str:
    return "o" if len(_finite(values)) <= _MARKED_UP_TO else ""
