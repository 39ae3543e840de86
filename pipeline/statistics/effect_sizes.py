"""Effect sizes for graded metrics, with what they do not say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REMARK = "Hodges-Lehmann is 0 where most differences are; Cliff's delta ignores the pairing; d_z grows with the number of replicates."


def effect_sizes(control: Floats, treatment: Floats) -> dict[str, Any]:
    """d_z, Cliff's delta and the Hodges-Lehmann shift of paired values, each (n,)."""
    difference = np.round(treatment - control, 12)
    sd = float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0
    return {
        "d_z": float(difference.mean()) / sd if sd > 0 else None,
        "cliffs_delta": cliffs_delta(control, treatment),
        "hodges_lehmann": hodges_lehmann(difference),
        "remark": REMARK,
    }


def cliffs_delta(control: Floats, treatment: Floats) -> float:
    """P(treatment > control) - P(treatment < control) over all pairs of items, in O(n log n)."""
    ordered, treatment = np.sort(control), np.sort(treatment)
    below = np.searchsorted(ordered, treatment, "left")
    above = len(ordered) - np.searchsorted(ordered, treatment, "right")
    return float((below - above).sum()) / (len(control) * len(treatment))


def hodges_lehmann(difference: Floats) -> float:
    """Median of the Walsh averages (d_i + d_j) / 2, i <= j (Hodges & Lehmann 1963).

    Found by bisection: pairs below a bound are counted, not listed.
    """
    values, counts = np.unique(difference, return_counts=True)
    upto = np.concatenate([[0], np.cumsum(counts)])
    n = len(difference)
    total = n * (n + 1) // 2

    def at_most(bound: float) -> int:
        """Number of pairs i <= j with d_i + d_j <= bound."""
        ordered = int((counts * upto[np.searchsorted(values, bound - values, "right")]).sum())
        return (ordered + int(counts[2 * values <= bound].sum())) // 2

    def kth(k: int) -> float:
        """The k-th smallest pair sum (from 1)."""
        low, high = 2 * float(values[0]) - 1e-9, 2 * float(values[-1])
        for _ in range(60):
            middle = (low + high) / 2
            if at_most(middle) >= k:
                high = middle
            else:
                low = middle
            if high - low < 1e-11:
                break
        return high

    lower = kth((total + 1) // 2)
    upper = lower if at_most(lower) > total // 2 else kth(total // 2 + 1)
    return round((lower + upper) / 4, 9) + 0.0
