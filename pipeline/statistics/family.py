"""Families of comparisons: simultaneous intervals for the primary one, Benjamini-Hochberg for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.statistics.paired import Effect

Floats = NDArray[np.float64]
DRAWS = 100_000


@dataclass(frozen=True)
class Member:
    """One comparison of the family: its effect, and the names of its clusters in the order of its sums."""

    effect: Effect
    clusters: Sequence[str]


class Family:
    """Comparisons that are judged together, so that any false claim among them counts as one error.

    The joint law of the estimates is normal with the cluster-robust correlation of the data: the Gaussian cluster multiplier
    bootstrap (Romano & Wolf 2005; Chernozhukov, Chetverikov & Kato 2013), drawn straight from its conditional law, over a chi
    variable with the smallest degrees of freedom (Hothorn, Bretz & Westfall 2008). With arms that share a control and equal
    variances that is Dunnett's test.
    """

    def __init__(self, members: Sequence[Member], seed: int, draws: int = DRAWS) -> None:
        """Draw once; every level and p-value comes from the same draws."""
        self.members, self.draws = members, draws
        self._usable = [m for m in members if m.effect.se > 0 or m.effect.score]
        self.df = min((m.effect.df for m in self._usable if np.isfinite(m.effect.df)), default=float("nan"))
        self._largest: Floats | None = None
        if len(self._usable) > 1:
            rng = np.random.default_rng([seed, 0xFA])
            z = rng.standard_normal((draws, len(self._usable))) @ _root(self.correlation()).T
            scale = np.sqrt(rng.chisquare(self.df, draws) / self.df)
            self._largest = np.sort(np.abs(z).max(axis=1) / scale)

    @property
    def method(self) -> str:
        """How simultaneity is reached, in words."""
        if self._largest is None:
            return "one comparison, nothing to adjust"
        return f"max-|t| over {len(self._usable)} comparisons (cluster multiplier bootstrap, Gaussian, {self.draws:,} draws)"

    def correlation(self) -> Floats:
        """Correlation of the estimates through the clusters they share: (members, members)."""
        index: dict[str, int] = {}
        parts = []
        for m in self._usable:
            place = np.fromiter((index.setdefault(c, len(index)) for c in m.clusters), dtype=np.int64, count=len(m.clusters))
            parts.append((place, m.effect.sums.residual))
        spread = np.zeros((len(parts), len(index)))
        for row, (place, residual) in zip(spread, parts, strict=True):
            row[place] = residual
        norm = np.sqrt((spread**2).sum(axis=1, keepdims=True))
        spread /= np.where(norm > 0, norm, 1.0)
        corr: Floats = spread @ spread.T
        np.fill_diagonal(corr, 1.0)
        return corr

    def critical(self, alpha: float) -> float:
        """The bound that max |t| exceeds with probability alpha."""
        if self._largest is None:
            return float(special.stdtrit(self.df, 1 - alpha / 2)) if np.isfinite(self.df) else float("nan")
        return float(self._largest[int(np.ceil(self.draws * (1 - alpha))) - 1])

    def local_alpha(self, alpha: float) -> float:
        """The level at which each single interval is taken, so that all hold together with 1 - alpha."""
        if self._largest is None:
            return alpha
        return float(2 * special.stdtr(self.df, -self.critical(alpha)))

    def adjusted(self, p: float) -> float:
        """Single-step adjusted p-value of a member's own two-sided `p`."""
        if self._largest is None or not np.isfinite(p):
            return p
        bound = float(special.stdtrit(self.df, 1 - p / 2))
        return float((1 + self.draws - np.searchsorted(self._largest, bound * (1 - 1e-12))) / (1 + self.draws))


def _root(corr: Floats) -> Floats:
    values, vectors = np.linalg.eigh(corr)
    # The symmetric root: two equal arms give a singular matrix (no Cholesky root), and eigenvectors alone have arbitrary signs.
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """q-values in the order of `p`; NaN (no test) stays NaN and does not count."""
    values = np.array(p, dtype=float)
    there = np.isfinite(values)
    q = np.full(len(values), np.nan)
    if there.any():
        order = np.flatnonzero(there)[np.argsort(values[there])]
        scaled = values[order] * (len(order) / np.arange(1, len(order) + 1))
        q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [float(x) for x in q]
