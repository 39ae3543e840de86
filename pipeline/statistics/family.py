"""Families of comparisons: simultaneous intervals for the primary one, Benjamini-Hochberg for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.statistics.paired import MIN_CLUSTERS, Effect

Floats = NDArray[np.float64]
DRAWS = 100_000
FEW_CLUSTERS = 40
"""Up to so many, counted over all members, and from MIN_CLUSTERS on, the law of max |t| is drawn by the wild cluster bootstrap."""


@dataclass(frozen=True)
class Member:
    """One comparison of the family: its effect, and the names of its clusters in the order of its sums."""

    effect: Effect
    clusters: Sequence[str]


class Family:
    """Comparisons that are judged together, so that any false claim among them counts as one error.

    Single-step max-|t| (Hothorn, Bretz & Westfall 2008; resampled: Romano & Wolf 2005). The joint law of the estimates is normal with
    the cluster-robust correlation of the data: the Gaussian cluster multiplier bootstrap (Chernozhukov, Chetverikov & Kato 2013), drawn
    straight from its conditional law, over a chi variable with the smallest degrees of freedom. With arms that share a control and equal
    variances that is Dunnett's test. Up to FEW_CLUSTERS the estimated correlation is too rough for that (5.5% family error with 20
    clusters and six arms): there the signs of whole clusters' residuals are drawn, and each draw is studentised by its own variance (wild
    cluster bootstrap: Cameron, Gelbach & Miller 2008; Djogbenou, MacKinnon & Nielsen 2019).
    """

    def __init__(self, members: Sequence[Member], seed: int, draws: int = DRAWS) -> None:
        """Draw once; every level and p-value comes from the same draws."""
        self.members, self.draws = members, draws
        self._usable = [m for m in members if m.effect.se > 0 or m.effect.score]
        self.df = min((m.effect.df for m in self._usable if np.isfinite(m.effect.df)), default=float("nan"))
        self._clusters, self._places = _places(self._usable)
        self.wild = self._clusters <= FEW_CLUSTERS and all(
            m.effect.sums.clusters >= MIN_CLUSTERS and not m.effect.score for m in self._usable
        )
        self._largest: Floats | None = None
        if len(self._usable) > 1:
            rng = np.random.default_rng([seed, 0xFA])
            self._largest = np.sort(self._wild(rng) if self.wild else self._gaussian(rng))

    @property
    def method(self) -> str:
        """How simultaneity is reached, in words."""
        if self._largest is None:
            return "one comparison, nothing to adjust"
        how = "wild cluster bootstrap, signs" if self.wild else "cluster multiplier bootstrap, Gaussian"
        return f"max-|t| over {len(self._usable)} comparisons ({how}, {self.draws:,} draws)"

    def _gaussian(self, rng: np.random.Generator) -> Floats:
        """Draws of max |t| (draws,), multipliers normal, all variances off by the same factor."""
        z = rng.standard_normal((self.draws, len(self._usable))) @ _root(self.correlation()).T
        scale: Floats = np.sqrt(rng.chisquare(self.df, self.draws) / self.df)
        drawn: Floats = np.abs(z).max(axis=1) / scale
        return drawn

    def _wild(self, rng: np.random.Generator) -> Floats:
        """Draws of max |t| (draws,), multipliers -1 or 1, each estimate with the CR2 variance of its draw."""
        signs = 2.0 * rng.integers(0, 2, (self.draws, self._clusters)) - 1
        largest = np.zeros(self.draws)
        for m, place in zip(self._usable, self._places, strict=True):
            sums = m.effect.sums
            e, size, weight = sums.residual, sums.size, 1 / (1 - sums.size / sums.items)
            total, cross = (signs[:, place] @ np.stack([e, weight * size * e], axis=1)).T
            shift = total / sums.items
            variance = np.maximum(float((weight * e**2).sum()) - 2 * shift * cross + shift**2 * float((weight * size**2).sum()), 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                t = np.where(total == 0, 0.0, np.abs(total) / np.sqrt(variance))
            if m.effect.df > self.df:  # on the scale of the member with the fewest, whose bound becomes a level for all
                t = -special.stdtrit(self.df, special.stdtr(m.effect.df, -t))
            largest = np.maximum(largest, t)
        return largest

    def correlation(self) -> Floats:
        """Correlation of the estimates through the clusters they share: (members, members)."""
        spread = np.zeros((len(self._usable), self._clusters))
        for row, place, m in zip(spread, self._places, self._usable, strict=True):
            row[place] = m.effect.sums.residual
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


def _places(members: Sequence[Member]) -> tuple[int, list[NDArray[np.int64]]]:
    """The number of clusters of all members together, and where those of each stand among them."""
    index: dict[str, int] = {}
    places = [np.fromiter((index.setdefault(c, len(index)) for c in m.clusters), dtype=np.int64, count=len(m.clusters)) for m in members]
    return len(index), places


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
