"""Whether a run was in a steady state, so that its figures are those of any other moment too.

perf_analyzer waits until three windows in a row lie within 10 % of each other, for rate and for latency. The same is
asked here of the thirds of a run that is over, and besides whether its latency drifts. As the seconds of a short run
scatter by more than that, it must also be more than chance:

- Thirds: the F-test of the analysis of variance. A single slow second makes it less sure, not surer.
- Drift: the test of H. B. Mann (Econometrica 13, 1945) and M. G. Kendall, with the slope of P. K. Sen (JASA 63, 1968).

Seconds that are like their neighbours make both see more than there is. So variances are multiplied by what such a
series has too much, (1 + r) / (1 - r) for the correlation r of neighbours.

Each test calls a steady run of independent seconds unsteady with a probability of 0.5 %, the three together with 1.5 %;
with less where the seconds scatter little, as the difference must be above 10 % too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge_load.judge.distributions import f_above
from tritonforge_load.measure.results import RunResult

SHORTEST_S: Final = 6
"""Runs below that many whole seconds are not judged; a drift is hardly seen in less than 9."""

FALSE_ALARMS: Final = 0.005
"""Probability with which one test calls a steady series unsteady."""

MOST_APART: Final = 0.1
"""How far thirds may be apart, and a trend may lead over the run."""

_PLANNED: Final = frozenset({"curve", "trace"})
_MOST_WINDOWS: Final = 300
_MOST_ALIKE: Final = 0.9

_Floats: TypeAlias = npt.NDArray[np.float64]


def unsteady_reasons(run: RunResult) -> tuple[str, ...]:
    """Why a run was not in a steady state.

    Args:
        run: What was measured.

    Returns:
        Reasons; empty for a steady run, for one that is too short to tell (less than 6 s), and for loads that are not
        meant to be steady (``curve``, ``trace``).
    """
    return () if run.arrival in _PLANNED else tuple(_reasons(run))


def _reasons(run: RunResult) -> Iterator[str]:
    # The last second may be a part of one.
    points = run.total.series[: int(run.duration_s)]
    rate_per_s = np.array([point.rate_per_s for point in points])
    p50_ms = np.array([point.latency_ms["p50_ms"] for point in points if "p50_ms" in point.latency_ms])
    apart = thirds_apart(rate_per_s)
    if apart is not None:
        yield f"the rate of its thirds was {', '.join(f'{value:.4g}/s' for value in apart)}"
    drift = drift_of(p50_ms)
    apart = thirds_apart(p50_ms)
    if drift is not None:
        yield f"the median latency went from {drift[0]:.3g} ms to {drift[1]:.3g} ms"
    elif apart is not None:
        yield f"the median latency of its thirds was {', '.join(f'{value:.3g} ms' for value in apart)}"


def thirds_apart(values: _Floats) -> tuple[float, ...] | None:
    """The means of a series' thirds, if they are further apart than those of a steady one.

    Args:
        values: One value a second.

    Returns:
        ``None`` for a steady series, and for one that is too short.
    """
    if len(values) < SHORTEST_S:
        return None
    thirds = np.array_split(_windows(values), 3)
    means = tuple(float(third.mean()) for third in thirds)
    if max(means) - min(means) <= MOST_APART * min(means):
        return None
    freedom = sum(len(third) - 1 for third in thirds)
    whole = float(np.concatenate(thirds).mean())
    between = sum(len(third) * (mean - whole) ** 2 for third, mean in zip(thirds, means, strict=True)) / 2
    within = sum(float(third.var()) * len(third) for third in thirds) / freedom
    residuals = np.concatenate([third - mean for third, mean in zip(thirds, means, strict=True)])
    within *= _inflation(residuals, len(thirds[-1]))
    if within > 0 and f_above(between / within, 2, freedom) >= FALSE_ALARMS:
        return None
    return means


def drift_of(values: _Floats) -> tuple[float, float] | None:
    """The ends of a series' trend line, if it leads further than that of a steady one.

    Args:
        values: One value a second.

    Returns:
        ``None`` for a steady series, and for one that is too short.
    """
    if len(values) < SHORTEST_S:
        return None
    series = _windows(values)
    count = len(series)
    first, second = np.triu_indices(count, 1)
    differences = series[second] - series[first]
    score = abs(float(np.sign(differences).sum()))
    ties = np.unique(series, return_counts=True)[1]
    variance = (count * (count - 1) * (2 * count + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    slope = float(np.median(differences / (second - first)))
    residuals = series - slope * np.arange(count)
    deviation = math.sqrt(variance * _inflation(residuals - np.median(residuals), count))
    # One less, as the score moves in steps of two.
    if deviation == 0 or (score - 1) / deviation < NormalDist().inv_cdf(1 - FALSE_ALARMS / 2):
        return None
    led, middle = slope * (count - 1), float(np.median(series))
    return (middle - led / 2, middle + led / 2) if abs(led) > MOST_APART * middle else None


def _windows(values: _Floats) -> _Floats:
    """A long series as means of equal windows, so that pairs of them stay few."""
    width = math.ceil(len(values) / _MOST_WINDOWS)
    means: _Floats = values[: len(values) // width * width].reshape(-1, width).mean(axis=1)
    return means


def _inflation(residuals: _Floats, size: int) -> float:
    """How much larger a variance is as neighbours are alike; 1 where they are not.

    A correlation comes out too small in a short series, by about (1 + 3r) / n (M. G. Kendall, Biometrika 41, 1954);
    that is put right.

    Args:
        residuals: What remains of a series without its levels or its trend.
        size: Length of the stretches to which those were fitted.
    """
    power = float((residuals**2).sum())
    if power == 0:
        return 1.0
    alike = float((residuals[1:] * residuals[:-1]).sum()) / power
    if size > 6:
        alike = (alike + 1 / size) / (1 - 3 / size)
    alike = min(max(alike, 0.0), _MOST_ALIKE)
    return (1 + alike) / (1 - alike)
