from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_load.judge.distributions import (
    binomial_at_least,
    binomial_at_most,
    chi_squared_above,
    f_above,
    incomplete_beta,
    student_quantile,
    student_two_sided,
)


@given(total=st.integers(1, 60), count=st.integers(-2, 62), share=st.floats(0.001, 0.999))
def test_binomial_is_the_sum_of_its_terms(total: int, count: int, share: float) -> None:
    terms = [math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(total + 1)]
    assert binomial_at_most(count, total, share) == pytest.approx(math.fsum(terms[: max(0, count + 1)]), abs=1e-12)
    assert binomial_at_least(count, total, share) == pytest.approx(math.fsum(terms[max(0, count) :]), abs=1e-12)


@pytest.mark.parametrize("total", [10_000, 1_000_000, 10_000_000])
def test_binomial_of_many_requests_is_near_normal(total: int) -> None:
    share = 0.01
    deviation = math.sqrt(total * share * (1 - share))
    for away in (-2, 0, 2):
        count = round(total * share + away * deviation)
        normal = 0.5 * math.erfc(-(count + 0.5 - total * share) / deviation / math.sqrt(2))
        assert binomial_at_most(count, total, share) == pytest.approx(normal, abs=3 / math.sqrt(total))


@pytest.mark.parametrize(
    ("confidence", "freedom", "published"),
    [
        # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2
        (0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 3, 3.182), (0.95, 4, 2.776), (0.95, 9, 2.262), (0.95, 29, 2.045),
        (0.95, 100, 1.984), (0.90, 1, 6.314), (0.90, 5, 2.015), (0.98, 2, 6.965), (0.98, 10, 2.764), (0.998, 4, 7.173),
    ],
)  # fmt: skip
def test_students_quantiles_are_those_published(confidence: float, freedom: int, published: float) -> None:
    assert student_quantile(confidence, freedom) == pytest.approx(published, abs=5e-4)
    assert student_two_sided(published, freedom) == pytest.approx(1 - confidence, rel=2e-3)


@pytest.mark.parametrize(
    # The same handbook, 1.3.6.7.3: upper critical values at 5 % and 1 %.
    ("f", "above", "below", "published"),
    [(4.103, 2, 10, 0.05), (9.552, 2, 3, 0.05), (5.050, 5, 5, 0.05), (7.559, 2, 10, 0.01), (5.849, 2, 20, 0.01)],
)
def test_fishers_tail_is_the_one_published(f: float, above: float, below: float, published: float) -> None:
    assert f_above(f, above, below) == pytest.approx(published, rel=1e-3)


def test_chi_squareds_tail_is_the_one_published() -> None:
    assert [chi_squared_above(value) for value in (0.0, 3.841, 6.635)] == pytest.approx([1.0, 0.05, 0.01], rel=1e-3)


def test_nothing_is_certain_within_no_confidence() -> None:
    assert student_quantile(0.0, 3) == pytest.approx(0.0, abs=1e-9)
    assert student_two_sided(0.0, 3) == 1.0


def test_all_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    special = pytest.importorskip("scipy.special")
    generator = np.random.default_rng(11)
    for _ in range(500):
        total = int(10 ** generator.uniform(0, 6.5))
        share = float(10 ** generator.uniform(-4, -0.3))
        spread = 4 * math.sqrt(total * share * (1 - share)) + 1
        count = int(np.clip(generator.normal(total * share, spread), 0, total))
        # The logarithms of the largest factors cost digits.
        assert binomial_at_most(count, total, share) == pytest.approx(
            float(stats.binom.cdf(count, total, share)), rel=1e-6, abs=1e-14
        )
        assert binomial_at_least(count, total, share) == pytest.approx(
            float(stats.binom.sf(count - 1, total, share)), rel=1e-6, abs=1e-14
        )
        a, b, x = (float(value) for value in generator.uniform([0.2, 0.2, 0], [50, 50, 1]))
        assert incomplete_beta(a, b, x) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-9, abs=1e-14)
    for freedom in (1, 2, 3, 7, 30, 1000):
        for confidence in (0.5, 0.9, 0.99, 0.9999):
            exact = float(stats.t.ppf((1 + confidence) / 2, freedom))
            assert student_quantile(confidence, freedom) == pytest.approx(exact, rel=1e-9)
            assert f_above(exact, 2, freedom) == pytest.approx(float(stats.f.sf(exact, 2, freedom)), rel=1e-9)
