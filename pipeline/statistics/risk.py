"""Selective risk: how much an arm answers, and how much of that is wrong. A curve only where answers carry a confidence score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.statistics.table import CONDITIONS, ScoreTable

Floats = NDArray[np.float64]
POINTS = 20


def risk_rows(table: ScoreTable, rows: NDArray[np.intp], thresholds: tuple[float, ...]) -> list[dict[str, Any]]:
    """For each arm over `rows`: coverage, error among what was answered, and the risk-coverage curve; [] without `correct` (or `em`)."""
    name = next((m for m in ("correct", "em") if m in table.metrics), None)
    if name is None or not len(rows):
        return []
    result = []
    for arm, condition in enumerate(CONDITIONS):
        given, wrong = _given_and_wrong(table, name, rows, arm)
        covered = float(given.sum())
        row: dict[str, Any] = {
            "condition": condition, "n_items": len(rows), "coverage": covered / len(rows),
            "error": float(wrong.sum()) / covered if covered > 0 else None, "curve": None, "aurc": None, "at_risk": None,
        }  # fmt: skip
        confidence = table.confidence[arm, rows]
        answered = given > 0
        if answered.any() and np.isfinite(confidence[answered]).all():
            row |= _curve(given[answered], wrong[answered], confidence[answered], len(rows), thresholds)
        result.append(row)
    return result


def _given_and_wrong(table: ScoreTable, name: str, rows: NDArray[np.intp], arm: int) -> tuple[Floats, Floats]:
    """Per item: the share of its answers that are no abstention (nor failed, nor refused), and the share that are given and wrong."""

    def column(metric: str) -> Floats:
        values = table.metrics.get(metric)
        return np.full(len(rows), np.nan) if values is None else (values.treatment if arm else values.control)[rows]

    lost = (table.failed[arm, rows] + table.refused[arm, rows]) / np.maximum(table.k[arm, rows], 1)
    given = np.clip(1 - np.nan_to_num(column("abstain_rate")) - lost, 0, 1)
    # On an unanswerable item every answer is wrong; `correct` counts its abstentions there.
    unanswerable = np.isfinite(column("false_answer_rate"))
    wrong = np.where(unanswerable, given, np.clip(given - np.nan_to_num(column(name)), 0, 1))
    return given, wrong


def _curve(given: Floats, wrong: Floats, confidence: Floats, n: int, thresholds: tuple[float, ...]) -> dict[str, Any]:
    """Risk against coverage as the confidence asked for falls; equal confidence enters together (Geifman & El-Yaniv 2017)."""
    levels, code = np.unique(-confidence, return_inverse=True)
    answers = np.cumsum(np.bincount(code.reshape(-1), weights=given, minlength=len(levels)))
    coverage = answers / n
    risk = np.cumsum(np.bincount(code.reshape(-1), weights=wrong, minlength=len(levels))) / answers
    steps = np.diff(np.concatenate([[0.0], coverage]))
    shown = np.unique(np.searchsorted(coverage, coverage[-1] * np.arange(1, POINTS + 1) / POINTS - 1e-12).clip(0, len(levels) - 1))
    return {
        "curve": [{"coverage": float(coverage[i]), "error": float(risk[i])} for i in shown],
        "aurc": float((risk * steps).sum() / coverage[-1]),
        "at_risk": [{"error": r, "coverage": float(coverage[risk <= r].max(initial=0.0))} for r in thresholds],
    }
