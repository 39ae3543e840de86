"""per_item_scores.csv, read once into columns: one entry per item, type and temperature, both arms side by side."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import ManifestError

_NOT_METRICS = {"item_key", "type", "condition", "temp", "dataset", "cluster", "n", "failed", "truncated", "refused", "confidence"}
CONDITIONS = ("control", "treatment")
Column = list[float | None]


@dataclass
class Arm:
    """One arm's scores, aligned with `Pairs.keys`; None where the arm has no value."""

    metrics: dict[str, Column]
    n: Column
    """Replicates behind each score."""
    failed: Column
    truncated: Column
    refused: Column
    confidence: Column


@dataclass
class Pairs:
    """All entries of a trial in file order. Entry i is `keys[i]` of `types[i]` at `temps[i]`."""

    metrics: list[str]
    """Metric names in the file's order, without their `_std` twins."""
    keys: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    temps: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    arms: dict[str, Arm] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def differences(self, metric: str) -> Column:
        """Treatment minus control per entry; None where either is missing or the metric is unknown."""
        if metric not in self.metrics:
            return [None] * len(self)
        control, treatment = (self.arms[c].metrics[metric] for c in CONDITIONS)
        return [None if a is None or b is None else b - a for a, b in zip(control, treatment, strict=True)]


def temp_text(temp: str) -> str:
    """One spelling per temperature: `0` for `0.0`."""
    return temp if temp == "default" else f"{float(temp):g}"


def read_pairs(path: Path) -> Pairs:
    """Read the scores of both arms. Raises ManifestError where a needed column is missing or a cell is no number."""
    with open(path, encoding="utf-8", newline="") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        missing = {"item_key", "type", "condition", "temp"} - set(header)
        if missing:
            raise ManifestError(f"column {sorted(missing)[0]} is missing", where=f"{path}:1", remedy="Run the score step again.")
        at = {name: i for i, name in enumerate(header)}
        metrics = [m for m in header if m not in _NOT_METRICS and not m.endswith("_std")]
        numeric = metrics + [m for m in ("n", "failed", "truncated", "refused", "confidence") if m in at]
        places: dict[tuple[str, str, str], int] = {}
        pairs = Pairs(metrics)
        found: dict[str, dict[int, list[float | None]]] = {c: {} for c in CONDITIONS}
        columns = [at[m] for m in numeric]
        dataset_at = at.get("dataset")
        for row in reader:
            place = (row[at["item_key"]], row[at["type"]], row[at["temp"]])
            index = places.setdefault(place, len(places))
            if index == len(pairs.keys):
                pairs.keys.append(place[0])
                pairs.types.append(place[1])
                pairs.temps.append(place[2])
                pairs.datasets.append(row[dataset_at] if dataset_at is not None else place[0].split("|", 1)[0])
            try:
                found[row[at["condition"]]][index] = [float(row[i]) if row[i] else None for i in columns]
            except (KeyError, ValueError) as e:
                raise ManifestError(
                    f"not a valid row of scores: {e}", where=f"{path}:{reader.line_num}", remedy="Run the score step again."
                ) from e
    nothing: list[float | None] = [None] * len(numeric)
    for condition in CONDITIONS:
        rows = [found[condition].get(i, nothing) for i in range(len(pairs))]
        table = dict(zip(numeric, map(list, zip(*rows, strict=True)), strict=True)) if rows else {m: [] for m in numeric}
        pairs.arms[condition] = Arm(
            {m: table[m] for m in metrics},
            *(table.get(m, [None] * len(pairs)) for m in ("n", "failed", "truncated", "refused", "confidence")),
        )
    return pairs
