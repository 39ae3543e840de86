"""Resampling checks over whole clusters: studentised sign flips and the bootstrap-t.

No index is drawn per cluster: equal clusters are counted, and only their counts are random (binomial and multinomial). With more
than 128 distinct clusters, classes of 1/128 of the range share their mean, which moves a standard error by about 1 part in 10,000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.paired import ClusterSums

Floats = NDArray[np.float64]

CELLS = 128
"""The most distinct clusters that are kept apart."""


@dataclass(frozen=True)
class Permutation:
    """`p_value` over `resamples` sign patterns; `exact` where all were enumerated."""

    p_value: float
    resamples: int
    exact: bool


@dataclass(frozen=True)
class BootstrapT:
    """Interval from `resamples` resamples of clusters that fell into `cells` distinct ones."""

    low: float
    high: float
    resamples: int
    cells: int


def sign_flip(sums: ClusterSums, resamples: int, rng: np.random.Generator) -> Permutation | None:
    """Two-sided test of a symmetric null: flip the sign of whole clusters, compare |D / se|.

    p = (1 + b) / (1 + B) (Phipson & Smyth 2010); where 2^clusters <= B all patterns are enumerated and p = b / 2^clusters.
    None without a non-zero cluster.
    """
    moved = sums.total != 0
    s, m = sums.total[moved], sums.size[moved]
    if not len(s):
        return None
    # D* needs sum e S and, for its variance where sizes differ, sum e m S; everything else stays as it is under a flip.
    columns = s[:, None] if np.ptp(sums.size) == 0 else np.stack([s, m * s], axis=1)
    exact = len(s) < 24 and 2 ** len(s) <= resamples
    flipped = _all_signs(columns) if exact else _random_signs(columns, resamples, rng)
    squares = float((sums.total**2).sum())
    size_squares = float((sums.size**2).sum())

    def ratio(linear: Floats, cross: Floats) -> Floats:
        """D^2 / V up to a constant factor, for each pattern."""
        d = linear / sums.items
        variance: Floats = np.maximum(squares - 2 * d * cross + d**2 * size_squares, 0.0)
        with np.errstate(divide="ignore"):
            return np.where(linear == 0, 0.0, linear**2 / variance)

    cross = flipped[:, 1] if flipped.shape[1] == 2 else flipped[:, 0] * sums.size[0]
    seen = ratio(np.array([s.sum()]), np.array([(m * s).sum()]))[0]
    extreme = int(np.count_nonzero(ratio(flipped[:, 0], cross) >= seen * (1 - 1e-9)))
    if exact:
        return Permutation(extreme / len(flipped), len(flipped), True)
    return Permutation((1 + extreme) / (1 + resamples), resamples, False)


def _all_signs(columns: Floats) -> Floats:
    """Signed sums of the rows of `columns` (r, c) over all 2^r patterns: (2^r, c)."""
    table = np.zeros((1, columns.shape[1]))
    for row in columns:
        table = np.concatenate([table - row, table + row])
    return table


def _random_signs(columns: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Signed sums of the rows of `columns` over random patterns: (resamples, c)."""
    up = np.where(columns[:, :1] < 0, -columns, columns)
    code, cells = _cells(up[:, 0], up[:, 1] if up.shape[1] == 2 else np.zeros(1))
    counts = np.bincount(code, minlength=cells)
    mean = np.stack([np.bincount(code, weights=x, minlength=cells) / counts for x in up.T], axis=1)
    signed: Floats = (2.0 * rng.binomial(counts, 0.5, size=(resamples, cells)) - counts) @ mean
    return signed


def bootstrap_t(sums: ClusterSums, resamples: int, alpha: float, rng: np.random.Generator) -> BootstrapT | None:
    """Bootstrap-t interval of level 1 - alpha over clusters (Efron & Tibshirani 1993, ch. 12).

    None without variance or below 10 clusters.
    """
    g, n = sums.clusters, sums.items
    if g < 10 or not np.any(sums.residual):
        return None
    e, m = sums.residual, sums.size
    code, cells = _cells(e, m)
    counts = np.bincount(code, minlength=cells).astype(np.float64)
    moments = np.stack([np.bincount(code, weights=x, minlength=cells) / counts for x in (e, m, e * e, e * m, m * m)], axis=1)
    drawn = rng.multinomial(g, counts / g, size=resamples).astype(np.float64) @ moments
    se_, sm, see, sem, smm = drawn.T
    shift = se_ / sm
    variance = (see - 2 * shift * sem + shift**2 * smm) / sm**2
    usable = variance > 1e-15 * float((e**2).sum()) / n**2
    with np.errstate(invalid="ignore"):  # 0 * inf, where the shift is 0
        t = np.where(usable, shift / np.sqrt(np.where(usable, variance, 1.0)), np.where(shift == 0, 0.0, np.sign(shift) * np.inf))
    low_t, high_t = np.quantile(t, [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
    se = float(np.sqrt((e**2).sum())) / n
    return BootstrapT(sums.effect - float(high_t) * se, sums.effect - float(low_t) * se, resamples, cells)


def _cells(x: Floats, y: Floats) -> tuple[NDArray[np.intp], int]:
    """A class for each cluster, and their number: equal pairs (x, y) where there are few, else narrow classes of x."""
    _, code = np.unique(np.round(x + 1j * y if np.ptp(y) else x, 10), return_inverse=True)
    if code.max() >= CELLS:
        _, code = np.unique(np.floor((x - x.min()) / (float(np.ptp(x)) / CELLS)), return_inverse=True)
    return code.reshape(-1), int(code.max()) + 1
