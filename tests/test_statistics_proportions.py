"""Tango's interval against a likelihood maximised numerically; McNemar's tests against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar as reference

from pipeline.statistics.proportions import mcnemar, tango_interval, tango_z


@pytest.mark.parametrize(("won", "lost", "n", "null"), [(12, 2, 50, 0.05), (7, 1, 30, -0.2), (3, 9, 200, 0.1), (0, 5, 40, 0.02)])
def test_the_score_statistic_uses_the_restricted_maximum_likelihood_estimate(won, lost, n, null):
    """p10 - p01 = null restricts the trinomial; the score is the gap over its standard error there."""

    def loss(q):  # q: probability of `lost`; that of `won` is q + null
        terms = [(won, q + null), (lost, q), (n - won - lost, 1 - 2 * q - null)]
        return -sum(k * np.log(max(p, 1e-300)) for k, p in terms if k)

    low = max(0.0, -null)
    q = optimize.minimize_scalar(loss, bounds=(low, (1 - null) / 2), method="bounded", options={"xatol": 1e-12}).x
    expected = (won - lost - n * null) / np.sqrt(n * (2 * q + null - null**2))
    assert tango_z(won, lost, n, null) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("won", "lost", "n"), [(12, 2, 50), (0, 0, 30), (5, 0, 40), (0, 40, 40), (30, 30, 100), (1, 0, 1000)])
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_the_ends_of_the_interval_are_where_the_score_test_turns(won, lost, n, alpha):
    z = stats.norm.ppf(1 - alpha / 2)
    low, high = tango_interval(won, lost, n, alpha)
    assert -1 <= low <= (won - lost) / n <= high <= 1
    if low > -1:
        assert tango_z(won, lost, n, low) == pytest.approx(z, abs=1e-6)
    if high < 1:
        assert tango_z(won, lost, n, high) == pytest.approx(-z, abs=1e-6)


def test_at_null_zero_the_score_statistic_is_mcnemars():
    expected = reference([[5, 14], [6, 25]], exact=False, correction=False)
    assert tango_z(14, 6, 50, 0.0) ** 2 == pytest.approx(expected.statistic)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (5, 0), (3, 3), (14, 6), (100, 130)])
def test_exact_and_mid_p_mcnemar(won, lost):
    exact, mid = mcnemar(won, lost)
    assert exact == pytest.approx(reference([[1, won], [lost, 1]], exact=True).pvalue if won + lost else 1.0)
    assert mid == pytest.approx(exact - stats.binom.pmf(min(won, lost), won + lost, 0.5) if won != lost else mid)
    assert 0 < mid <= exact <= 1


def test_mid_p_by_hand():
    """9 against 2: 2 * (1 + 11 + 55) / 2048 less half of twice 55 / 2048."""
    assert mcnemar(9, 2) == pytest.approx((134 / 2048, 79 / 2048))


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_binomial_test_of_scipy(won: int, lost: int) -> None:
    """Exact and mid-p, as scipy.stats has the binomial distribution."""
    n, k = won + lost, min(won, lost)
    at_most = float(stats.binom.cdf(k, n, 0.5))
    assert mcnemar(won, lost) == pytest.approx((min(1.0, 2 * at_most), min(1.0, 2 * at_most - float(stats.binom.pmf(k, n, 0.5)))))
