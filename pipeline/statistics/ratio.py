"""Dollars per additional correct answer: a ratio of two paired differences with Fieller's interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.statistics.paired import ClusterSums

Floats = NDArray[np.float64]


def fieller(cost: ClusterSums, gain: ClusterSums, alpha: float) -> tuple[float, float, float] | None:
    """(ratio, low, high) of cost effect / gain effect over the same clusters (Fieller 1954).

    None where the gain's interval includes 0: then no finite interval covers the ratio.
    """
    g, n = gain.clusters, gain.items
    if g < 2:
        return None
    factor = g / (g - 1) / n**2
    v_cost, v_gain = factor * float((cost.residual**2).sum()), factor * float((gain.residual**2).sum())
    covariance = factor * float((cost.residual * gain.residual).sum())
    t2 = float(special.stdtrit(g - 1, 1 - alpha / 2)) ** 2
    a, b, c = gain.effect**2 - t2 * v_gain, cost.effect * gain.effect - t2 * covariance, cost.effect**2 - t2 * v_cost
    if a <= 0:
        return None
    root = float(np.sqrt(max(0.0, b * b - a * c)))
    return cost.effect / gain.effect, (b - root) / a, (b + root) / a


def usd_per_correct(cost: Floats, gain: Floats, cluster: NDArray[np.int64], alpha: float) -> dict[str, Any]:
    """The object `usd_per_correct` of significance.json: per item dollars and metric differences (treatment - control), each (n,)."""
    # Cluster sums are rounded at 1e-12, far below a token's price only after scaling: work in millionths of a dollar.
    costs, gains = ClusterSums.of(cost * 1e6, cluster), ClusterSums.of(gain, cluster)
    usd, effect = costs.effect / 1e6, gains.effect
    found = fieller(costs, gains, alpha)
    result: dict[str, Any] = {"usd_difference": usd, "effect": effect, "method": "Fieller", "finite": found is not None}
    if found is None:
        sentence = (
            f"The treatment costs {usd:+.3g} dollars more an item; its effect may be 0, "
            "so there is no finite interval for dollars per additional correct answer."
        )
        return result | {"ratio": usd / effect if effect else None, "low": None, "high": None, "sentence": sentence}
    ratio, low, high = (x / 1e6 for x in found)
    unit = "additional correct answer" if effect > 0 else "correct answer lost (negative: saved)"
    sentence = f"{ratio:.3g} dollars per {unit} ({100 * (1 - alpha):g}% interval {low:.3g} to {high:.3g})."
    return result | {"ratio": ratio, "low": low, "high": high, "sentence": sentence}
