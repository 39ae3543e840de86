"""How many items, how many replicates: the arithmetic of planning. Standard library only, but for the chi-square quantile.

Effects d are differences of means (in the metric's units); variances are of per-item differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt
from statistics import NormalDist

_NORMAL = NormalDist()


def z_sum(power: float = 0.8, alpha: float = 0.05, critical: float | None = None) -> float:
    """z_{alpha/2} + z_{power}; `critical` takes the place of the first for a family of comparisons."""
    return (critical if critical is not None else _NORMAL.inv_cdf(1 - alpha / 2)) + _NORMAL.inv_cdf(power)


@dataclass(frozen=True)
class Components:
    """Variance of a paired difference: between items (w^2) and within, sum of both arms' replicate variances (s_A^2 + s_B^2)."""

    between: float
    within: float

    def variance(self, replicates: float) -> float:
        """Variance of an item's difference of means over K replicates."""
        return self.between + self.within / replicates

    @classmethod
    def of(cls, variance: float, within: float, replicates: float) -> Components:
        """From the variance of mean differences at K replicates: w^2 = Var - within / K, not below 0 (Miller 2024, arXiv 2411.00640)."""
        return cls(max(0.0, variance - within / replicates), within)


def items_needed(
    d: float, variance: float, *, power: float = 0.8, alpha: float = 0.05, design_effect: float = 1.0, critical: float | None = None
) -> int:
    """n = (z_{a/2} + z_b)^2 * variance / d^2 * DE, rounded up."""
    return ceil(z_sum(power, alpha, critical) ** 2 * variance / d**2 * design_effect - 1e-9)


def items_needed_binary(d: float, discordance: float, *, power: float = 0.8, alpha: float = 0.05, design_effect: float = 1.0) -> int:
    """n = [z_{a/2} sqrt(psi) + z_b sqrt(psi - d^2)]^2 / d^2 for one 0/1 answer per item (Connor 1987), psi the discordance rate.

    Raises ValueError where |d| > psi, which cannot be.
    """
    if not abs(d) <= discordance <= 1:
        raise ValueError(f"an effect of {d:g} needs a discordance between {abs(d):g} and 1, not {discordance:g}")
    root = z_sum(0.5, alpha) * sqrt(discordance) + _NORMAL.inv_cdf(power) * sqrt(discordance - d * d)
    return ceil(root**2 / d**2 * design_effect - 1e-9)


def detectable(n: float, variance: float, *, power: float = 0.8, alpha: float = 0.05, design_effect: float = 1.0) -> float:
    """The effect that n items detect with the given power."""
    return z_sum(power, alpha) * sqrt(variance * design_effect / n)


def power_of(n: float, d: float, variance: float, *, alpha: float = 0.05, design_effect: float = 1.0) -> float:
    """Power of the two-sided test at effect d with n items (the wrong tail left out)."""
    se = sqrt(variance * design_effect / n)
    return _NORMAL.cdf(abs(d) / se - _NORMAL.inv_cdf(1 - alpha / 2)) if se > 0 else 1.0


def design_effect(mean_size: float, cv: float, rho: float) -> float:
    """DE = 1 + ((1 + cv^2) * mean_m - 1) * rho, rho the intra-cluster correlation of the differences, cv that of cluster sizes."""
    return 1 + ((1 + cv**2) * mean_size - 1) * rho


def best_replicates(parts: Components, item_cost: float, replicate_cost: float) -> float:
    """K* = max(1, sqrt(within / between * cost per item / cost per replicate pair)); infinite where items do not differ at all."""
    if parts.within <= 0:
        return 1.0
    if parts.between <= 0:
        return inf
    return max(1.0, sqrt(parts.within / parts.between * item_cost / replicate_cost))


def upper_variance(variance: float, df: float, level: float = 0.8) -> float:
    """Upper confidence limit of a pilot's variance: df * s^2 / chi2_{1-level, df}. Never 'observed power' (Hoenig & Heisey 2001)."""
    from scipy import special

    return variance * df / float(special.chdtri(df, level))
