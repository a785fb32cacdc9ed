"""Probabilities that verdicts need: binomial, Student's t and Fisher's F, from one function."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

_TINY: Final = 1e-300
_PRECISION: Final = 1e-15
_MOST_TERMS: Final = 100_000
_HALVINGS: Final = 60


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function.

    A continued fraction, evaluated by Lentz's method (Press et al., Numerical Recipes, 3rd edition, section 6.4); it
    takes a number of terms in the order of the square root of the larger parameter.

    Args:
        a: Above 0.
        b: Above 0.
        x: From 0 to 1.

    Returns:
        I_x(a, b), from 0 to 1.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    above, below = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = below
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            below = 1 / _away_from_zero(1 + term * below)
            above = _away_from_zero(1 + term / above)
            value *= above * below
        if abs(above * below - 1) < _PRECISION:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def binomial_at_most(count: int, total: int, share: float) -> float:
    """Probability that at most ``count`` of ``total`` independent trials are hits, each with probability ``share``."""
    if count >= total:
        return 1.0
    return 0.0 if count < 0 else incomplete_beta(total - count, count + 1, 1 - share)


def binomial_at_least(count: int, total: int, share: float) -> float:
    """Probability that at least ``count`` of ``total`` independent trials are hits."""
    if count <= 0:
        return 1.0
    return 0.0 if count > total else incomplete_beta(count, total - count + 1, share)


def student_two_sided(t: float, freedom: float) -> float:
    """Probability that Student's t is at least as far from 0 as ``t``.

    Args:
        t: Any value.
        freedom: Degrees of freedom, above 0.
    """
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


@lru_cache(maxsize=256)
def student_quantile(confidence: float, freedom: float) -> float:
    """The t within which, to both sides of 0, Student's t lies with probability ``confidence``.

    Args:
        confidence: From 0 up to, not including, 1.
        freedom: Degrees of freedom, above 0.
    """
    low, high = 0.0, 1.0
    while student_two_sided(high, freedom) > 1 - confidence:
        low, high = high, high * 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if student_two_sided(middle, freedom) > 1 - confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def f_above(f: float, above: float, below: float) -> float:
    """Probability that Fisher's F is at least ``f``.

    Args:
        f: At least 0.
        above: Degrees of freedom of the numerator.
        below: Degrees of freedom of the denominator.
    """
    return incomplete_beta(below / 2, above / 2, below / (below + above * f))


def chi_squared_above(value: float) -> float:
    """Probability that chi-squared with one degree of freedom is at least so large.

    Args:
        value: At least 0.
    """
    return math.erfc(math.sqrt(value / 2))
