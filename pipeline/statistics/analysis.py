"""Turns the paired scores of a family of trials into the significance.json document of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError
from pipeline.statistics.compare import Comparison
from pipeline.statistics.family import Family, Member, benjamini_hochberg
from pipeline.statistics.judgement import judge
from pipeline.statistics.pooling import pool
from pipeline.statistics.ratio import usd_per_correct
from pipeline.statistics.risk import risk_rows
from pipeline.statistics.rows import ALPHA, LEVEL, decision_alpha, row
from pipeline.statistics.sensitivity import sensitivity
from pipeline.statistics.settings import OUTCOMES, AnalysisSettings, Temp, TrialInfo
from pipeline.statistics.subgroups import interaction
from pipeline.statistics.table import CONDITIONS, ScoreTable

Index = NDArray[np.intp]
SCHEMA_VERSION = 2


def analyse(tables: Mapping[str, ScoreTable], trials: Mapping[str, TrialInfo], settings: AnalysisSettings, focus: str) -> dict[str, Any]:
    """The significance.json document (schema `significance`) of trial `focus`.

    `tables` and `trials` hold, by trial name, all trials of the primary family, so that their simultaneous intervals agree; any
    order gives the same document. Raises ConfigError where the declared primary comparison cannot be made.
    """
    table, trial = tables[focus], trials[focus]
    temp = primary_temperature(table, settings)
    role = "primary" if is_primary(trial, settings) else "exploratory"
    family_names = sorted(n for n in tables if is_primary(trials[n], settings)) if role == "primary" else [focus]
    comparisons = {n: c for n in family_names if (c := _primary_comparison(tables[n], settings, temp, must=n == focus)) is not None}
    family = Family([Member(c.effect, c.cluster_names) for c in comparisons.values()], settings.random_seed)
    rows = _rows(table, settings)
    primary_row = next(r for r in rows if _is_primary_row(r, settings, temp))
    alpha = decision_alpha(settings)
    local = family.local_alpha(alpha)
    if role == "primary":
        primary_row["role"] = "primary"
        primary_row["simultaneous_low"], primary_row["simultaneous_high"] = comparisons[focus].effect.interval(local)
    fdr = _false_discoveries(rows, tables, trials, settings, temp, focus) if settings.enable_fdr else None
    primary = comparisons[focus]
    p = settings.primary
    document = {
        "schema_version": SCHEMA_VERSION,
        "trial": trial.name,
        "contrast": {"name": trial.contrast, "control": trial.control, "treatment": trial.treatment},
        "model": trial.model,
        "settings": {
            "confidence_level": LEVEL,
            "bootstrap_samples": settings.bootstrap_samples,
            "permutation_samples": settings.permutation_samples,
            "random_seed": settings.random_seed,
            "enable_permutation": settings.enable_permutation,
            "enable_fdr": settings.enable_fdr,
            "risk_thresholds": list(settings.risk_thresholds),
            "tost_alpha": settings.tost_alpha,
            "tost_margins": dict(settings.tost_margins),
            "missing_outcomes": list(settings.missing_outcomes),
            "robustness": settings.robustness,
            "usd_per_correct": settings.usd_per_correct,
        },
        "primary": {
            "metric": p.metric,
            "type": p.type,
            "temperature": temp,
            "alternative": p.alternative,
            "margin": p.margin,
            "looks": list(p.looks),
            "role": role,
            "declared": p.declared,
        },
        "verdict": {**judge(primary, family, trial, settings), "role": role, "type": p.type, "temp": temp},
        "rows": rows,
        "family": {
            "method": family.method,
            "level": 1 - alpha / p.share,
            "critical_value": family.critical(alpha),
            "members": [_member(trials[name], comparisons[name], family, settings) for name in comparisons],
        },
        "fdr": fdr,
        "risk": _risk(table, settings),
        "subgroups": [
            {**interaction(primary, f, groups, ALPHA), "type": p.type, "temp": temp} for f, groups in sorted(trial.groups.items())
        ],
        "pooled": _pooled(primary),
        "usd_per_correct": _usd(primary, trial, settings),
        "sensitivity": sensitivity(table, trial.support, settings, ALPHA) if trial.support else None,
        "robustness": _robustness(primary, settings),
        "answers": {condition: _answers(table, arm) for arm, condition in enumerate(CONDITIONS)},
        "unpaired": _unpaired(table),
        "notes": _notes(table, settings, role) + [_absent(n) for n in family_names if n not in comparisons],
    }
    cleaned: dict[str, Any] = _clean(document)
    return cleaned


def is_primary(trial: TrialInfo, settings: AnalysisSettings) -> bool:
    """Whether the trial's contrast is among the declared primary ones (all, where none are named)."""
    return settings.primary.contrasts is None or trial.contrast in settings.primary.contrasts


