"""per_item_scores.csv, read once into columns: one entry per item, type and temperature, both arms side by side."""

from __future__ import annotations

import csv
import functools
import operator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import ManifestError

_PLACE = ("item_key", "type", "temp", "condition")
_COUNTS = ("n", "failed", "truncated", "refused", "confidence")
_NOT_METRICS = {*_PLACE, *_COUNTS, "dataset", "cluster"}
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


@functools.cache
def temp_text(temp: str) -> str:
    """One spelling per temperature: `0` for `0.0`."""
    return temp if temp == "default" else f"{float(temp):g}"


class _Numbers(dict[str, float | None]):
    """Cells as numbers, an empty one as None. Scores repeat: each distinct text is converted once."""

    def __missing__(self, text: str) -> float | None:
        self[text] = value = float(text) if text and text != "default" else None
        return value


def read_pairs(path: Path) -> Pairs:
    """Read the scores of both arms. Raises ManifestError where a needed column is missing or a row is no row of scores."""
    with open(path, encoding="utf-8", newline="") as f:
        reader = csv.reader(f)
        at = {name: i for i, name in enumerate(next(reader, []))}
        metrics = [m for m in at if m not in _NOT_METRICS and not m.endswith("_std")]
        for name in _PLACE:
            if name not in at or not metrics:
                raise ManifestError(f"column {name} or a metric is missing", where=f"{path}:1", remedy="Run the score step again.")
        numeric = [*metrics, *(c for c in _COUNTS if c in at)]
        place_of = operator.itemgetter(*(at[name] for name in _PLACE))
        cells_of = operator.itemgetter(*(at[m] for m in numeric), at["temp"])  # one more, so that it always gives a tuple
        dataset_at = at.get("dataset")
        pairs, known = Pairs(metrics), _Numbers()
        places: dict[tuple[str, str, str], int] = {}
        found: dict[str, dict[int, tuple[float | None, ...]]] = {c: {} for c in CONDITIONS}
        for row in reader:
            try:
                key, kind, temp, condition = place_of(row)
                index = places.setdefault((key, kind, temp), len(places))
                found[condition][index] = tuple(map(known.__getitem__, cells_of(row)))
            except (KeyError, IndexError, ValueError) as e:
                fact = f"not a row of scores: {e}"
                raise ManifestError(fact, where=f"{path}:{reader.line_num}", remedy="Run the score step again.") from e
            if index == len(pairs.keys):
                pairs.keys.append(key)
                pairs.types.append(kind)
                pairs.temps.append(temp)
                pairs.datasets.append(key.split("|", 1)[0] if dataset_at is None else row[dataset_at])
    pairs.arms = {c: _arm(found[c], len(pairs), numeric, metrics) for c in CONDITIONS}
    return pairs


def _arm(rows: dict[int, tuple[float | None, ...]], size: int, numeric: list[str], metrics: list[str]) -> Arm:
    nothing = (None,) * (len(numeric) + 1)
    columns = [list(column) for column in zip(*(rows.get(i, nothing) for i in range(size)), strict=True)]
    table = dict(zip(numeric, columns, strict=False))
    return Arm({m: table.get(m, []) for m in metrics}, *(table.get(c, [None] * size) for c in _COUNTS))
