"""What the figures draw, computed from the paired scores: trade-offs, items won and lost, power.

Failed, truncated and refused requests count as wrong, as in the main analysis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.reporting.pairs import CONDITIONS, Pairs


@dataclass(frozen=True)
class Trade:
    """One arm on one dataset: shares of its items, each in [0, 1]."""

    dataset: str
    condition: str
    n: int
    abstained: float
    wrong: float
    """Neither right nor an abstention, as a share of all items."""


def correctness(pairs: Pairs) -> str | None:
    """The metric that says right or wrong: `correct`, else `em`; None where there is neither."""
    return next((m for m in ("correct", "em") if m in pairs.metrics), None)


def wrong_and_abstained(pairs: Pairs, condition: str) -> list[tuple[float, float] | None]:
    """(wrong, abstained) of each entry, each in [0, 1]; None where the arm has no score.

    An unanswerable item (it has a false_answer_rate) is wrong where it was answered; any other where it is neither right nor abstained.
    """
    right_metric = correctness(pairs)
    table, size = pairs.arms[condition].metrics, len(pairs)
    right = table[right_metric] if right_metric else [None] * size
    abstained = table.get("abstain_rate", [0.0] * size)
    false_answer = table.get("false_answer_rate", [None] * size)
    return [
        None if r is None or a is None else (f if f is not None else min(1.0, max(0.0, 1 - r - a)), a)
        for r, a, f in zip(right, abstained, false_answer, strict=True)
    ]


def trades(pairs: Pairs, entries: Sequence[int]) -> list[Trade]:
    """The trade-off of both arms for each dataset, then for `all` where there are several, over the given entries."""
    sums: dict[str, dict[str, list[float]]] = {}
    for condition in CONDITIONS:
        shares = wrong_and_abstained(pairs, condition)
        for i in entries:
            found = shares[i]
            if found is not None:
                of = sums.setdefault(pairs.datasets[i], {}).setdefault(condition, [0, 0.0, 0.0])
                of[0] += 1
                of[1] += found[1]
                of[2] += found[0]
    whole = (
        [("all", c, [sum(s) for s in zip(*(d[c] for d in sums.values() if c in d), strict=True)]) for c in CONDITIONS]
        if len(sums) > 1
        else []
    )
    parts = [(dataset, c, sums[dataset][c]) for dataset in sorted(sums) for c in CONDITIONS if c in sums[dataset]]
    return [Trade(dataset, c, int(n), abstained / n, wrong / n) for dataset, c, (n, abstained, wrong) in parts + whole if n]


@dataclass(frozen=True)
class Outcomes:
    """How many items of a dataset each arm got better; the ties by whether both were right, both wrong, or between."""

    dataset: str
    won: int
    lost: int
    both_full: int
    both_zero: int
    tied_between: int


def outcomes(pairs: Pairs, entries: Iterable[int], metric: str, direction: int) -> list[Outcomes]:
    """Won, lost and tied items per dataset, by `metric`; `direction` is +1 where more is better, else -1."""
    control, treatment = (pairs.arms[c].metrics.get(metric) for c in CONDITIONS)
    counts: dict[str, list[int]] = {}
    if control is None or treatment is None:
        return []
    for i in entries:
        a, b = control[i], treatment[i]
        if a is None or b is None:
            continue
        cell = counts.setdefault(pairs.datasets[i], [0] * 5)
        change = (b - a) * direction
        good, bad = (1, 0) if direction > 0 else (0, 1)
        cell[0 if change > 0 else 1 if change < 0 else 2 if a == good else 3 if a == bad else 4] += 1
    return [Outcomes(d, *counts[d]) for d in sorted(counts)]


def power(effect: float, se: float) -> float:
    """Chance that a two-sided test of level 5% rejects 0 when the true effect is `effect` and its standard error `se`.

    Normal approximation (Lachin 1981), as in the minimum detectable effect, which therefore lies on this curve at 80%.
    """
    from scipy import special  # not scipy.stats, whose import takes a second

    critical, shift = float(special.ndtri(0.975)), effect / se
    return float(special.ndtr(shift - critical) + special.ndtr(-shift - critical))


def is_graded(pairs: Pairs, entries: Iterable[int], metric: str) -> bool:
    """True where some item's difference in `metric` is neither 0 nor a full point, so that a histogram has a shape."""
    differences = pairs.differences(metric)
    return any(d is not None and d not in (-1, 0, 1) for d in map(differences.__getitem__, entries))
