"""Score files and tables for the tests of statistics."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.statistics.table import ScoreTable, read_scores

_RATES = ("em", "f1", "abstain_rate", "false_answer_rate", "unsupported_rate")
COLUMNS = ["item_key", "type", "condition", "temp"]
COLUMNS += [column for rate in _RATES for column in (rate, f"{rate}_std")]
COLUMNS += ["dataset", "cluster", "correct", "correct_std", "n", "failed", "truncated", "refused", "confidence"]


def score_row(item: str, condition: str, correct: float, **cells: Any) -> dict[str, Any]:
    """One row of per_item_scores.csv; what is not given is empty, K is 1, the type closed, the temperature 0."""
    dataset, _, name = item.partition("|")
    row = dict.fromkeys(COLUMNS, "")
    row |= {"item_key": item, "type": "closed", "condition": condition, "temp": "0", "dataset": dataset, "cluster": name, "n": "1"}
    row |= {"failed": "0", "truncated": "0", "refused": "0", "correct": f"{correct:g}"}
    return row | {k: str(v) for k, v in cells.items()}


def write_scores(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as a score file."""
    with open(path, "w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]) if rows else COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def paired_rows(control: Any, treatment: Any, *, size: int = 1, **cells: Any) -> list[dict[str, Any]]:
    """Rows for arrays of `correct`, control first; items in clusters of `size`, alternately of data sets `a` and `b`."""
    rows = []
    for condition, values in (("control", control), ("treatment", treatment)):
        for i, value in enumerate(values):
            rows.append(score_row(f"{'ab'[i // size % 2]}|{i}", condition, value, cluster=f"p{i // size}", **cells))
    return rows


def table_of(tmp_path: Path, rows: list[dict[str, Any]], name: str = "scores.csv") -> ScoreTable:
    """Write and read back."""
    return read_scores(write_scores(tmp_path / name, rows))


def random_arms(n: int, seed: int, effect: float = 0.1, arms: int = 1) -> list[np.ndarray]:
    """0/1 scores of a control and `arms` treatments that share the items' difficulty."""
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0.2, 0.7, n)
    return [(rng.random(n) < chance).astype(float), *((rng.random(n) < chance + effect).astype(float) for _ in range(arms))]
