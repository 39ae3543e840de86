"""One row of significance.json: everything that is said of one metric over one set of items."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from pipeline.statistics.compare import Comparison
from pipeline.statistics.effect_sizes import effect_sizes
from pipeline.statistics.paired import MIN_CLUSTERS, Effect
from pipeline.statistics.planning import z_sum
from pipeline.statistics.proportions import mcnemar
from pipeline.statistics.resampling import bootstrap_t, sign_flip
from pipeline.statistics.settings import OUTCOMES, AnalysisSettings, MetricInfo, Temp

LEVEL = 0.95
ALPHA = 1 - LEVEL


def decision_alpha(settings: AnalysisSettings) -> float:
    """One less the level of the two-sided interval that decides: with alternative `greater` both its ends are one-sided 95% bounds.

    Planned looks share it evenly (Bonferroni), so that the intervals of all of them hold together.
    """
    return (2 * ALPHA if settings.primary.alternative == "greater" else ALPHA) * settings.primary.share


def row(c: Comparison, settings: AnalysisSettings, temp: Temp, type_: str, dataset: str, *, checks: bool) -> dict[str, Any]:
    """The row of comparison `c`. `checks`: also the resampling checks and effect sizes (left out of the rows of single datasets)."""
    effect, info = c.effect, settings.metric(c.name)
    low, high = effect.interval(ALPHA)
    difference = np.round(c.difference, 12)
    won, lost = int(np.count_nonzero(difference > 0)), int(np.count_nonzero(difference < 0))
    rng = np.random.default_rng([settings.random_seed, crc32(f"{temp}|{type_}|{c.name}|{dataset}".encode())])
    pairs = effect.pairs
    flips = checks and settings.enable_permutation and not pairs
    permutation = sign_flip(effect.sums, settings.permutation_samples, rng) if flips else None
    boot = bootstrap_t(effect.sums, settings.bootstrap_samples, ALPHA, rng) if checks else None
    exact, mid = mcnemar(effect.won, effect.lost)
    return {
        "temp": temp, "type": type_, "metric": c.name, "dataset": dataset, "role": "exploratory",
        "n_items": len(c.index), "n_clusters": effect.sums.clusters, "informative_clusters": effect.sums.informative,
        "k": float(c.k.mean()), "control_mean": float(c.control.mean()), "treatment_mean": float(c.treatment.mean()),
        "effect": effect.value,
        "higher_is_better": info.higher_is_better, "in_points": info.in_points, "se": effect.se, "df": effect.df,
        "ci_low": low, "ci_high": high, "ci_method": effect.method if np.isfinite(low) else None,
        "p_value": effect.p_value() if effect.testable else None, "p_method": effect.method if effect.testable else None, "q_value": None,
        "simultaneous_low": None, "simultaneous_high": None, "won": won, "lost": lost, "tied": len(c.index) - won - lost,
        "within_variance_control": c.within_variance(0), "within_variance_treatment": c.within_variance(1),
        "design_effect": _design_effect(c),
        "mcnemar": {"won": effect.won, "lost": effect.lost, "exact_p": exact, "mid_p": mid} if pairs and effect.testable else None,
        "permutation": vars(permutation) if permutation and effect.testable else None,
        "bootstrap_t": vars(boot) if boot and effect.sums.informative >= MIN_CLUSTERS else None,
        "equivalence": equivalence(effect, settings, c.name, info),
        "bounds": {"failed": c.missing(("failed",), info, ALPHA), "unanswered": c.missing(OUTCOMES, info, ALPHA)},
        "effect_sizes": effect_sizes(c.control, c.treatment) if checks and c.graded else None,
        "mde": standard_error(effect) * z_sum() if standard_error(effect) > 0 else None,
        "warnings": effect.warnings,
    }  # fmt: skip


def standard_error(effect: Effect) -> float:
    """The standard error; for the score interval, which has none, half its width over 1.96 (positive without any discordant pair)."""
    if effect.score:
        low, high = effect.interval(ALPHA)
        return (high - low) / 2 / 1.959963984540054
    return effect.se if np.isfinite(effect.se) else 0.0


def equivalence(effect: Effect, settings: AnalysisSettings, metric: str, info: MetricInfo) -> dict[str, Any] | None:
    """Two one-sided tests against the metric's margin (Schuirmann 1987), and non-inferiority on the side that is bad for the metric.

    None without a margin, or where too few clusters differ: identical answers to a few items are no evidence of equivalence.
    """
    margin = settings.margin(metric)
    if margin is None or not effect.testable:
        return None
    alpha = settings.tost_alpha
    above, below = effect.p_above(-margin), effect.p_below(margin)
    low, high = effect.interval(2 * alpha)
    bad_side = below if info.higher_is_better is False else above
    return {
        "margin": margin, "alpha": alpha, "p_lower": above, "p_upper": below,
        "p_value": max(above, below), "equivalent": max(above, below) < alpha,
        "not_inferior_p": bad_side, "not_inferior": bad_side < alpha, "low": low, "high": high,
    }  # fmt: skip


def _design_effect(c: Comparison) -> float | None:
    n = len(c.index)
    naive = float(np.var(c.difference, ddof=1)) / n if n > 1 else 0.0
    return c.effect.se**2 / naive if naive > 0 and c.effect.se > 0 else None
