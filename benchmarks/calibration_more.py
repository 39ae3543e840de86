"""Calibration of what is printed in special cases: Fieller's interval, the subgroup test, random effects over data sets, repeated looks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.statistics.compare import Comparison
from pipeline.statistics.paired import ClusterSums, Effect
from pipeline.statistics.pooling import random_effects
from pipeline.statistics.ratio import fieller
from pipeline.statistics.subgroups import interaction
from pipeline.statistics.table import Metric, ScoreTable

Rng = np.random.Generator
Row = tuple[str, str, float, float, float | None, float | None, str]
"""What, setting, hits, of how many, least and greatest share allowed, nominal value in words."""


def fieller_rows(runs: int, rng: Rng) -> Iterator[Row]:
    """Coverage of dollars per additional correct answer where the interval is finite, and how often it is."""
    for n, effect in ((300, 0.1), (1000, 0.1)):
        finite = covered = 0
        ones = np.ones(n)
        for _ in range(runs):
            gain = rng.choice([1.0, -1.0, 0.0], p=[0.15 + effect / 2, 0.15 - effect / 2, 0.7], size=n)
            cost = 0.002 + 0.001 * rng.standard_exponential(n) + 0.0005 * gain
            truth = (0.003 + 0.0005 * effect) / effect
            found = fieller(ClusterSums(cost, ones), ClusterSums(gain, ones), 0.05)
            if found:
                finite += 1
                covered += found[1] <= truth <= found[2]
        setting = f"n = {n}, effect {effect:g}, finite in {100 * finite / runs:.0f}%"
        yield "Fieller coverage", setting, covered, finite, 0.925, None, "95 or more"


def score_table(difference: np.ndarray, cluster: np.ndarray, dataset: np.ndarray | None = None) -> ScoreTable:
    """A table whose metric `x` is 0 in the control and `difference` in the treatment."""
    n = len(difference)
    nan = np.full(n, np.nan)
    zeros = np.zeros((2, n), dtype=np.int64)
    sets = np.zeros(n, dtype=np.int64) if dataset is None else dataset
    return ScoreTable(
        [f"d|{i}" for i in range(n)], np.full(n, "closed"), np.zeros(n, dtype=np.int64), (0.0,), sets,
        tuple(f"d{j}" for j in range(int(sets.max()) + 1)), cluster, [f"c{j}" for j in range(int(cluster.max()) + 1)],
        {"x": Metric(np.zeros(n), difference, nan, nan)}, zeros + 1, zeros, zeros, zeros, np.full((2, n), np.nan), [],
    )  # fmt: skip


def subgroup_rows(runs: int, rng: Rng) -> Iterator[Row]:
    """Size of the interaction test: two and four groups, clusters within and across groups."""
    for groups, n, size, across in ((2, 200, 1, False), (4, 400, 1, False), (2, 400, 5, False), (3, 600, 5, True)):
        rejected = tested = 0
        for _ in range(runs):
            cluster = np.arange(n) // size
            lift = rng.normal(0, 0.1, n // size)[cluster]
            p = np.clip(0.1 + lift[:, None] * np.array([0.5, -0.5]), 0.0, 0.4)
            u = rng.random(n)
            difference = (u < p[:, 0]) * 1.0 - (u > 1 - p[:, 1])
            # The first group is twice the others, so that the groups' effects are known with unequal precision.
            block = cluster * (groups + 1) // (n // size) if not across else np.arange(n) % (groups + 1)
            group = np.maximum(block - 1, 0)
            c = Comparison.of(score_table(difference, cluster), "x", np.arange(n))
            assert c is not None
            found = interaction(c, "g", {f"d|{i}": str(g) for i, g in enumerate(group)}, 0.05)
            if found["p_value"] is not None:
                tested += 1
                rejected += found["p_value"] < 0.05
        where = "clusters span groups" if across else "clusters within groups" if size > 1 else "no clusters"
        yield "interaction test size", f"{groups} groups, n = {n}, {where}", rejected, tested, None, 0.06, "5"


def random_effects_rows(runs: int, rng: Rng) -> Iterator[Row]:
    """Coverage of the mean over data sets."""
    for k, tau in ((5, 0.0), (5, 0.03), (10, 0.03), (10, 0.1)):
        covered = 0
        se = np.asarray(0.01 * (1 + np.arange(k) % 4), dtype=np.float64)
        for _ in range(runs):
            found = random_effects(0.05 + tau * rng.standard_normal(k) + se * rng.standard_normal(k), se**2, 0.05)
            covered += found["ci_low"] <= 0.05 <= found["ci_high"]
        yield "random-effects coverage", f"{k} data sets, between-set SD {tau:g}", covered, runs, 0.925, None, "95"


def look_rows(runs: int, rng: Rng) -> Iterator[tuple[str, int, int]]:
    """Looks at growing 0/1 data (20% discordant, no effect): their numbers of items, and how many runs claim a difference at any of them,
    each at 5% and each at an equal share of 5%."""
    for looks in ((500, 1000), (5000, 6000), (200, 400, 600, 800, 1000)):
        steps = np.diff((0, *looks))
        naive = shared = 0
        for _ in range(runs):
            counts = np.cumsum([rng.multinomial(n, (0.1, 0.1, 0.8)) for n in steps], axis=0)
            effects = [Effect(ClusterSums(np.repeat([1.0, -1.0, 0.0], c), np.ones(n)), True) for c, n in zip(counts, looks, strict=True)]
            naive += any(e.p_value() < 0.05 for e in effects)
            shared += any(e.p_value() < 0.05 / len(looks) for e in effects)
        yield ", ".join(f"{n:,}" for n in looks), naive, shared
