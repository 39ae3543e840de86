"""Two proportions of the same items: Tango's score interval and McNemar's exact and mid-p tests.

`won` items went from 0 to 1, `lost` from 1 to 0, out of n; the effect is (won - lost) / n.
"""

from __future__ import annotations

from math import copysign, inf, sqrt

from scipy import optimize, special  # not scipy.stats, whose import takes as long as the analysis


def tango_z(won: int, lost: int, n: int, null: float) -> float:
    """Score statistic of `effect = null` (Tango 1998, Statistics in Medicine 17:891); positive above it.

    At null = 0 it is McNemar's (won - lost) / sqrt(won + lost).
    """
    gap = won - lost - n * null
    # The maximum-likelihood estimate of the smaller discordant probability under the null, q: A q^2 + B q + C = 0.
    a, b, c = 2.0 * n, -won - lost + (2.0 * n - won + lost) * null, -lost * null * (1 - null)
    q = (sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * q + null * (1 - null))
    if variance <= 0:
        return 0.0 if abs(gap) < 1e-12 else copysign(inf, gap)
    return gap / sqrt(variance)


def tango_interval(won: int, lost: int, n: int, alpha: float) -> tuple[float, float]:
    """The effects that the score test does not reject at level alpha. Within [-1, 1]; of positive width even without a discordant pair."""
    z = float(special.ndtri(1 - alpha / 2))
    effect = (won - lost) / n

    def edge(target: float, end: float) -> float:
        def off(null: float) -> float:
            return min(1e6, max(-1e6, tango_z(won, lost, n, null))) - target

        if effect == end or off(end) * off(effect) > 0:
            return end
        return float(optimize.brentq(off, min(end, effect), max(end, effect), xtol=1e-12))

    return edge(z, -1.0), edge(-z, 1.0)


def mcnemar(won: int, lost: int) -> tuple[float, float]:
    """Two-sided p-values of McNemar's test: exact (binomial) and mid-p (Fagerland, Lydersen & Laake 2013)."""
    n, k = won + lost, min(won, lost)
    at_most = _fair_coin(k, n)
    return min(1.0, 2 * at_most), min(1.0, at_most + _fair_coin(k - 1, n))


def _fair_coin(k: int, n: int) -> float:
    """P(X <= k) of X heads in n throws."""
    return 0.0 if k < 0 else 1.0 if k >= n else float(special.betaincc(k + 1, n - k, 0.5))
