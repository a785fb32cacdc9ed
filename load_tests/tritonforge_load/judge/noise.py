"""How much a figure of a campaign would move if it were measured again.

Where phases were repeated, the runs tell. Where they were not, the seconds of a run are drawn again at random, in
blocks, as neighbours are alike (H. R. Künsch, The jackknife and the bootstrap for general stationary observations,
Annals of Statistics 17, 1989): that knows nothing of what differs between two runs, such as a server started anew.

Noise of times and rates is that of their logarithm, so that it is relative; noise of shares is that of the share.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge_load.campaign.assertion import percent_of
from tritonforge_load.judge.figures import row_of, row_value, share_counts
from tritonforge_load.measure.histogram import RELATIVE_ERROR
from tritonforge_load.measure.results import RunResult
from tritonforge_load.measure.rows import WorkloadResult

Basis: TypeAlias = Literal["repeats", "seconds", "requests"]
Runs: TypeAlias = Sequence[RunResult]

SHARES: Final = frozenset({"errors", "shed", "correct"})
"""Metrics whose change is a difference; that of others is relative."""

ENOUGH_RUNS: Final = 4
"""Runs of both sides together from which repetitions tell the noise."""

ENOUGH_SECONDS: Final = 10
"""Whole seconds of a side from which drawing again tells the noise."""

ENOUGH_BEYOND: Final = 10
"""Requests above a percentile from which drawing again tells its noise."""

_DRAWS: Final = 400
_COARSENESS: Final = 2 * RELATIVE_ERROR / math.sqrt(12)
"""Standard error of a percentile for being read from a bucket."""

_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of the difference of a figure between two sides.

    Attributes:
        error: Standard error of the difference; of the logarithms for what is no share.
        freedom: Degrees of freedom of that error.
        basis: What it was learned from: repeated runs, the seconds of one, or the number of requests alone.
    """

    error: float
    freedom: float
    basis: Basis


def scaled(metric: str, value: float) -> float:
    """A value on the scale of its noise: the logarithm of what is no share; not a number where that has none."""
    if metric in SHARES:
        return value
    return math.log(value) if value > 0 else math.nan


def noises_between(
    metrics: Sequence[str], before: Runs, after: Runs, workload: str | None, *, seed: int = 0
) -> dict[str, Noise | str]:
    """The noise of the difference of figures between the runs of two sides.

    Args:
        metrics: Metrics of requests.
        before: Runs of one side, at least one.
        after: Runs of the other side, at least one.
        workload: A workload; ``None`` for all together.
        seed: What is drawn follows from it.

    Returns:
        For each metric its noise, or why it cannot be told.
    """
    if len(before) + len(after) >= ENOUGH_RUNS:
        return {metric: _from_repeats(metric, before, after, workload) for metric in metrics}
    generator = np.random.default_rng(seed)
    sides = [_Seconds([run.row(workload) for run in runs], metrics, generator) for runs in (before, after)]
    rows = [row_of(runs, workload) for runs in (before, after)]
    return {metric: _from_one_run(metric, sides, rows) for metric in metrics}


def _from_repeats(metric: str, before: Runs, after: Runs, workload: str | None) -> Noise | str:
    """Both sides are taken to be equally noisy, so that one with a single run can be compared too."""
    sides = [[scaled(metric, row_value(metric, run.row(workload))) for run in runs] for runs in (before, after)]
    if any(math.isnan(value) for values in sides for value in values):
        return f"a run has no {metric}"
    freedom = len(before) + len(after) - 2
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in sides if len(values) > 1)
    error = math.sqrt(squares / freedom * (1 / len(before) + 1 / len(after)))
    by_number = _by_number(metric, [row_of(runs, workload) for runs in (before, after)]) if metric in SHARES else None
    if by_number is not None:
        error = max(error, by_number.error)
    return Noise(math.hypot(error, _coarseness(metric)), freedom, "repeats")


def _from_one_run(metric: str, sides: Sequence[_Seconds], rows: Sequence[WorkloadResult]) -> Noise | str:
    by_seconds = _by_seconds(metric, sides)
    if metric in SHARES:
        by_number = _by_number(metric, rows)
        if by_number is None:
            return f"a side has no {metric}"
        return by_seconds if by_seconds is not None and by_seconds.error > by_number.error else by_number
    shortest = min(side.count for side in sides)
    if shortest < ENOUGH_SECONDS:
        return f"{shortest} s are too short to know the noise: at least {ENOUGH_SECONDS} s, or repeat the phase"
    percent = percent_of(metric)
    if percent is not None:
        needed = math.ceil(round(ENOUGH_BEYOND / (1 - percent / 100), 6))
        fewest = min(row.answered for row in rows)
        if fewest < needed:
            return f"{fewest:,} requests are too few to know the noise of {metric}: at least {needed:,}"
    return by_seconds if by_seconds is not None else f"one run does not tell the noise of {metric}: repeat the phase"


