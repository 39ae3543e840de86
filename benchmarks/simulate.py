"""Simulated paired experiments with a known truth: differences of items drawn from a few values, clustered or not.

A population is a set of values that an item's difference (treatment - control) can take, with probabilities. Clusters draw their own
probabilities from a Dirichlet law around them, which gives the differences exactly the intra-cluster correlation asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Population:
    """Values of a difference and their probabilities; `binary`: one 0/1 answer per item and arm."""

    name: str
    values: Floats
    probabilities: Floats
    binary: bool = False

    @property
    def effect(self) -> float:
        """The true effect."""
        return float(self.values @ self.probabilities)

    @property
    def variance(self) -> float:
        """Variance of one item's difference."""
        return float(self.values**2 @ self.probabilities) - self.effect**2


def binary(discordance: float, effect: float = 0.0) -> Population:
    """One answer per item, right or wrong."""
    p = np.array([(discordance + effect) / 2, (discordance - effect) / 2, 1 - discordance])
    return Population(f"binary, {discordance:.0%} discordant", np.array([1.0, -1.0, 0.0]), p, True)


def f1_like(share: float, effect: float = 0.0) -> Population:
    """Graded: `share` of the items differ, a quarter of them by much for the better, the rest by little for the worse (skewed)."""
    values = np.array([1.0, 0.5, -0.2, -0.25, -0.4, 0.0])
    weights = np.array([0.1, 0.18, 0.2, 0.3, 0.22])
    weights = weights / weights.sum()
    # Shift weight from the losers to the winners until the mean is the one asked for.
    gain = np.array([*(weights[:2] / weights[:2].sum()), *(-weights[2:] / weights[2:].sum())])
    move = (effect / share - weights @ values[:5]) / (gain @ values[:5])
    p = share * (weights + move * gain)
    return Population(f"F1-like, {share:.0%} differ", values, np.append(p, 1 - share))


def replicated(k: int, effect: float = 0.0, concentration: float = 1.0) -> Population:
    """K right-or-wrong answers per item and arm, averaged; an item's chance is Beta(c, c), moved by `effect` on average."""
    from scipy import special, stats

    nodes, weights = special.roots_jacobi(40, concentration - 1, concentration - 1)
    p = (nodes + 1) / 2
    weights = weights / weights.sum()
    # Only chances that have room for the effect are moved; the rest is scaled so that the mean effect is exact.
    room = p * (1 - p)
    q = p + effect * room / float(weights @ room)
    counts = np.arange(k + 1)
    control = stats.binom.pmf(counts[:, None], k, p)
    treatment = stats.binom.pmf(counts[:, None], k, q)
    joint = np.einsum("ix,jx,x->ij", control, treatment, weights)
    steps = np.arange(-k, k + 1)
    probabilities = np.array([joint[(counts[None, :] - counts[:, None]) == s].sum() for s in steps])
    return Population(f"{k} replicates", steps / k, probabilities / probabilities.sum())


@dataclass(frozen=True)
class Design:
    """How many items in which clusters: sizes of shape (G,), and the intra-cluster correlation of the differences."""

    name: str
    sizes: Ints
    correlation: float = 0.0

    @property
    def n(self) -> int:
        """Items."""
        return int(self.sizes.sum())


def singles(n: int) -> Design:
    """Every item its own cluster."""
    return Design(f"n = {n:,}", np.ones(n, dtype=np.int64))


def clustered(n: int, clusters: int, correlation: float, spread: float = 0.0) -> Design:
    """n items in clusters of equal size, or with sizes of a fixed lognormal shape of coefficient of variation `spread`."""
    if spread:
        from scipy import special

        sigma = np.sqrt(np.log1p(spread**2))
        weights = np.exp(sigma * special.ndtri((np.arange(clusters) + 0.5) / clusters))
    else:
        weights = np.ones(clusters)
    sizes = np.maximum(1, np.round(n * weights / weights.sum()).astype(np.int64))
    uneven = ", uneven" if spread else ""
    return Design(f"n = {sizes.sum():,} in {clusters} clusters{uneven}, ICC {correlation:g}", sizes, correlation)


def totals(population: Population, design: Design, runs: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Cluster totals S_g of `runs` experiments, each of shape (G,). Unclustered ones come sorted by value, which changes nothing."""
    p, values, sizes = population.probabilities, population.values, design.sizes
    if np.all(sizes == 1):
        for counts in rng.multinomial(len(sizes), p, size=runs):
            yield np.repeat(values, counts)
        return
    there = p > 0
    p, values = p[there], values[there]
    block = max(1, 2_000_000 // (len(sizes) * len(p)))
    for start in range(0, runs, block):
        size = min(block, runs - start)
        if design.correlation > 0:
            own = rng.standard_gamma(p * (1 / design.correlation - 1), size=(size, len(sizes), len(p)))
            # Tiny shapes can underflow to 0 in all places; such a cluster takes the population's probabilities.
            own = np.where(own.sum(axis=2, keepdims=True) > 0, own, p)
            own /= own.sum(axis=2, keepdims=True)
        else:
            own = np.broadcast_to(p, (size, len(sizes), len(p)))
        yield from rng.multinomial(sizes, own) @ values
