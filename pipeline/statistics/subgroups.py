"""Declared subgroups: one test that the effect is the same in all groups, not a list of p-values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

from pipeline.statistics.compare import Comparison
from pipeline.statistics.paired import MIN_CLUSTERS, ClusterSums, robust_variance


def interaction(comparison: Comparison, factor: str, group_of: Mapping[str, str], alpha: float) -> dict[str, Any]:
    """The effect in each group and the Wald F test of equal effects with cluster-robust covariance.

    Clusters may span groups. Denominator degrees of freedom by Welch-Satterthwaite over the groups' variances, less what Hotelling's
    T^2 takes. No p-value where a group has fewer than 10 informative clusters.
    """
    table = comparison.table
    labels = [group_of.get(table.item_key[i]) for i in comparison.index]
    names = sorted({x for x in labels if x is not None})
    codes = {name: g for g, name in enumerate(names)}
    group = np.array([-1 if x is None else codes[x] for x in labels], dtype=np.int64)
    clusters = table.cluster[comparison.index]
    effects, groups, columns = [], [], []
    warnings: list[str] = []
    for g, name in enumerate(names):
        keep = group == g
        effect = comparison.effect_of(keep)
        low, high = effect.interval(alpha)
        effects.append(effect)
        size = {"group": name, "n_items": int(keep.sum()), "n_clusters": effect.sums.clusters}
        groups.append(size | {"effect": effect.value, "ci_low": low, "ci_high": high})
        column = np.zeros(len(table.clusters))
        sums: ClusterSums = effect.sums
        column[np.flatnonzero(np.bincount(clusters[keep], minlength=len(column)))] = sums.residual / sums.items
        # Scaled so that its square sum is the robust variance of this group's effect (CR2 where clusters are few).
        variance, square = robust_variance(sums)[0], float((column**2).sum())
        columns.append(column * np.sqrt(variance / square) if square > 0 and np.isfinite(variance) else column)
    result: dict[str, Any] = {
        "factor": factor, "metric": comparison.name, "groups": groups, "statistic": None, "df1": None, "df2": None, "p_value": None,
        "method": "Wald F test of equal effects, cluster-robust", "without_group": int((group < 0).sum()), "warnings": warnings,
    }  # fmt: skip
    if len(names) < 2:
        warnings.append("fewer than two groups: nothing to compare")
        return result
    if thin := [n for n, e in zip(names, effects, strict=True) if e.sums.informative < MIN_CLUSTERS]:
        warnings.append(f"no test: group {thin[0]!r} has fewer than {MIN_CLUSTERS} clusters that differ between the arms")
        return result
    spread = np.stack(columns)
    covariance = spread @ spread.T
    contrast = np.hstack([-np.ones((len(names) - 1, 1)), np.eye(len(names) - 1)])
    gap = contrast @ np.array([e.value for e in effects])
    inner = contrast @ covariance @ contrast.T
    df1 = len(names) - 1
    wald = float(gap @ np.linalg.solve(inner, gap))
    variances = np.diag(covariance)
    satterthwaite = float(variances.sum() ** 2 / (variances**2 / np.array([e.df for e in effects])).sum())
    # Hotelling's T^2 as F: estimating the covariance costs df1 - 1 degrees of freedom.
    df2 = satterthwaite - df1 + 1
    statistic = wald / df1 * df2 / satterthwaite
    return result | {"statistic": statistic, "df1": df1, "df2": df2, "p_value": float(special.fdtrc(df1, df2, statistic))}
