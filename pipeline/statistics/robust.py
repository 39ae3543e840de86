"""A second opinion on the primary effect by another estimator: GEE over clusters (statsmodels, the `robust` extra)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pipeline.base.errors import ConfigError
from pipeline.statistics.compare import Comparison
from pipeline.statistics.paired import MIN_CLUSTERS

MAX_ITEMS = 20_000
"""Above, GEE takes minutes; the caller notes that it was left out."""


def gee(c: Comparison) -> dict[str, Any] | None:
    """The effect by GEE: both arms' answers, identity link, exchangeable within cluster, bias-reduced covariance (Mancl & DeRouen 2001).

    It weights clusters by their information, not by their items, so it may differ from the main analysis where clusters are unequal.
    None below 10 or above MAX_ITEMS. Raises ConfigError where statsmodels is not installed.
    """
    if c.effect.sums.clusters < MIN_CLUSTERS or len(c.index) > MAX_ITEMS or not c.effect.se > 0:
        return None
    try:
        import statsmodels.api as sm
    except ImportError:
        raise ConfigError("statsmodels is not installed", where="stats.robustness", remedy="pip install 'abiding[robust]'.") from None
    n = len(c.index)
    outcome = np.concatenate([c.control, c.treatment])
    design = np.column_stack([np.ones(2 * n), np.repeat([0.0, 1.0], n)])
    cluster = np.tile(c.table.cluster[c.index], 2)
    order = np.argsort(cluster, kind="stable")
    model = sm.GEE(
        outcome[order], design[order], groups=cluster[order], cov_struct=sm.cov_struct.Exchangeable(), family=sm.families.Gaussian()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its remarks on convergence are checked below
        fit = model.fit(cov_type="bias_reduced")
    effect, se = float(fit.params[1]), float(fit.bse[1])
    if not (np.isfinite(se) and se > 0):
        return None
    low, high = fit.conf_int(0.05)[1]
    return {
        "method": "GEE, exchangeable within cluster, bias-reduced covariance",
        "effect": effect,
        "se": se,
        "ci_low": float(low),
        "ci_high": float(high),
        "p_value": float(fit.pvalues[1]),
    }
