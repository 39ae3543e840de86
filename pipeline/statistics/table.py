"""Reads per_item_scores.csv into paired columns: control and treatment of one item stand at one index."""

from __future__ import annotations

import csv
from array import array
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ManifestError
from pipeline.statistics.settings import Temp

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TEXT = ("item_key", "type", "condition", "temp", "dataset", "cluster")
CONDITIONS = ("control", "treatment")
_CHUNK = 256  # small enough that rows die young: the collector does not walk them
REMEDY = "Re-run the score step: doit run --from_step score."


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
    """Text to float, remembered: score files repeat few distinct numbers. An empty cell is NaN."""

    def __missing__(self, text: str) -> float:
        value = float(text) if text else float("nan")
        if text and not np.isfinite(value):
            raise ValueError(text)
        if len(self) < 200_000:
            self[text] = value
        return value


class _Codes(dict[str, float]):
    """Text to a number by first appearance."""

    def __missing__(self, text: str) -> float:
        self[text] = code = float(len(self))
        return code


def read_scores(path: str | Path) -> ScoreTable:
    """Read and pair a score file. Items that only one arm has are reported in `unpaired`, not compared.

    Raises ManifestError naming file, line and column where a cell is missing or no number, or a row stands twice.
    """
    try:
        columns, names = _read_columns(Path(path))
    except (UnicodeDecodeError, csv.Error) as e:
        raise ManifestError(f"not readable as CSV: {e}", where=str(path), remedy=REMEDY) from None
    conditions = names["condition"]
    if strange := [c for c in conditions if c not in CONDITIONS]:
        raise ManifestError(f"condition {strange[0]!r} is neither control nor treatment", where=str(path))
    codes = {name: columns[name].astype(np.int64) for name in TEXT if name in columns}
    arms = [np.flatnonzero(codes["condition"] == (conditions.index(c) if c in conditions else -1)) for c in CONDITIONS]
    control, treatment, alone = _pair(codes, names, arms, Path(path))
    keys = names["item_key"]
    temps = tuple(_temp(t) for t in names["temp"])
    unpaired = [
        Unpaired(c, keys[codes["item_key"][i]], names["type"][codes["type"][i]], temps[codes["temp"][i]])
        for c, rows in zip(CONDITIONS, alone, strict=True)
        for i in rows
    ]
    item_key = [keys[i] for i in codes["item_key"][control]]
    dataset, datasets = _datasets(codes, names, control, item_key)
    cluster, clusters = _clusters(codes, names, control, item_key, dataset, datasets)

    def both(name: str, default: float) -> Floats:
        if name not in columns:
            return np.full((2, len(control)), default)
        values = columns[name]
        return np.stack([values[control], values[treatment]])

    def counts(name: str, default: int) -> Ints:
        return np.nan_to_num(both(name, default), nan=default).astype(np.int64)

    nan = float("nan")
    metrics = {name: Metric(*both(name, nan), *both(f"{name}_std", nan)) for name in columns if f"{name}_std" in columns}
    return ScoreTable(
        item_key, np.array(names["type"], dtype=str)[codes["type"][control]] if len(control) else np.empty(0, dtype=str),
        codes["temp"][control], temps, dataset, datasets, cluster, clusters, metrics,
        counts("n", 1), counts("failed", 0), counts("truncated", 0), counts("refused", 0), both("confidence", nan), unpaired,
    )  # fmt: skip


def _temp(text: str) -> Temp:
    return "default" if text in ("", "default") else float(text)