def primary_temperature(table: ScoreTable, settings: AnalysisSettings) -> Temp:
    """The declared temperature, else the table's first. Raises ConfigError where the scores do not have it."""
    if not table.temps:
        raise ConfigError("no item has a score in both arms", where="primary", remedy="Look at the failed requests of both arms.")
    wanted = settings.primary.temperature
    if wanted is None:
        return table.temps[0]
    if wanted not in table.temps:
        raise ConfigError(
            f"no scores at temperature {wanted}", where="primary.temperature", remedy=f"There are {', '.join(map(str, table.temps))}."
        )
    return wanted


def _select(table: ScoreTable, temp: Temp, type_: str) -> Index:
    keep = table.temp == table.temps.index(temp)
    return np.flatnonzero(keep if type_ == "all" else keep & (table.type == type_))


def _primary_comparison(table: ScoreTable, settings: AnalysisSettings, temp: Temp, *, must: bool) -> Comparison | None:
    """The declared comparison of one trial. Where it cannot be made: ConfigError if it `must`, else None."""
    p = settings.primary
    known = p.metric in table.metrics and temp in table.temps
    found = Comparison.of(table, p.metric, _select(table, temp, p.type)) if known else None
    if found is not None or not must:
        return found
    if p.metric not in table.metrics:
        raise ConfigError(f"no metric {p.metric!r}", where="primary.metric", remedy=f"There are {', '.join(table.metrics)}.")
    remedy = "Set primary.type to the items there are, or choose a metric that is defined for them."
    raise ConfigError(f"no {p.type} item at temperature {temp} has metric {p.metric!r} in both arms", where="primary", remedy=remedy)


def _is_primary_row(r: Mapping[str, Any], settings: AnalysisSettings, temp: Temp) -> bool:
    p = settings.primary
    return bool(r["metric"] == p.metric and r["type"] == p.type and r["temp"] == temp and r["dataset"] == "all")


def _rows(table: ScoreTable, settings: AnalysisSettings) -> list[dict[str, Any]]:
    """Rows by temperature, type, metric and dataset: over all datasets first, then each."""
    found = []
    types = [t for t in ("open", "closed") if (table.type == t).any()]
    for temp in table.temps:
        whole: dict[tuple[str, str], dict[str, Any]] = {}
        for type_ in ("all", *types):
            index = _select(table, temp, type_)
            if not len(index):
                continue
            sets: list[tuple[str, Index]] = [("all", index)]
            if len(table.datasets) > 1:
                sets += [(name, rows) for d, name in enumerate(table.datasets) if len(rows := index[table.dataset[index] == d])]
            for metric in table.metrics:
                for dataset, rows in sets:
                    if type_ != "all" and len(types) == 1:  # the same items as `all`
                        if (metric, dataset) in whole:
                            found.append({**whole[metric, dataset], "type": type_})
                        continue
                    if (c := Comparison.of(table, metric, rows)) is None:
                        continue
                    made = row(c, settings, temp, type_, dataset, checks=dataset == "all")
                    found.append(made)
                    whole[metric, dataset] = made
    return found


def _false_discoveries(
    rows: list[dict[str, Any]],
    tables: Mapping[str, ScoreTable],
    trials: Mapping[str, TrialInfo],
    settings: AnalysisSettings,
    temp: Temp,
    focus: str,
) -> dict[str, Any] | None:
    """Benjamini-Hochberg over contrasts x metrics at the primary type and temperature; sets `q_value` in the rows of `focus`."""
    tests: list[tuple[str, str, float]] = []
    for name in sorted(tables):
        table = tables[name]
        if temp not in table.temps:
            continue
        index = _select(table, temp, settings.primary.type)
        for metric in table.metrics:
            if metric == settings.primary.metric and is_primary(trials[name], settings):
                continue
            c = Comparison.of(table, metric, index)
            if c is not None and c.effect.testable and np.isfinite(p := c.effect.p_value()):
                tests.append((name, metric, p))
    if not tests:
        return None
    q = dict(zip(((name, metric) for name, metric, _ in tests), benjamini_hochberg([p for *_, p in tests]), strict=True))
    for r in rows:
        if r["dataset"] == "all" and r["type"] == settings.primary.type and r["temp"] == temp:
            r["q_value"] = q.get((focus, r["metric"]))
    return {
        "method": "Benjamini-Hochberg", "tests": len(tests), "contrasts": len({name for name, *_ in tests}),
        "metrics": list(dict.fromkeys(metric for _, metric, _ in tests)),
    }  # fmt: skip


