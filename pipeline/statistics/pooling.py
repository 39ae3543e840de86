"""Several data sets: random effects from five on, else a mean with declared weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from pipeline.statistics.paired import Effect

Floats = NDArray[np.float64]
MIN_DATASETS = 5


def reml_tau2(effect: Floats, variance: Floats) -> float:
    """Between-dataset variance by restricted maximum likelihood (Viechtbauer 2005); effects and their variances, each (k,)."""

    def loss(tau2: float) -> float:
        w = 1 / (variance + tau2)
        mean = float((w * effect).sum() / w.sum())
        return 0.5 * float(np.log(variance + tau2).sum() + np.log(w.sum()) + (w * (effect - mean) ** 2).sum())

    top = 10 * float(np.var(effect, ddof=1) + variance.max())
    found = optimize.minimize_scalar(loss, bounds=(0.0, top), method="bounded", options={"xatol": top * 1e-10})
    return 0.0 if loss(0.0) <= float(found.fun) else float(found.x)


def random_effects(effect: Floats, variance: Floats, alpha: float) -> dict[str, Any]:
    """Mean over datasets as a sample: REML, the Hartung-Knapp variance, t with k - 1; I^2 and a prediction interval (t with k - 2)."""
    k = len(effect)
    tau2 = reml_tau2(effect, variance)
    w = 1 / (variance + tau2)
    mean = float((w * effect).sum() / w.sum())
    scale = float((w * (effect - mean) ** 2).sum()) / (k - 1)
    if tau2 == 0:
        # A chance agreement of the datasets must not undercut the usual formula's variance (Knapp & Hartung 2003; Jackson et al. 2017).
        scale = max(1.0, scale)
    se = float(np.sqrt(scale / w.sum()))
    half = float(special.stdtrit(k - 1, 1 - alpha / 2)) * se
    fixed = 1 / variance
    typical = (k - 1) * fixed.sum() / (fixed.sum() ** 2 - (fixed**2).sum())
    reach = float(special.stdtrit(k - 2, 1 - alpha / 2)) * float(np.sqrt(tau2 + se**2))
    return {
        "method": "random effects over datasets (REML, Hartung-Knapp)", "weights": "1 / (variance + tau^2)", "datasets": k,
        "effect": mean, "se": se, "df": k - 1, "ci_low": mean - half, "ci_high": mean + half,
        "tau2": tau2, "i2": float(tau2 / (tau2 + typical)), "prediction_low": mean - reach, "prediction_high": mean + reach,
    }  # fmt: skip


def pool(effects: Sequence[Effect], alpha: float) -> dict[str, Any] | None:
    """The mean effect over datasets; None for fewer than two with a variance."""
    usable = [e for e in effects if e.se > 0]
    if len(usable) < 2 or len(usable) < len(effects):
        return None
    effect, se = np.array([e.value for e in usable]), np.array([e.se for e in usable])
    k = len(usable)
    if k >= MIN_DATASETS:
        return random_effects(effect, se**2, alpha)
    mean, error = float(effect.mean()), float(np.sqrt((se**2).sum())) / k
    df = float((se**2).sum() ** 2 / (se**4 / np.array([e.df for e in usable])).sum())  # Welch-Satterthwaite
    half = float(special.stdtrit(df, 1 - alpha / 2)) * error
    return {
        "method": f"mean of dataset effects (fewer than {MIN_DATASETS} datasets: no random effects)",
        "weights": "each dataset counts the same", "datasets": k, "effect": mean, "se": error, "df": df,
        "ci_low": mean - half, "ci_high": mean + half,
        "tau2": None, "i2": None, "prediction_low": None, "prediction_high": None,
    }  # fmt: skip
