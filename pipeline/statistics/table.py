"""Reads per_item_scores.csv into paired columns: control and treatment of one item stand at one index."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ManifestError
from pipeline.statistics.settings import Temp

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TEXT = ("item_key", "type", "condition", "temp", "dataset", "cluster")
COUNTS = ("n", "failed", "truncated", "refused")
CONDITIONS = ("control", "treatment")
_CHUNK = 8192


@dataclass(frozen=True)
class Metric:
    """One metric, paired: means over replicates and their standard deviations (NaN where undefined), each of shape (n,)."""

    control: Floats
    treatment: Floats
    control_sd: Floats
    treatment_sd: Floats


@dataclass(frozen=True)
class Unpaired:
    """A row whose item the other arm lacks."""

    condition: str
    item_key: str
    type: str
    temp: Temp


@dataclass(frozen=True)
class ScoreTable:
    """Paired scores. Arrays have one entry per item x type x temperature (n); counts have shape (2, n): control, treatment.

    `dataset` and `cluster` are codes into `datasets` and `clusters`; a cluster is named `<dataset>|<cluster>`.
    """

    item_key: list[str]
    type: NDArray[np.str_]
    temp: Ints
    temps: tuple[Temp, ...]
    dataset: Ints
    datasets: tuple[str, ...]
    cluster: Ints
    clusters: list[str]
    metrics: dict[str, Metric]
    k: Ints
    failed: Ints
    truncated: Ints
    refused: Ints
    confidence: Floats
    unpaired: list[Unpaired]

    def __len__(self) -> int:
        return len(self.item_key)


class _Numbers(dict[str, float]):
    """Text to float, remembered: score files repeat few distinct numbers."""

    def __missing__(self, text: str) -> float:
        value = float(text) if text else float("nan")
        if text and not np.isfinite(value):
            raise ValueError(text)
        if len(self) < 200_000:
            self[text] = value
        return value


def read_scores(path: str | Path) -> ScoreTable:
    """Read and pair a score file. Items that only one arm has are reported in `unpaired`, not compared.

    Raises ManifestError naming file, line and column where a cell is missing or no number, or a row stands twice.
    """
    text, numbers = _read_columns(Path(path))
    condition = text["condition"]
    if strange := set(condition) - set(CONDITIONS):
        raise ManifestError(f"condition {min(strange)!r} is neither control nor treatment", where=str(path))
    arms = [np.flatnonzero(np.array([c == name for c in condition], dtype=bool)) for name in CONDITIONS]
    control, treatment, unpaired = _pair(text, arms, Path(path))
    keys = text["item_key"]
    pick = [keys[i] for i in control]
    temp, temps = _codes([text["temp"][i] for i in control])
    dataset, datasets = _codes([text["dataset"][i] or pick[j].partition("|")[0] for j, i in enumerate(control)])
    # An item without a cluster is its own; the data set is part of the name, so that equal names in two sets stay two clusters.
    names = [f"{d}|{c}" if (c := text["cluster"][i]) else key for i, d, key in zip(control, map(datasets.__getitem__, dataset), pick, strict=True)]
    cluster, clusters = _codes(names)

    def both(name: str) -> Floats:
        column = numbers[name]
        return np.stack([column[control], column[treatment]])

    def counts(name: str, default: int) -> Ints:
        if name not in numbers:
            return np.full((2, len(control)), default, dtype=np.int64)
        return np.nan_to_num(both(name), nan=default).astype(np.int64)

    metrics = {
        name: Metric(*both(name), *both(f"{name}_std")) for name in numbers if f"{name}_std" in numbers
    }
    confidence = both("confidence") if "confidence" in numbers else np.full((2, len(control)), np.nan)
    return ScoreTable(
        pick, np.array([text["type"][i] for i in control], dtype=str), temp, tuple(_temp(t) for t in temps), dataset, tuple(datasets),
        cluster, clusters, metrics, counts("n", 1), counts("failed", 0), counts("truncated", 0), counts("refused", 0), confidence, unpaired,
    )  # fmt: skip


def _temp(text: str) -> Temp:
    if text in ("", "default"):
        return "default"
    return float(text)


def _codes(values: Sequence[str]) -> tuple[Ints, list[str]]:
    """Codes by first appearance, and the names they stand for."""
    index: dict[str, int] = {}
    codes = np.fromiter((index.setdefault(v, len(index)) for v in values), dtype=np.int64, count=len(values))
    return codes, list(index)


def _read_columns(path: Path) -> tuple[dict[str, list[str]], dict[str, Floats]]:
    memo, intern = _Numbers(), dict[str, str]()
    with open(path, encoding="utf-8", newline="") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        if lacking := [c for c in TEXT[:4] if c not in header]:
            raise ManifestError(f"no column {lacking[0]!r}", where=f"{path}:1", remedy="Re-run the score step.")
        text: dict[str, list[str]] = {name: [] for name in TEXT}
        packed: dict[str, array[float]] = {name: array("d") for name in header if name not in TEXT}
        first = 2
        while rows := list(islice(reader, _CHUNK)):
            for offset, row in enumerate(rows):
                if len(row) != len(header):
                    raise ManifestError(f"{len(row)} cells where the header has {len(header)}", where=f"{path}:{first + offset}")
            for name, column in zip(header, zip(*rows, strict=True), strict=True):
                if name in text:
                    text[name].extend(column if name == "item_key" else [intern.setdefault(v, v) for v in column])
                else:
                    _append(packed[name], column, memo, f"{path}:{{}} ({name})", first)
            first += len(rows)
    size = len(text["item_key"])
    for name in TEXT:
        text[name] = text[name] or [""] * size
    return text, {name: np.frombuffer(values, dtype=np.float64) if size else np.empty(0) for name, values in packed.items()}


def _append(target: array[float], column: Iterable[str], memo: _Numbers, where: str, first: int) -> None:
    known = len(target)
    try:
        target.extend(map(memo.__getitem__, column))
    except ValueError:
        at = len(target) - known
        cell = list(column)[at]
        raise ManifestError(f"{cell!r} is not a finite number", where=where.format(first + at), remedy="Re-run the score step.") from None


def _pair(text: dict[str, list[str]], arms: list[Ints], path: Path) -> tuple[Ints, Ints, list[Unpaired]]:
    """Rows of control and of treatment that belong together, in control's order, and the rows that have no partner."""
    fields = [text["item_key"], text["type"], text["temp"]]
    keys = [list(zip(*([column[i] for i in rows] for column in fields), strict=True)) for rows in arms]
    places: list[dict[Any, int]] = []
    for rows, names in zip(arms, keys, strict=True):
        place = dict(zip(names, rows.tolist(), strict=True))
        if len(place) < len(names):
            seen: set[Any] = set()
            double = next(k for k in names if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise ManifestError(f"item {double[0]!r} ({double[1]}, temperature {double[2]}) stands twice in one condition", where=str(path))
        places.append(place)
    if keys[0] == keys[1]:
        return arms[0], arms[1], []
    first, second = places
    shared = [k for k in keys[0] if k in second]
    unpaired = [
        Unpaired(condition, k[0], k[1], _temp(k[2]))
        for condition, names, other in zip(CONDITIONS, keys, (second, first), strict=True)
        for k in names
        if k not in other
    ]
    pick: Any = (np.array([place[k] for k in shared], dtype=np.int64) for place in (first, second))
    control, treatment = pick
    return control, treatment, unpaired


TypeName = Literal["open", "closed", "all"]
