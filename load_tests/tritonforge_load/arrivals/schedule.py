"""Schedules: when requests are due, in seconds from the start of a phase.

A schedule is one sorted array for all workers; each sends every ``count``-th of it, so that the whole is what was
declared however many workers there are. It follows from its seed alone: every process that makes it has the same one.

Seeds are sequences of whole numbers of at least 0, as ``numpy.random.SeedSequence`` takes them. Two that differ give
independent streams, but zeros at the end do not count: (7,) and (7, 0) are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)


def constant_times_s(rate_per_s: float, duration_s: float) -> NDArray[np.float64]:
    """Equal gaps; the first request is due at 0.

    Args:
        rate_per_s: Requests per second, above 0.
        duration_s: Length of the phase.

    Returns:
        float64, ascending, all below ``duration_s``.
    """
    times_s = np.arange(math.ceil(rate_per_s * duration_s) + 1) / rate_per_s
    return times_s[times_s < duration_s]


def poisson_times_s(rate_per_s: float, duration_s: float, seed: Sequence[int]) -> NDArray[np.float64]:
    """Arrivals that know nothing of each other: a Poisson process.

    Args:
        rate_per_s: Mean requests per second, above 0.
        duration_s: Length of the phase.
        seed: What the times follow from.

    Returns:
        float64, ascending, all below ``duration_s``.
    """
    return gamma_times_s(rate_per_s, duration_s, 1.0, seed)


def gamma_times_s(rate_per_s: float, duration_s: float, shape: float, seed: Sequence[int]) -> NDArray[np.float64]:
    """Gaps that are gamma-distributed: bursts and lulls for a shape below 1, ``poisson`` for 1, more even above.

    The coefficient of variation of the gaps is 1 / sqrt(shape). The process is a stationary one: it is looked at from
    a moment that has nothing to do with it, so its rate is the same everywhere in the phase. Its first gap is
    therefore the rest of one that was cut at random, and long gaps are met more often (W. Feller, An Introduction to
    Probability Theory and Its Applications, volume 2, chapter XI).

    Args:
        rate_per_s: Mean requests per second, above 0.
        duration_s: Length of the phase.
        shape: Of the gamma distribution, above 0.
        seed: What the times follow from.

    Returns:
        float64, ascending, all below ``duration_s``.
    """
    random = np.random.default_rng(list(seed))
    mean = rate_per_s * duration_s
    length = mean * shape  # gaps of the standard distribution are as long as the shape, in the mean
    enough = math.ceil(mean + 4 * math.sqrt(mean / shape)) + 16
    times = np.array([random.random() * random.standard_gamma(shape + 1)])
    while times[-1] < length:
        times = np.concatenate([times, times[-1] + np.cumsum(random.standard_gamma(shape, enough))])
    times_s = times / (shape * rate_per_s)
    return times_s[times_s < duration_s]


def curve_times_s(points: Sequence[tuple[float, float]], seed: Sequence[int]) -> NDArray[np.float64]:
    """Arrivals that know nothing of each other, at a rate that changes along straight lines.

    Arrivals of rate 1 are moved to where the integral of the rate is what their time was, which is exact (E. Cinlar,
    Introduction to Stochastic Processes, chapter 4).

    Args:
        points: Times in seconds, ascending, with the rate per second there, at least 0.
        seed: What the times follow from.

    Returns:
        float64, ascending, all below the last point's time.
    """
    at_s, rates = np.array(points, np.float64).T
    lengths_s = np.diff(at_s)
    ends = np.cumsum(lengths_s * (rates[:-1] + rates[1:]) / 2)
    if ends[-1] == 0:
        return np.empty(0)
    due = poisson_times_s(1.0, float(ends[-1]), seed)
    line = np.searchsorted(ends, due, side="right")  # lines of rate 0 have no length here
    begin = np.concatenate([[0.0], ends])[line]
    # rate * t + slope * t^2 / 2 = due - begin, solved so that a slope of 0 is no special case.
    rate, slope = rates[line], (np.diff(rates) / lengths_s)[line]
    rest = due - begin
    root = np.sqrt(np.maximum(rate**2 + 2 * slope * rest, 0))
    since_s = 2 * rest / np.maximum(rate + root, np.finfo(np.float64).tiny)
    times_s: NDArray[np.float64] = at_s[line] + np.minimum(since_s, lengths_s[line])
    return times_s[times_s < points[-1][0]]


def trace_times_s(times_s: NDArray[np.float64], speed: float) -> NDArray[np.float64]:
    """Recorded arrivals, from the first one on.

    Args:
        times_s: Ascending; from when does not matter, it may be seconds since 1970.
        speed: How many times as fast as recorded they are played, above 0.

    Returns:
        float64, ascending; the first is 0.
    """
    return (times_s - times_s[:1]) / speed


def share_of(values: NDArray[_T], index: int, count: int) -> NDArray[_T]:
    """One worker's share of a schedule, or of what belongs to it.

    Args:
        values: One for each request.
        index: The worker's, from 0.
        count: How many workers there are.

    Returns:
        Every ``count``-th value from the ``index``-th on.
    """
    return values[index::count]


def choose(weights: Sequence[float], count: int, seed: Sequence[int]) -> NDArray[np.intp]:
    """Which workload each request is for.

    Args:
        weights: How often each workload is chosen, relative to the others; at least one is above 0.
        count: How many requests there are.
        seed: What the choices follow from. Not that of the times: bursts would then prefer a workload.

    Returns:
        Indices of ``weights``, as many as ``count``.
    """
    shares = np.array(weights, np.float64)
    return np.random.default_rng(list(seed)).choice(len(shares), count, p=shares / shares.sum()).astype(np.intp)
