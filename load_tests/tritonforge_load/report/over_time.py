"""What is drawn over time: as many points as a drawing shows, however long the campaign was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tritonforge_load.measure import CampaignResult, Histogram, RunResult
from tritonforge_load.measure.rows import SERIES_PERCENTS
from tritonforge_load.observe.timeline import Timeline

MOST_POINTS: Final = 300
_WIDTHS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_GAP_STEPS: Final = 2.5  # a longer step than so many usual ones is a gap

NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Moment:
    """Some seconds of a run, all workloads together, by the times at which requests were due.

    Attributes:
        at_s: Their middle on the campaign's time line; not a number for a gap, as all other figures are then.
        offered_per_s: Requests that were due per second; not a number for users.
        answered_per_s: Requests that were answered per second.
        errors_per_s: Requests that failed per second.
        latency_ms: Percentiles of ``SERIES_PERCENTS``; not numbers where nothing was answered.
    """

    at_s: float
    offered_per_s: float
    answered_per_s: float
    errors_per_s: float
    latency_ms: tuple[float, ...]


_GAP: Final = Moment(NAN, NAN, NAN, NAN, (NAN,) * len(SERIES_PERCENTS))


@dataclass(frozen=True, slots=True)
class Span:
    """A phase on the time line.

    Attributes:
        name: Its name.
        start_s: Start of its first run.
        end_s: End of its last run.
        runs: Start and end of each run.
    """

    name: str
    start_s: float
    end_s: float
    runs: tuple[tuple[float, float], ...]


def spans_of(result: CampaignResult) -> list[Span]:
    """The phases on the time line, in order."""
    spans = []
    for phase in result.phases:
        runs = tuple((run.starts_s, run.starts_s + run.duration_s) for run in phase.runs)
        if runs:
            spans.append(Span(phase.name, min(start for start, _ in runs), max(end for _, end in runs), runs))
    return spans


def end_s_of(result: CampaignResult) -> float:
    """Where the time line ends."""
    ends = [span.end_s for span in spans_of(result)] + [sample.at_s for sample in result.timeline.samples[-1:]]
    return max(ends, default=0.0)


def width_s_of(result: CampaignResult) -> int:
    """Seconds that one point of the drawings of requests covers: as few whole ones as ``MOST_POINTS`` allows."""
    together_s = sum(run.duration_s for phase in result.phases for run in phase.runs)
    return next((width for width in _WIDTHS_S if together_s / width <= MOST_POINTS), _WIDTHS_S[-1])


def moments_of(result: CampaignResult, width_s: int) -> list[Moment]:
    """The runs in pieces of a width, with a gap between runs, because no line leads from one load to another.

    Percentiles are those of all requests of a piece, not means of percentiles.
    """
    moments: list[Moment] = []
    runs = sorted((run for phase in result.phases for run in phase.runs), key=lambda run: run.starts_s)
    for run in runs:
        moments += [_GAP] if moments else []
        moments += _moments(run, width_s)
    return moments


def _moments(run: RunResult, width_s: int) -> Iterator[Moment]:
    seconds = run.total.cell.seconds
    for start_s in range(0, math.ceil(run.duration_s), width_s):
        length_s = min(float(width_s), run.duration_s - start_s)
        within = [seconds[second] for second in range(start_s, start_s + width_s) if second in seconds]
        latency, errors, shed = Histogram(), 0, 0
        for second in within:
            latency.merge(second.latency)
            errors += second.errors
            shed += second.shed
        offered_per_s = NAN if run.users is not None else (latency.count + errors + shed) / length_s
        yield Moment(
            at_s=run.starts_s + start_s + length_s / 2,
            offered_per_s=offered_per_s,
            answered_per_s=latency.count / length_s,
            errors_per_s=errors / length_s,
            latency_ms=tuple(value_ns / 1e6 for value_ns in latency.percentiles_ns(SERIES_PERCENTS)),
        )


@dataclass(frozen=True, slots=True)
class Thinned:
    """One value of a time line, in at most about ``MOST_POINTS`` points.

    Attributes:
        at_s: Times; not a number at a gap.
        values: Means over the samples of a piece; not a number at a gap.
    """

    at_s: tuple[float, ...]
    values: tuple[float, ...]


def sample_width_s(timeline: Timeline) -> float:
    """Seconds that one point of the drawings of the server covers."""
    if len(timeline.samples) <= MOST_POINTS:
        return timeline.interval_s
    length_s = timeline.samples[-1].at_s - timeline.samples[0].at_s
    return next((float(width) for width in _WIDTHS_S if length_s / width <= MOST_POINTS), float(_WIDTHS_S[-1]))


def thinned(timeline: Timeline, name: str, width_s: float) -> Thinned:
    """One value over time: the mean of each piece of a width, with a gap where it was not observed.

    Args:
        timeline: The time line.
        name: Name of the value.
        width_s: Width of a piece, ``sample_width_s``.
    """
    pieces: dict[float, list[float]] = {}
    for at_s, value in zip(*timeline.series(name), strict=True):
        middle_s = (at_s // width_s + 0.5) * width_s if width_s > timeline.interval_s else at_s
        pieces.setdefault(middle_s, []).append(value)
    times_s: list[float] = []
    values: list[float] = []
    for at_s, piece in pieces.items():
        if times_s and at_s - times_s[-1] > _GAP_STEPS * width_s:
            times_s.append(NAN)
            values.append(NAN)
        times_s.append(at_s)
        values.append(sum(piece) / len(piece))
    return Thinned(tuple(times_s), tuple(values))