def _member(trial: TrialInfo, c: Comparison, family: Family, settings: AnalysisSettings) -> dict[str, Any]:
    low, high = c.effect.interval(family.local_alpha(decision_alpha(settings)))
    p = None
    if c.effect.testable:
        p = family.adjusted(c.effect.p_value())
        if settings.primary.alternative == "greater":
            lower_is_better = settings.metric(c.name).higher_is_better is False
            one_sided = c.effect.p_below(0.0) if lower_is_better else c.effect.p_above(0.0)
            p = p / 2 if one_sided < 0.5 else one_sided
        p = min(1.0, p / settings.primary.share)
    names = {"trial": trial.name, "contrast": trial.contrast, "model": trial.model}
    return names | {"effect": c.effect.value, "low": low, "high": high, "p_value": p}


def _risk(table: ScoreTable, settings: AnalysisSettings) -> list[dict[str, Any]]:
    types = [t for t in ("open", "closed") if (table.type == t).any()]
    return [
        {"temp": temp, "type": type_, **point}
        for temp in table.temps
        for type_ in ("all", *(types if len(types) > 1 else []))
        for point in risk_rows(table, _select(table, temp, type_), settings.risk_thresholds)
    ]


def _pooled(primary: Comparison) -> dict[str, Any] | None:
    dataset = primary.table.dataset[primary.index]
    present = np.unique(dataset)
    return pool([primary.effect_of(dataset == d) for d in present], ALPHA) if len(present) > 1 else None


def _usd(primary: Comparison, trial: TrialInfo, settings: AnalysisSettings) -> dict[str, Any] | None:
    """None without prices, and for a primary metric that does not tell which share of the answers is good."""
    info = settings.metric(primary.name)
    if trial.item_usd is None or not (info.in_points and info.higher_is_better):
        return None
    pairs = [trial.item_usd.get(primary.table.item_key[i]) for i in primary.index]
    priced = np.array([p is not None for p in pairs])
    if not priced.any():
        return None
    cost = np.array([p[1] - p[0] for p in pairs if p is not None])
    cluster = primary.table.cluster[primary.index][priced]
    return usd_per_correct(cost, primary.difference[priced], cluster, ALPHA, metric=primary.name, binary=primary.binary)


def _robustness(primary: Comparison, settings: AnalysisSettings) -> list[dict[str, Any]]:
    if not settings.robustness:
        return []
    from pipeline.statistics.robust import gee, mixed  # statsmodels is an extra

    return [found for model in (gee, mixed) if (found := model(primary)) is not None]


def _answers(table: ScoreTable, arm: int) -> dict[str, int]:
    return {"answers": int(table.k[arm].sum())} | {o: int(getattr(table, o)[arm].sum()) for o in OUTCOMES}


def _unpaired(table: ScoreTable) -> dict[str, Any]:
    counts = {c: sum(u.condition == c for u in table.unpaired) for c in CONDITIONS}
    return {**counts, "examples": [f"{u.item_key} ({u.type}, temperature {u.temp}): only in {u.condition}" for u in table.unpaired[:5]]}


def _notes(table: ScoreTable, settings: AnalysisSettings, role: str) -> list[str]:
    notes = ["Exploratory rows were not declared beforehand: q-values hold over contrasts x metrics, other p-values are unadjusted."]
    if not settings.primary.declared:
        notes.append("The config declares no primary comparison: the defaults stand for it.")
    if looks := settings.primary.looks:
        notes.append(
            f"{len(looks)} looks were planned, at {', '.join(f'{n:,}' for n in looks)} items: the intervals that decide and the adjusted "
            f"p-values of the family hold over all of them together (Bonferroni: each look has 1/{len(looks)} of the level)."
        )
    if role == "exploratory":
        notes.append("This contrast is not among the declared primary ones: its verdict is exploratory.")
    if settings.metric(settings.primary.metric).higher_is_better is None:
        notes.append(f"Metric {settings.primary.metric} has no good direction: more counts as better in the verdict.")
    if table.unpaired:
        notes.append(f"{len(table.unpaired)} rows have no partner in the other arm and are left out of the comparison.")
    if table.k.max(initial=1) > 1:
        notes.append("Replicates are averaged within item and arm first: several answers to an item are not several items.")
    return notes


def _absent(trial: str) -> str:
    return f"Trial {trial} lacks the primary comparison and is left out of the family."


def _clean(value: Any) -> Any:
    """JSON values: 10 significant digits, so that the last bits of a sum do not show; no number as null."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        if not np.isfinite(value):
            return None
        short = float(f"{value:.10g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return int(value) if isinstance(value, np.integer) else value
