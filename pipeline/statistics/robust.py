"""Second opinions on the primary effect by other estimators: GEE and a mixed model (statsmodels, the `robust` extra)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy import special

from pipeline.base.errors import ConfigError
from pipeline.statistics.compare import Comparison
from pipeline.statistics.paired import MIN_CLUSTERS

MAX_ITEMS = 20_000
"""Above, GEE takes minutes: it is left out, and so is the mixed model."""


def gee(c: Comparison) -> dict[str, Any] | None:
    """The effect by GEE: both arms' answers, identity link, exchangeable within cluster, bias-reduced covariance (Mancl & DeRouen 2001).

    It weights clusters by their information, not by their items, so it may differ from the main analysis where clusters are unequal.
    None below 10 or above MAX_ITEMS. Raises ConfigError where statsmodels is not installed.
    """
    if c.effect.sums.clusters < MIN_CLUSTERS or len(c.index) > MAX_ITEMS or not c.effect.se > 0:
        return None
    sm = _statsmodels()
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
    return _found(
        "GEE, exchangeable within cluster, bias-reduced covariance", effect, se, float(special.ndtri(0.975)), float(fit.pvalues[1])
    )


def mixed(c: Comparison) -> dict[str, Any] | None:
    """The effect by a linear mixed model of the items' differences: a random intercept for each cluster, REML, t with G - 1.

    Like GEE it weights clusters by their information. None without clusters of several items (then it is the paired t), below 10 or above
    MAX_ITEMS, and where it does not converge. Raises ConfigError where statsmodels is not installed.
    """
    sums = c.effect.sums
    if sums.clusters < MIN_CLUSTERS or sums.singletons or len(c.index) > MAX_ITEMS or not c.effect.se > 0:
        return None
    sm = _statsmodels()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cluster variance of 0, the boundary, is a result; what failed is checked below
        fit = sm.MixedLM(c.difference, np.ones(len(c.index)), groups=c.table.cluster[c.index]).fit(reml=True)
    effect, se = float(fit.fe_params[0]), float(fit.bse_fe[0])
    if not (fit.converged and np.isfinite(se) and se > 0):
        return None
    df = sums.clusters - 1
    p = float(2 * special.stdtr(df, -abs(effect) / se))
    return _found("mixed model of differences, random intercept of cluster, REML", effect, se, float(special.stdtrit(df, 0.975)), p)


def _statsmodels() -> Any:
    try:
        import statsmodels.api as sm
    except ImportError:
        raise ConfigError("statsmodels is not installed", where="stats.robustness", remedy="pip install 'abiding[robust]'.") from None
    return sm


def _found(method: str, effect: float, se: float, quantile: float, p_value: float) -> dict[str, Any]:
    low, high = effect - quantile * se, effect + quantile * se
    return {"method": method, "effect": effect, "se": se, "ci_low": low, "ci_high": high, "p_value": p_value}
