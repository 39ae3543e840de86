"""Dollars per additional correct answer: a ratio of two paired differences with Fieller's interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.statistics.paired import ClusterSums, Effect, robust_variance

Floats = NDArray[np.float64]


def fieller(cost: ClusterSums, gain: ClusterSums, alpha: float) -> tuple[float, float, float] | None:
    """(ratio, low, high) of cost effect / gain effect over the same clusters (Fieller 1954).

    None where the gain's interval includes 0: then no finite interval covers the ratio.
    """
    variance, df = robust_variance(gain)
    if not variance > 0:
        return None
    # The covariance of both effects has CR2's weights, so that `a` below is positive exactly where the gain's t interval leaves out 0.
    weight = 1 / (1 - gain.size / gain.items) / gain.items**2
    v_cost, covariance = float((weight * cost.residual**2).sum()), float((weight * cost.residual * gain.residual).sum())
    t2 = float(special.stdtrit(df, 1 - alpha / 2)) ** 2
    a, b, c = gain.effect**2 - t2 * variance, cost.effect * gain.effect - t2 * covariance, cost.effect**2 - t2 * v_cost
    if a <= 0:
        return None
    root = float(np.sqrt(max(0.0, b * b - a * c)))
    return cost.effect / gain.effect, (b - root) / a, (b + root) / a


def usd_per_correct(
    cost: Floats, gain: Floats, cluster: NDArray[np.int64], alpha: float, *, metric: str = "correct", binary: bool = False
) -> dict[str, Any]:
    """The object `usd_per_correct` of significance.json: per item dollars and differences of `metric` (treatment - control), each (n,).

    `binary` as in `Effect`: where the interval of the effect, by whatever method, includes 0 there is no finite one for the ratio.
    """
    # Cluster sums are rounded at 1e-12, far below a token's price only after scaling: work in millionths of a dollar.
    costs, effect_of = ClusterSums.of(cost * 1e6, cluster), Effect(ClusterSums.of(gain, cluster), binary)
    usd, effect = costs.effect / 1e6, effect_of.value
    low, high = effect_of.interval(alpha)
    found = fieller(costs, effect_of.sums, alpha) if low > 0 or high < 0 else None
    result: dict[str, Any] = {"usd_difference": usd, "effect": effect, "method": "Fieller", "finite": found is not None}
    more = f"{abs(usd):.3g} dollars {'more' if usd >= 0 else 'less'} an answer"
    if found is None:
        sentence = (
            f"The treatment costs {more}; its effect on {metric} may be 0, "
            "so there is no finite interval for dollars per additional correct answer."
        )
        return result | {"ratio": usd / effect if effect else None, "low": None, "high": None, "sentence": sentence}
    ratio, low, high = (x / 1e6 for x in found)
    unit = "per additional correct answer" if effect > 0 else "saved per correct answer lost (negative: spent, and answers lost)"
    sentence = f"{ratio:.3g} dollars {unit}, by {metric} ({100 * (1 - alpha):g}% interval {low:.3g} to {high:.3g})."
    return result | {"ratio": ratio, "low": low, "high": high, "sentence": sentence}
