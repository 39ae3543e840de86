"""The paired difference between one arm of a run and the same arm of another, on the items that both asked."""

from __future__ import annotations

import csv
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.digests import digest
from pipeline.base.errors import AbidingError
from pipeline.base.rows import Item, read_rows
from pipeline.base.schemas import read_document
from pipeline.layout import RunPaths, prepared_folder
from pipeline.statistics.compare import Comparison
from pipeline.statistics.rows import ALPHA
from pipeline.statistics.table import read_scores

Key = tuple[str, str, str]
"""(item_key, type, temp)"""


def item_digests(paths: RunPaths, root: Path) -> dict[tuple[str, str], str] | None:
    """(item key, type) -> digest of what was asked, from the run's prepared items; None where they are not at hand."""
    try:
        folder = prepared_folder(root, read_document(paths.build_manifest, "build_manifest")["prepared"])
        return {
            (item.key, kind): digest([item.question, item.context, item.answers, item.is_unanswerable, item.messages])
            for kind in ("open", "closed")
            for item in read_rows(folder / f"{kind}_book.jsonl", Item)
        }
    except (AbidingError, FileNotFoundError):
        return None


def arm_rows(scores: Path, condition: str) -> dict[Key, dict[str, str]]:
    """The rows of per_item_scores.csv of one condition, by item, type and temperature."""
    csv.field_size_limit(sys.maxsize)
    with open(scores, encoding="utf-8", newline="") as f:
        return {(row["item_key"], row["type"], row["temp"]): row for row in csv.DictReader(f) if row["condition"] == condition}


def paired(a: dict[Key, dict[str, str]], b: dict[Key, dict[str, str]], shared: list[Key]) -> Iterator[dict[str, Any]]:
    """For each metric and temperature: B - A over the shared items, with its 95% interval (the interval that the reports use)."""
    columns = [c for c in next(iter(a.values())) if c in next(iter(b.values()))]
    with tempfile.TemporaryDirectory(prefix="abiding-compare-") as folder:
        path = Path(folder) / "pairs.csv"
        with open(path, "w", encoding="utf-8", newline="") as f:
            writer = csv.DictWriter(f, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for condition, rows in (("control", a), ("treatment", b)):
                writer.writerows({**rows[key], "condition": condition} for key in shared)
        table = read_scores(path)
    for number, temp in enumerate(table.temps):
        index = np.flatnonzero(table.temp == number)
        for metric in table.metrics:
            found = Comparison.of(table, metric, index)
            if found is None:
                continue
            low, high = found.effect.interval(ALPHA)
            yield {
                "temp": temp,
                "metric": metric,
                "items": len(found.index),
                "clusters": found.effect.sums.clusters,
                "a": float(found.control.mean()),
                "b": float(found.treatment.mean()),
                "difference": found.effect.value,
                "low": low if math.isfinite(low) else None,
                "high": high if math.isfinite(high) else None,
                "method": found.effect.method if math.isfinite(low) else None,
                "warnings": found.effect.warnings,
            }
