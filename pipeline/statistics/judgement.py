"""Gathers the numbers that the verdict rules need from the primary comparison and its family, and words the verdict."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import Any

from pipeline.statistics.compare import Comparison
from pipeline.statistics.family import Family
from pipeline.statistics.planning import items_needed, upper_variance, z_sum
from pipeline.statistics.rows import ALPHA, LEVEL, decision_alpha, standard_error
from pipeline.statistics.settings import OUTCOMES, AnalysisSettings, TrialInfo
from pipeline.statistics.verdict import Evidence, Plan, Wording, decide, reversed_by

Bounds = tuple[float | None, float | None]


def judge(c: Comparison, family: Family, trial: TrialInfo, settings: AnalysisSettings) -> dict[str, Any]:
    """The object `verdict` of significance.json, without the place of its row."""
    p, info, effect = settings.primary, settings.metric(settings.primary.metric), c.effect
    sign = -1 if info.higher_is_better is False else 1

    def oriented(low: float | None, high: float | None) -> Bounds:
        low, high = (None if x is None or x != x else x for x in (low, high))
        return (low, high) if sign > 0 else (None if high is None else -high, None if low is None else -low)

    inner = oriented(*effect.interval(family.local_alpha(2 * settings.tost_alpha * p.share)))
    outer = oriented(*effect.interval(family.local_alpha(decision_alpha(settings))))
    missing = c.missing(settings.missing_outcomes, info, ALPHA)
    worst = oriented(missing["low"], missing["high"]) if missing["answers_control"] + missing["answers_treatment"] else (None, None)
    evidence = Evidence(
        sign * effect.value, *outer, *inner, p.margin, p.alternative, effect.informative, effect.informative_needed,
        effect.score, *worst, trial.unplanned_look, _plan(c, family, trial, settings),
    )  # fmt: skip
    levels = round(100 * LEVEL), round(100 * (1 - 2 * settings.tost_alpha))
    wording = Wording(trial.treatment, trial.control, p.metric, info.in_points, *levels, _sample(c), _decimals(evidence))
    verdict = decide(evidence, wording)
    plan = evidence.plan if verdict.verdict == "undecided" else None
    return {
        "verdict": verdict.verdict,
        "qualifier": verdict.qualifier,
        "rule": verdict.rule,
        "sentence": verdict.sentence,
        "reason": verdict.reason,
        "caveats": _caveats(c, evidence, settings, oriented),
        "metric": p.metric,
        "effect": evidence.effect,
        "low": evidence.low,
        "high": evidence.high,
        "inner_low": evidence.inner_low,
        "inner_high": evidence.inner_high,
        "margin": p.margin,
        "alternative": p.alternative,
        "n_items": len(c.index),
        "n_clusters": effect.sums.clusters,
        "informative_clusters": effect.informative,
        "informative_needed": effect.informative_needed,
        "detectable": plan.detectable if plan else None,
        "more_items": plan.more_items if plan else None,
        "more_usd": plan.more_usd if plan else None,
    }


def _sample(c: Comparison) -> str:
    clusters = c.effect.sums.clusters
    items = f"{len(c.index):,} item{'' if len(c.index) == 1 else 's'}"
    return items if c.effect.sums.singletons else f"{items} in {clusters:,} cluster{'' if clusters == 1 else 's'}"


def _decimals(e: Evidence) -> int:
    """One decimal of a point, or as many more as a narrow interval needs."""
    width = 100 * (e.high - e.low) if e.high is not None and e.low is not None else 1.0
    return min(4, max(1, 1 - floor(log10(width)))) if width > 0 else 1


def _plan(c: Comparison, family: Family, trial: TrialInfo, settings: AnalysisSettings) -> Plan | None:
    """Items for 80% power at the margin (or, without one, at the nearest round effect below what this run can detect)."""
    se, df, n = standard_error(c.effect), c.effect.df, len(c.index)
    if not (se > 0 and df > 0):
        return None
    margin = settings.primary.margin
    d = margin if margin is not None else _round_below(z_sum() * se)
    critical = family.critical(decision_alpha(settings))
    needed = items_needed(d, upper_variance(se**2 * n, df), critical=critical if critical == critical else None)
    more = max(0, needed - n)
    return Plan(d, more, None if trial.usd_per_item is None else ceil(more * trial.usd_per_item * 100) / 100)


def _round_below(x: float) -> float:
    """The largest of 1, 2, 5 times a power of ten below x."""
    power = floor(log10(x))
    return max(float(f"{m}e{e}") for e in (power - 1, power) for m in (1, 2, 5) if float(f"{m}e{e}") < x)


def _caveats(c: Comparison, evidence: Evidence, settings: AnalysisSettings, oriented: Any) -> list[str]:
    found = list(c.effect.warnings) if c.effect.testable else []
    info = settings.metric(settings.primary.metric)
    everything = c.missing(OUTCOMES, info, ALPHA)
    if reversed_by(evidence, *oriented(everything["low"], everything["high"])):
        count = everything["answers_control"] + everything["answers_treatment"]
        found.append(
            f"Rests on counting {count:,} failed, truncated or refused answers as wrong: otherwise it could be the other way round."
        )
    if info.higher_is_better is None:
        found.append(f"{settings.primary.metric} has no good direction; more counts as better here.")
    return found
