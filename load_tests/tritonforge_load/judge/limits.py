"""What the steps of two searches say about the limits of two servers.

A server does not hold every load below its limit and fail every one above: near the limit, chance decides. A search
goes where chance lets it, so the loads that two searches find of one server differ by more than their precision: where
a load 5 % below the limit holds in three of four steps, by a quarter in one of 20 pairs of searches. So not the loads
that were found are compared, but what all steps make likely. The probability of holding is taken to fall around the
limit as a logistic curve of the logarithm of the load, as broad for both, and the limits are compared by the ratio of
likelihoods (S. S. Wilks, Annals of Mathematical Statistics 9, 1938), to which it does not matter how loads were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge_load.judge.distributions import chi_squared_above
from tritonforge_load.measure.results import SearchStep

SMALLEST_BLUR: Final = 0.1
"""Breadth of the curve, at least: 20 % below the limit nine of ten steps hold. A search itself hardly tells it."""

_LARGEST_BLUR: Final = 1.0
_BLURS: Final = 12
_GRID: Final = 0.01
_BEYOND: Final = 1.0

_Floats: TypeAlias = npt.NDArray[np.float64]


def limits_apart(
    before: Sequence[SearchStep], after: Sequence[SearchStep], confidence: float
) -> tuple[float, float, float]:
    """How far the limits of two servers are apart.

    Args:
        before: Steps of a search, without those in which the generator was the limit; at least one.
        after: Steps of another search.
        confidence: Probability with which the interval holds.

    Returns:
        The interval of ``after / before - 1``, from -1 and to infinity where the steps do not bound it, and the
        probability that servers with the same limit make a difference as large.
    """
    loads = np.log([step.load for step in (*before, *after)])
    count = int((loads.max() - loads.min() + 2 * _BEYOND) / _GRID) + 1
    limits = loads.min() - _BEYOND + _GRID * np.arange(count)
    blurs = np.geomspace(SMALLEST_BLUR, _LARGEST_BLUR, _BLURS)
    ours, theirs = (_likelihoods(steps, limits, blurs) for steps in (before, after))
    shifts = np.arange(1 - count, count)
    best = np.array([_best(ours, theirs, int(shift)) for shift in shifts])
    excess = 2 * (best.max() - best)
    likely = np.flatnonzero([chi_squared_above(float(value)) > 1 - confidence for value in excess])
    low, high = (math.expm1(int(shifts[place]) * _GRID) for place in (likely[0], likely[-1]))
    # A limit below which nothing held has no lower end, one above which nothing failed no upper one.
    if not _any(after, held=True) or not _any(before, held=False):
        low = -1.0
    if not _any(before, held=True) or not _any(after, held=False):
        high = math.inf
    return low, high, chi_squared_above(float(excess[count - 1]))


def _any(steps: Sequence[SearchStep], *, held: bool) -> bool:
    return any(step.held == held for step in steps)


def _likelihoods(steps: Sequence[SearchStep], limits: _Floats, blurs: _Floats) -> _Floats:
    """Logarithms of likelihoods, one row a blur and one column a limit."""
    loads = np.log([step.load for step in steps])
    signs = np.array([1.0 if step.held else -1.0 for step in steps])
    above = signs * (loads - limits[None, :, None]) / blurs[:, None, None]
    likelihoods: _Floats = -np.logaddexp(0, above).sum(axis=2)
    return likelihoods


def _best(ours: _Floats, theirs: _Floats, shift: int) -> float:
    """The largest likelihood of both where the second limit is so many places above the first."""
    count = ours.shape[1]
    together = ours[:, max(0, -shift) : count - max(0, shift)] + theirs[:, max(0, shift) : count - max(0, -shift)]
    return float(together.max())