def _by_seconds(metric: str, sides: Sequence[_Seconds]) -> Noise | None:
    if not all(metric in side.values and np.isfinite(side.values[metric]).all() for side in sides):
        return None
    # Blocks are drawn as if they were independent: theirs is the variance of a sample.
    squares = sum(float(np.var(side.values[metric])) * side.blocks / (side.blocks - 1) for side in sides)
    error = math.hypot(math.sqrt(squares), _coarseness(metric))
    return Noise(error, sum(side.blocks - 1 for side in sides), "seconds")


def _by_number(metric: str, rows: Sequence[WorkloadResult]) -> Noise | None:
    """Noise of a share if requests are independent.

    One hit and one miss are added to each side, which keeps the interval right where there are few (A. Agresti and
    B. Caffo, Simple and effective confidence intervals for proportions, The American Statistician 54, 2000).
    """
    counts = [share_counts(metric, row) for row in rows]
    if any(total == 0 for _, total in counts):
        return None
    shares = [((hits + 1) / (total + 2), total + 2) for hits, total in counts]
    error = math.sqrt(sum(share * (1 - share) / size for share, size in shares))
    return Noise(error, sum(total for _, total in counts), "requests")


def _coarseness(metric: str) -> float:
    """Standard error of a difference for being read from buckets."""
    return 0.0 if percent_of(metric) is None else _COARSENESS * math.sqrt(2)


class _Seconds:
    """The seconds of one side, and what figures are when they are drawn again.

    Attributes:
        count: How many whole seconds there are; a part of one at the end of a run is left out.
        blocks: How many blocks of seconds are drawn.
        values: Values on their scales, one a draw, by metric; a metric that seconds do not tell is not there.
    """

    def __init__(self, rows: Sequence[WorkloadResult], metrics: Sequence[str], generator: np.random.Generator) -> None:
        seconds = [row.cell.seconds.get(at_s) for row in rows for at_s in range(int(row.duration_s))]
        counts = [{} if second is None else second.latency.counts() for second in seconds]
        middles = sorted({middle for within in counts for middle in within})
        column = {middle: index for index, middle in enumerate(middles)}
        self._middles = np.array(middles)
        # One row a second, one column a bucket.
        self._counts = np.zeros((len(seconds), len(middles)))
        for index, within in enumerate(counts):
            for middle, count in within.items():
                self._counts[index, column[middle]] = count
        self._errors = np.array([0 if second is None else second.errors for second in seconds], dtype=np.float64)
        self.count = len(seconds)
        self._block = max(1, round(self.count ** (1 / 3)))
        self.blocks = max(2, math.ceil(self.count / self._block))
        self.values: dict[str, _Floats] = {}
        if self.count >= ENOUGH_SECONDS and middles:
            weights = self._weights(generator)
            drawn = weights @ self._counts
            for metric in metrics:
                values = self._drawn(metric, drawn, weights)
                if values is not None:
                    self.values[metric] = values

    def _weights(self, generator: np.random.Generator) -> _Floats:
        """How often each second is drawn, one row a draw."""
        starts = generator.integers(0, self.count, (_DRAWS, self.blocks, 1))
        places = ((starts + np.arange(self._block)) % self.count).reshape(_DRAWS, -1)[:, : self.count]
        cells = places + np.arange(_DRAWS)[:, None] * self.count
        return np.bincount(cells.ravel(), minlength=_DRAWS * self.count).reshape(_DRAWS, -1).astype(np.float64)

    def _drawn(self, metric: str, counts: _Floats, weights: _Floats) -> _Floats | None:
        answered: _Floats = counts.sum(axis=1)
        percent = percent_of(metric)
        values: _Floats | None = None
        with np.errstate(divide="ignore", invalid="ignore"):
            if metric in {"rate", "throughput"}:
                values = np.log(answered)
            elif metric == "mean":
                values = np.log(counts @ self._middles / answered)
            elif metric == "errors":
                errors = weights @ self._errors
                values = errors / (errors + answered)
            elif percent is not None:
                ranks = np.ceil(answered * percent / 100 - 1e-9)
                places = (np.cumsum(counts, axis=1) < ranks[:, None]).sum(axis=1)
                values = np.where(answered > 0, np.log(self._middles[places]), np.nan)
        return values
