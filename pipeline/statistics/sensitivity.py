"""How the unsupported rate depends on the rule behind it: the effect over a grid of thresholds and overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from pipeline.statistics.compare import Comparison
from pipeline.statistics.settings import AnalysisSettings, Counted, SupportCounts
from pipeline.statistics.table import Metric, ScoreTable

METRIC = "unsupported_rate"


def unsupported_rate(answers: Sequence[Counted], threshold: float, overlap: float) -> float:
    """Share of the answers of whose tokens less than `overlap` are in the passage; 0 where the share of abstentions reaches `threshold`."""
    abstained = answers.count(None)
    if abstained and abstained / len(answers) >= threshold:
        return 0.0
    return sum(counted is not None and counted[0] < overlap * counted[1] for counted in answers) / len(answers)


def sensitivity(table: ScoreTable, support: SupportCounts, settings: AnalysisSettings, alpha: float) -> dict[str, Any]:
    """The object `sensitivity` of significance.json: a row per `threshold` and `min_token_overlap`, the configured ones among them.

    The rule `baseline` asks for the whole answer, so it has no overlap to vary; a threshold matters only with several answers per item.
    """
    grid = settings.unsupported_sensitivity or {}
    by_overlap = support.strategy == "overlap"
    configured = support.min_token_overlap if by_overlap else 1.0
    thresholds = sorted({support.threshold, *grid.get("threshold", ())})
    overlaps = sorted({configured, *(grid.get("min_token_overlap", ()) if by_overlap else ())})
    at = table.temps.index(support.temp)
    rows = np.array([i for i, key in enumerate(table.item_key) if table.temp[i] == at and key in support.answers], dtype=np.intp)
    found: list[dict[str, Any]] = []
    for threshold, overlap in product(thresholds, overlaps):
        values = np.full((2, len(table)), np.nan)
        for i in rows:
            values[:, i] = [unsupported_rate(answers, threshold, overlap) for answers in support.answers[table.item_key[i]]]
        nan = np.full(len(table), np.nan)
        c = Comparison.of(replace(table, metrics={METRIC: Metric(values[0], values[1], nan, nan)}), METRIC, rows)
        if c is None:
            continue
        low, high = c.effect.interval(alpha)
        found.append({
            "threshold": threshold, "min_token_overlap": overlap if by_overlap else None,
            "configured": (threshold, overlap) == (support.threshold, configured), "n_items": len(c.index),
            "control_mean": float(c.control.mean()), "treatment_mean": float(c.treatment.mean()),
            "effect": c.effect.value, "ci_low": low, "ci_high": high,
        })  # fmt: skip
    return {"metric": METRIC, "strategy": support.strategy, "temp": support.temp, "rows": found}
