"""The paired effect of one metric: cluster-robust estimate, interval and test.

Notation: G clusters; cluster g has m_g items whose differences (treatment - control, each the mean over replicates) sum to S_g;
N = sum m_g; the effect is D = sum S_g / N.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.statistics.proportions import tango_interval, tango_z

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_CLUSTERS = 10
"""Below this many clusters there is no p-value and no verdict; also the fewest clusters with a non-zero difference that t needs."""
FEW_GRADED = 30
"""Graded differences are skewed more often than not: below this many non-zero clusters their interval carries a warning."""
TANGO_ITEMS, TANGO_DISCORDANT = 200, 25
"""One answer per item, 0 or 1, no clusters: below either, Tango's score interval takes the place of t."""


@dataclass(frozen=True)
class ClusterSums:
    """Per cluster: summed difference S_g and number of items m_g, each of shape (G,)."""

    total: Floats
    size: Floats

    @classmethod
    def of(cls, difference: Floats, cluster: Ints) -> ClusterSums:
        """Sum item differences (n,) by cluster code (n,). Clusters without an item are left out."""
        size = np.bincount(cluster)
        total = np.bincount(cluster, weights=difference)
        there = size > 0
        # Rounded, because thirds that cancel leave 1e-17, which is not a difference.
        return cls(np.round(total[there], 12), size[there].astype(np.float64))

    @property
    def clusters(self) -> int:
        """G."""
        return len(self.total)

    @cached_property
    def items(self) -> float:
        """N."""
        return float(self.size.sum())

    @cached_property
    def effect(self) -> float:
        """D."""
        return float(self.total.sum()) / self.items

    @cached_property
    def residual(self) -> Floats:
        """S_g - m_g D: what cluster g adds to the error of D, times N."""
        return self.total - self.size * self.effect

    @cached_property
    def informative(self) -> int:
        """Clusters whose summed difference is not zero."""
        return int(np.count_nonzero(self.total))

    @cached_property
    def singletons(self) -> bool:
        """Every item is its own cluster."""
        return bool(np.all(self.size == 1))


def robust_variance(sums: ClusterSums) -> tuple[float, float]:
    """Variance of D and its degrees of freedom.

    CR2 with Satterthwaite degrees of freedom under independence (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018), which have a closed
    form for a mean. With clusters of equal size that is G/(G-1) * sum (S_g - m_g D)^2 / N^2 with G-1 (Liang & Zeger 1986), and with
    single items the paired t; with unequal ones it covers better at any number of clusters (benchmarks/calibration.py).
    Returns (nan, nan) for fewer than two clusters.
    """
    g, n = sums.clusters, sums.items
    if g < 2:
        return float("nan"), float("nan")
    squares = sums.residual**2
    share = sums.size / n
    variance = float((squares / (1 - share)).sum()) / n**2
    q = sums.size * share / (1 - share)
    df = n**2 / float((sums.size**2).sum() + q.sum() ** 2 - (q**2).sum())
    return variance, df


class Effect:
    """The effect of one comparison with the interval and the test that suit its data; see `method`."""

    def __init__(self, sums: ClusterSums, binary: bool) -> None:
        """`binary`: one answer per item, scored 0 or 1 (so that S_g of a singleton is -1, 0 or 1)."""
        self.sums, self.binary = sums, binary
        self.value = sums.effect
        variance, self.df = robust_variance(sums)
        self.se = float(np.sqrt(variance))
        self.won = self.lost = 0
        self.pairs = binary and sums.singletons
        if self.pairs:
            self.won, self.lost = int(np.count_nonzero(sums.total > 0)), int(np.count_nonzero(sums.total < 0))
        self.score = self.pairs and (sums.items < TANGO_ITEMS or self.won + self.lost < TANGO_DISCORDANT)

    @property
    def method(self) -> str:
        """The name of the interval and of the test it inverts."""
        if self.score:
            return "score (Tango 1998)"
        return "t (paired)" if self.sums.singletons else "t (cluster-robust CR2, Satterthwaite)"

    @property
    def informative_needed(self) -> int:
        """The fewest clusters (with a non-zero difference, unless the score interval is used) that carry a verdict."""
        return MIN_CLUSTERS

    @property
    def informative(self) -> int:
        """The clusters that count towards `informative_needed`: the score interval needs no discordant pair."""
        return self.sums.clusters if self.score else self.sums.informative

    @property
    def warnings(self) -> list[str]:
        """What the reader of the interval must know: cases where the calibration finds it too narrow, or where there is none."""
        sums, found = self.sums, []
        if sums.clusters < MIN_CLUSTERS:
            found.append(f"{sums.clusters} clusters: below {MIN_CLUSTERS} there is no p-value, and the interval may be too narrow")
        elif not self.testable:
            found.append(
                f"{sums.informative} clusters differ: below {MIN_CLUSTERS} there is no p-value, and the interval may be too narrow"
            )
        elif not (self.score or self.binary) and sums.informative < FEW_GRADED:
            found.append(
                f"{sums.informative} clusters differ: below {FEW_GRADED}, and with skewed differences, the interval may be too narrow"
            )
        if sums.items**2 < sums.clusters / 2 * float((sums.size**2).sum()):
            found.append("clusters of very unequal size: the interval may be too narrow")
        if not self.score and not self.se > 0:
            found.append("no item differs between the arms: no interval")
        return found

    @property
    def testable(self) -> bool:
        """Enough clusters for a p-value."""
        return self.informative >= self.informative_needed

    def interval(self, alpha: float) -> tuple[float, float]:
        """Two-sided interval of level 1 - alpha; (nan, nan) where there is none (fewer than two clusters, or no variance)."""
        if self.score:
            return tango_interval(self.won, self.lost, int(self.sums.items), alpha)
        if not self.se > 0:
            return float("nan"), float("nan")
        half = float(special.stdtrit(self.df, 1 - alpha / 2)) * self.se
        return self.value - half, self.value + half

    def p_above(self, null: float) -> float:
        """One-sided p-value of `D <= null` against `D > null`; it agrees with `interval`."""
        if self.score:
            return float(special.ndtr(-tango_z(self.won, self.lost, int(self.sums.items), null)))
        return float(special.stdtr(self.df, -(self.value - null) / self.se)) if self.se > 0 else float("nan")

    def p_below(self, null: float) -> float:
        """One-sided p-value of `D >= null` against `D < null`."""
        if self.score:
            return float(special.ndtr(tango_z(self.won, self.lost, int(self.sums.items), null)))
        return float(special.stdtr(self.df, (self.value - null) / self.se)) if self.se > 0 else float("nan")

    def p_value(self) -> float:
        """Two-sided p-value of `D = 0`: below alpha exactly where `interval(alpha)` leaves out 0."""
        return float(min(1.0, 2 * min(self.p_above(0.0), self.p_below(0.0))))