def _read_columns(path: Path) -> tuple[dict[str, Floats], dict[str, list[str]]]:
    """Each column as numbers, text columns as codes; and the texts that the codes stand for."""
    numbers, codes = _Numbers(), {name: _Codes() for name in TEXT}
    with open(path, encoding="utf-8", newline="") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        if lacking := [c for c in TEXT[:4] if c not in header]:
            raise ManifestError(f"no column {lacking[0]!r}", where=f"{path}:1", remedy=REMEDY)
        packed = [(array("d"), codes.get(name, numbers)) for name in header]
        first = 2
        while rows := list(islice(reader, _CHUNK)):
            try:
                columns = list(zip(*rows, strict=True))
            except ValueError:
                columns = []
            if len(columns) != len(header):
                at, row = next((i, r) for i, r in enumerate(rows) if len(r) != len(header))
                raise ManifestError(f"{len(row)} cells where the header has {len(header)}", where=f"{path}:{first + at}", remedy=REMEDY)
            for name, column, (target, memo) in zip(header, columns, packed, strict=True):
                known = len(target)
                try:
                    target.extend(map(memo.__getitem__, column))
                except ValueError:
                    at = len(target) - known
                    where = f"{path}:{first + at} ({name})"
                    raise ManifestError(f"{column[at]!r} is not a finite number", where=where, remedy=REMEDY) from None
            first += len(rows)
    arrays = {name: np.array(target, dtype=np.float64) for name, (target, _) in zip(header, packed, strict=True)}
    return arrays, {name: list(texts) for name, texts in codes.items()}


def _pair(codes: dict[str, Ints], names: dict[str, list[str]], arms: list[Ints], path: Path) -> tuple[Ints, Ints, list[Ints]]:
    """Rows of control and of treatment that belong together, in control's order, and the rows of either that have no partner."""
    place = (codes["item_key"] * len(names["type"]) + codes["type"]) * len(names["temp"]) + codes["temp"]
    for rows in arms:
        _, first = np.unique(place[rows], return_index=True)
        if len(first) < len(rows):
            i = int(np.setdiff1d(rows, rows[first])[0])
            key = names["item_key"][codes["item_key"][i]]
            raise ManifestError(f"item {key!r} stands twice in one condition, type and temperature", where=f"{path}:{i + 2}", remedy=REMEDY)
    control, treatment = arms
    if np.array_equal(place[control], place[treatment]):
        return control, treatment, [control[:0], control[:0]]
    _, left, right = np.intersect1d(place[control], place[treatment], assume_unique=True, return_indices=True)
    order = np.argsort(left)
    left, right = left[order], right[order]
    return control[left], treatment[right], [np.delete(control, left), np.delete(treatment, right)]


def _datasets(codes: dict[str, Ints], names: dict[str, list[str]], rows: Ints, item_key: list[str]) -> tuple[Ints, tuple[str, ...]]:
    """Dataset codes of `rows`; where the column is missing or empty, the part of the item key before `|`."""
    if "dataset" in codes and "" not in names["dataset"]:
        return codes["dataset"][rows], tuple(names["dataset"])
    index: dict[str, int] = {}
    found = [index.setdefault(key.partition("|")[0], len(index)) for key in item_key]
    return np.array(found, dtype=np.int64), tuple(index)


def _clusters(
    codes: dict[str, Ints], names: dict[str, list[str]], rows: Ints, item_key: list[str], dataset: Ints, datasets: tuple[str, ...]
) -> tuple[Ints, list[str]]:
    """Cluster codes and names. Equal names in two data sets are two clusters; an item without one is its own."""
    if "cluster" not in codes:
        unique, code = np.unique(codes["item_key"][rows], return_inverse=True)
        return code.astype(np.int64), [names["item_key"][i] for i in unique]
    own = codes["cluster"][rows]
    blank = own == (names["cluster"].index("") if "" in names["cluster"] else -1)
    known = len(names["cluster"])
    own = np.where(blank, known + codes["item_key"][rows], own)
    unique, first, code = np.unique(dataset * (known + len(names["item_key"])) + own, return_index=True, return_inverse=True)
    labels = [item_key[i] if blank[i] else f"{datasets[dataset[i]]}|{names['cluster'][own[i]]}" for i in first]
    return code.astype(np.int64).reshape(-1), labels
