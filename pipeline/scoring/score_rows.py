"""The rows of per_item_scores.csv: the K answers to one item turned into one line."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.base.rows import Item
from pipeline.base.tables import cell, joined
from pipeline.scoring.answers import AnswerTest, ItemScorer
from pipeline.scoring.items import ItemIndex
from pipeline.scoring.metrics import Caller
from pipeline.scoring.predictions import Prediction, result_row
from pipeline.scoring.settings import ScoringSettings

SCORE_COLUMNS = (
    "item_key", "type", "condition", "temp", "em", "em_std", "f1", "f1_std", "abstain_rate", "abstain_rate_std",
    "false_answer_rate", "false_answer_rate_std", "unsupported_rate", "unsupported_rate_std", "dataset", "cluster",
    "correct", "correct_std", "n", "failed", "truncated", "refused", "confidence",
)  # fmt: skip
COUNTS = ("rows", "items", "answered", "failed", "truncated", "refused", "abstained")


class RowScorer:
    """Turns the K replicates of one item into one line of per_item_scores.csv, and counts what it saw."""

    def __init__(self, settings: ScoringSettings, callers: Sequence[Caller] = ()) -> None:
        self._settings, self._callers = settings, callers
        self._own = [column for caller in callers for column in caller.columns or (caller.metric.name,)]
        self._test = AnswerTest(settings)
        self._scorer: ItemScorer | None = None
        self.counts = dict.fromkeys(COUNTS, 0)

    def header(self) -> str:
        """The first line of the file."""
        return line([*SCORE_COLUMNS, *(name for column in self._own for name in (column, f"{column}_std"))])

    def score(self, group: Sequence[Prediction], item: Item) -> str:
        """The line of one item: means over its replicates, their deviations, and counts. The same `item` twice running is prepared once."""
        scorer = self._scorer
        if scorer is None or scorer.item is not item:
            scorer = self._scorer = ItemScorer(item, self._settings, self._test)
        k, first = len(group), group[0]
        if k == 1 and not self._callers and first.outcome == "answered":
            return self._single(first, item, scorer)
        em, f1, abstained, false_answer, unsupported, right = zip(*(scorer.score(p.response_text, p.outcome) for p in group), strict=True)
        if unsupported[0] is not None and any(abstained) and sum(abstained) / k >= self._settings.support.threshold:
            unsupported = (0,) * k
        failed, truncated, refused = self._count(group, sum(abstained))
        confidences = [float(p.confidence) for p in group if p.confidence]
        cells: list[Any] = [
            item.key, first.type, first.condition, first.temp,
            *mean_std(em), *mean_std(f1), *mean_std(abstained), *mean_std(false_answer), *mean_std(unsupported),
            item.dataset, cluster_of(item), *mean_std(right), k, failed, truncated, refused, *mean_std(confidences)[:1],
        ]  # fmt: skip
        return line([*cells, *self._own_cells(group, item)])

    def _single(self, p: Prediction, item: Item, scorer: ItemScorer) -> str:
        # The usual row (one answer, no own metrics) without the detours of replicates: the same cells.
        em, f1, abstained, false_answer, unsupported, right = scorer.score(p.response_text, p.outcome)
        counts = self.counts
        counts["rows"] += 1
        counts["items"] += 1
        counts["answered"] += 1
        counts["abstained"] += abstained
        return (
            f"{cell(f'{p.dataset}|{p.item_id}')},{p.type},{p.condition},{p.temp},{em},,{f1:.12g},,{abstained},,"
            f"{'' if false_answer is None else false_answer},,{'' if unsupported is None else unsupported},,"
            f"{cell(p.dataset)},{cell(cluster_of(item))},{right},,1,0,0,0,{f'{float(p.confidence):.12g}' if p.confidence else ''}\n"
        )

    def _count(self, group: Sequence[Prediction], abstained: int) -> tuple[int, int, int]:
        outcomes = [p.outcome for p in group]
        failed, truncated, answered = (outcomes.count(outcome) for outcome in ("failed", "truncated", "answered"))
        refused = len(group) - failed - truncated - answered
        for name, n in zip(COUNTS, (len(group), 1, answered, failed, truncated, refused, abstained), strict=True):
            self.counts[name] += n
        return failed, truncated, refused

    def _own_cells(self, group: Sequence[Prediction], item: Item) -> Iterator[str]:
        values: dict[str, list[float]] = {column: [] for column in self._own}
        for prediction in group if self._callers else ():
            row = result_row(prediction)
            for caller in self._callers:
                named = caller(item, row) if row.outcome == "answered" else caller.worst()
                for column, number in named.items():
                    if number is not None:
                        values[column].append(number)
        return itertools.chain.from_iterable(mean_std(values[column]) for column in self._own)


def line(cells: Iterable[Any]) -> str:
    """One CSV line of these cells."""
    return joined(map(str, cells)) + "\n"


def mean_std(values: Sequence[float | None]) -> tuple[str, str]:
    """Mean and standard deviation (K-1 divisor) over replicates, to 12 significant digits; empty where there is nothing to take it of."""
    k = len(values)
    if not k or values[0] is None:
        return "", ""
    known: Sequence[float] = values  # type: ignore[assignment] # what is defined for one answer to the item is defined for all
    mean = math.fsum(known) / k
    return f"{mean:.12g}", f"{math.sqrt(math.fsum((x - mean) ** 2 for x in known) / (k - 1)):.12g}" if k > 1 else ""


def cluster_of(item: Item) -> str:
    """The cluster an item belongs to: its own word, else its passage (16 hex of the sha256), else the item itself."""
    if item.cluster is not None:
        return item.cluster
    if item.context is not None:
        return hashlib.sha256(item.context.encode("utf-8")).hexdigest()[:16]
    return item.key


def find_item(indexes: Mapping[str, ItemIndex], row: Prediction, path: Path) -> Item:
    """The item that `row` of `path` answers. Raises ManifestError where its type or key is unknown."""
    index = indexes.get(row.type)
    item = index.get(f"{row.dataset}|{row.item_id}") if index else None
    if item is None:
        place = index.path if index else f"the files of types {', '.join(indexes)}"
        raise ManifestError(
            f"answer {row.custom_id} is to {row.dataset}|{row.item_id} (type {row.type!r}), which is not in {place}", where=str(path)
        )
    return item
