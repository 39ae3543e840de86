"""One comparison: the paired values of a metric over some items, and what follows from them item by item."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.paired import ClusterSums, Effect, Floats, Ints
from pipeline.statistics.settings import OUTCOMES, MetricInfo
from pipeline.statistics.table import ScoreTable


@dataclass(frozen=True)
class Comparison:
    """The items (`index` into the table) where metric `name` is defined in both arms, with their values, each of shape (n,)."""

    table: ScoreTable
    name: str
    index: NDArray[np.intp]
    control: Floats
    treatment: Floats

    @classmethod
    def of(cls, table: ScoreTable, name: str, rows: NDArray[np.intp]) -> Comparison | None:
        """The comparison over `rows` of the table; None where no item has the metric in both arms."""
        values = table.metrics[name]
        control, treatment = values.control[rows], values.treatment[rows]
        there = np.isfinite(control) & np.isfinite(treatment)
        if not there.any():
            return None
        if there.all():
            return cls(table, name, rows, control, treatment)
        return cls(table, name, rows[there], control[there], treatment[there])

    @cached_property
    def difference(self) -> Floats:
        """treatment - control."""
        return self.treatment - self.control

    @cached_property
    def k(self) -> Ints:
        """Replicates (2, n)."""
        return self.table.k[:, self.index]

    @cached_property
    def single(self) -> bool:
        """One answer per item and arm."""
        return bool(np.all(self.k == 1))

    @cached_property
    def graded(self) -> bool:
        """Single answers score other values than 0 and 1 (with replicates: their mean and spread are not those of 0s and 1s)."""
        values = self.table.metrics[self.name]
        for mean, sd, k in ((self.control, values.control_sd, self.k[0]), (self.treatment, values.treatment_sd, self.k[1])):
            if np.any((mean < 0) | (mean > 1)) or np.any(np.abs(mean * k - np.round(mean * k)) > 1e-6):
                return True
            many = k > 1
            spread = np.nan_to_num(sd[self.index][many]) ** 2
            if np.any(np.abs(spread - mean[many] * (1 - mean[many]) * k[many] / (k[many] - 1)) > 1e-6):
                return True
        return False

    @cached_property
    def binary(self) -> bool:
        """One answer per item, scored 0 or 1."""
        return self.single and not self.graded

    @cached_property
    def effect(self) -> Effect:
        """The effect over all these items."""
        return self.effect_of(None)

    def effect_of(self, keep: NDArray[np.bool_] | None) -> Effect:
        """The effect over the items that `keep` (n,) marks; None: all. At least one."""
        cluster = self.table.cluster[self.index]
        difference = self.difference
        if keep is not None:
            cluster, difference = cluster[keep], difference[keep]
        return Effect(ClusterSums.of(difference, cluster), self.binary)

    @cached_property
    def cluster_names(self) -> list[str]:
        """Names of the clusters, in the order of the sums."""
        return [self.table.clusters[i] for i in np.flatnonzero(np.bincount(self.table.cluster[self.index]))]

    def within_variance(self, arm: int) -> float | None:
        """Mean variance between replicates in arm 0 (control) or 1; None where no item has two."""
        values = self.table.metrics[self.name]
        sd = (values.treatment_sd if arm else values.control_sd)[self.index]
        there = np.isfinite(sd) & (self.k[arm] > 1)
        return float(np.mean(sd[there] ** 2)) if there.any() else None

    def missing(self, outcomes: tuple[str, ...], info: MetricInfo, alpha: float) -> dict[str, Any]:
        """Counts of answers with one of `outcomes`, the bounds of the effect over what they could have been, and the complete-case effect.

        In the scores such an answer counts as wrong: 0, or the nearest end of the metric's range.
        """
        seen = [getattr(self.table, o) for o in outcomes if o in OUTCOMES]
        lost = sum((counts[:, self.index] for counts in seen if counts.any()), np.zeros((2, 1), dtype=np.int64))
        low: float | None = None
        high: float | None = None
        if info.low is not None and info.high is not None:
            counted = min(max(0.0, info.low), info.high)
            down, up = counted - info.low, info.high - counted
            control, treatment = (float(x) for x in (lost / np.maximum(self.k, 1)).mean(axis=1)) if lost.any() else (0.0, 0.0)
            low = self.effect.value - treatment * down - control * up
            high = self.effect.value + treatment * up + control * down
        whole = np.broadcast_to(~lost.any(axis=0), len(self.index))
        found: dict[str, Any] = {
            "answers_control": int(lost[0].sum()),
            "answers_treatment": int(lost[1].sum()),
            "low": low,
            "high": high,
            "complete_case_items": int(whole.sum()),
        }
        cases = self.effect if whole.all() else self.effect_of(whole) if whole.any() else None
        interval = cases.interval(alpha) if cases else (None, None)
        complete = {
            "complete_case_effect": cases.value if cases else None,
            "complete_case_low": interval[0],
            "complete_case_high": interval[1],
        }
        return found | complete
