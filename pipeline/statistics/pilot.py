"""What a pilot run says about the run to come: variance between and within items, and what clusters cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.base.errors import UsageError
from pipeline.statistics.compare import Comparison
from pipeline.statistics.planning import Components, upper_variance
from pipeline.statistics.settings import Temp
from pipeline.statistics.table import ScoreTable


@dataclass(frozen=True)
class Pilot:
    """`parts`: variance components of a paired difference, the total at its upper 80% limit; `replicates_known`: K > 1 told them apart."""

    items: int
    clusters: int
    replicates: float
    parts: Components
    replicates_known: bool
    design_effect: float


def read_pilot(table: ScoreTable, metric: str, type_: str = "all", temp: Temp | None = None) -> Pilot:
    """Measure a pilot. The observed effect is deliberately not used. Raises UsageError where it is too small or lacks the metric."""
    if metric not in table.metrics:
        raise UsageError(f"the pilot has no metric {metric!r}", where="--metric", remedy=f"It has {', '.join(table.metrics)}.")
    if not table.temps:
        raise UsageError("the pilot has no item with a score in both arms", where="--pilot")
    chosen = table.temps[0] if temp is None else temp
    if chosen not in table.temps:
        raise UsageError(
            f"no scores at temperature {chosen}", where="--temperature", remedy=f"There are {', '.join(map(str, table.temps))}."
        )
    keep = table.temp == table.temps.index(chosen)
    c = Comparison.of(table, metric, np.flatnonzero(keep if type_ == "all" else keep & (table.type == type_)))
    if c is None or c.effect.sums.clusters < 10:
        found = 0 if c is None else c.effect.sums.clusters
        raise UsageError(
            f"{found} clusters with metric {metric!r} are too few to plan from", where="--pilot", remedy="Run at least 10, better 50."
        )
    n = len(c.index)
    naive = float(np.var(c.difference, ddof=1))
    if not naive > 0:
        raise UsageError("all items of the pilot differ by the same amount, so it says nothing about their spread", where="--pilot",
                         remedy="Plan from assumptions: --discordance or --sd.")  # fmt: skip
    within = [c.within_variance(arm) for arm in (0, 1)]
    known = all(w is not None for w in within)
    k = float(c.k.mean())
    upper = upper_variance(naive, c.effect.df)
    parts = Components.of(upper, sum(w or 0.0 for w in within) if known else 0.0, k)
    robust = c.effect.se**2 * n / naive
    # Below 1 is chance: negative correlation inside clusters is not to be counted on.
    return Pilot(n, c.effect.sums.clusters, k, parts, known, max(1.0, robust))
