"""predictions.csv to per_item_scores.csv: one row per item, condition and temperature, streamed."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.base.errors import ManifestError
from pipeline.base.files import atomic_writer
from pipeline.base.rows import Failure, Item, ResultRow, Usage
from pipeline.scoring.answers import AnswerTest, ItemScorer
from pipeline.scoring.items import ItemIndex
from pipeline.scoring.metrics import Caller
from pipeline.scoring.settings import ScoringSettings

PREDICTION_COLUMNS = (
    "custom_id", "dataset", "item_id", "condition", "temp", "sample_index", "type", "request_id", "finish_reason", "response_text",
    "prompt_tokens", "completion_tokens", "total_tokens", "outcome", "cached_tokens", "reasoning_tokens", "confidence", "error",
    "tool_calls", "unit",
)  # fmt: skip
SCORE_COLUMNS = (
    "item_key", "type", "condition", "temp", "em", "em_std", "f1", "f1_std", "abstain_rate", "abstain_rate_std",
    "false_answer_rate", "false_answer_rate_std", "unsupported_rate", "unsupported_rate_std", "dataset", "cluster",
    "correct", "correct_std", "n", "failed", "truncated", "refused", "confidence",
)  # fmt: skip
_LOOK_FOR_COLUMNS = 1000
"""Answered rows that are tried at most until a metric shows the names of its numbers."""


class Prediction(NamedTuple):
    """One row of predictions.csv; all text."""

    custom_id: str
    dataset: str
    item_id: str
    condition: str
    temp: str
    sample_index: str
    type: str
    request_id: str
    finish_reason: str
    response_text: str
    prompt_tokens: str
    completion_tokens: str
    total_tokens: str
    outcome: str
    cached_tokens: str
    reasoning_tokens: str
    confidence: str
    error: str
    tool_calls: str
    unit: str


def score_file(
    predictions: Path, item_files: Mapping[str, Path], out: Path, settings: ScoringSettings, root: Path | None = None
) -> dict[str, Any]:
    """Score `predictions` against the items of `item_files` (by type: `open`, `closed`) into `out`, atomically.

    `root` is the project's folder, where own metrics are imported from. Returns counts: rows, items (rows of `out`), answered, failed,
    truncated, refused, abstained, and where metrics are configured `slow` (calls over `slow_seconds`) and `slow_calls`.
    Raises ManifestError (file:line) for a malformed row or an unknown item, ConfigError for a metric that cannot be had,
    StepError naming items and function where one fails.
    """
    csv.field_size_limit(sys.maxsize)
    counts = dict.fromkeys(("rows", "items", "answered", "failed", "truncated", "refused", "abstained"), 0)
    with ExitStack() as stack:
        indexes = {kind: stack.enter_context(ItemIndex(path)) for kind, path in item_files.items()}
        callers = [Caller(metric, root, settings.slow_seconds) for metric in settings.metrics]
        if callers:
            _learn_columns(predictions, indexes, callers)
        sink = stack.enter_context(atomic_writer(out))
        text = io.TextIOWrapper(sink, encoding="utf-8", newline="", write_through=False)
        own = [column for caller in callers for column in caller.columns or (caller.metric.name,)]
        write = csv.writer(text, lineterminator="\n").writerow
        write([*SCORE_COLUMNS, *(name for column in own for name in (column, f"{column}_std"))])
        scorer = _GroupScorer(settings, callers, own, counts)
        for group in _groups(_read(predictions)):
            write(scorer.row(group, _item(indexes, group[0], predictions)))
        text.flush()
        text.detach()
        for caller in callers:
            caller.raise_failures()
    facts: dict[str, Any] = dict(counts)
    if callers:
        facts["slow_calls"] = sum(caller.slow_calls for caller in callers)
        facts["slow"] = [call for caller in callers for call in caller.slow]
    return facts


class _GroupScorer:
    """Turns the K replicates of one item into one row of per_item_scores.csv."""

    def __init__(self, settings: ScoringSettings, callers: Sequence[Caller], own: Sequence[str], counts: dict[str, int]) -> None:
        self._settings, self._callers, self._own, self._counts = settings, callers, own, counts
        self._test = AnswerTest(settings)
        self._threshold = settings.support.threshold

    def row(self, group: list[Prediction], item: Item) -> list[Any]:
        """The cells, in the order of the header."""
        counts, k, first = self._counts, len(group), group[0]
        if k == 1 and not self._callers and first.outcome == "answered":
            return self._single(first, item)
        scorer = ItemScorer(item, self._settings, self._test)
        scores = [scorer.score(p.response_text, p.outcome) for p in group]
        outcomes = [p.outcome for p in group]
        failed, truncated = outcomes.count("failed"), outcomes.count("truncated")
        refused = k - failed - truncated - outcomes.count("answered")
        counts["rows"] += k
        counts["items"] += 1
        counts["failed"] += failed
        counts["truncated"] += truncated
        counts["refused"] += refused
        counts["answered"] += k - failed - truncated - refused
        em, f1, abstained, false_answer, unsupported, right = zip(*scores, strict=True) if k > 1 else ((x,) for x in scores[0])
        abstentions = sum(abstained)
        counts["abstained"] += abstentions
        if unsupported[0] is not None and abstentions and abstentions / k >= self._threshold:
            unsupported = (0,) * k
        confidences = [float(p.confidence) for p in group if p.confidence]
        cells = [
            item.key, first.type, first.condition, first.temp,
            *_mean_std(em), *_mean_std(f1), *_mean_std(abstained), *_mean_std(false_answer), *_mean_std(unsupported),
            item.dataset, cluster_of(item), *_mean_std(right), k, failed, truncated, refused,
            number(math.fsum(confidences) / len(confidences)) if confidences else "",
        ]  # fmt: skip
        if self._callers:
            cells += self._own_cells(group, item)
        return cells

    def _single(self, p: Prediction, item: Item) -> list[Any]:
        # The usual row (one answer, no own metrics), written without the detours of replicates: same cells.
        em, f1, abstained, false_answer, unsupported, right = ItemScorer(item, self._settings, self._test).score(p.response_text, p.outcome)
        counts = self._counts
        counts["rows"] += 1
        counts["items"] += 1
        counts["answered"] += 1
        counts["abstained"] += abstained
        return [
            f"{p.dataset}|{p.item_id}", p.type, p.condition, p.temp, em, "", number(f1), "", abstained, "",
            "" if false_answer is None else false_answer, "", "" if unsupported is None else unsupported, "",
            item.dataset, cluster_of(item), right, "", 1, 0, 0, 0, number(float(p.confidence)) if p.confidence else "",
        ]  # fmt: skip

    def _own_cells(self, group: list[Prediction], item: Item) -> Iterator[str]:
        values: dict[str, list[float | None]] = {column: [] for column in self._own}
        for prediction in group:
            row = result_row(prediction)
            for caller in self._callers:
                named = caller(item, row) if row.outcome == "answered" else caller.worst()
                for column in caller.columns or (caller.metric.name,):
                    values[column].append(named.get(column))
        return itertools.chain.from_iterable(_mean_std([v for v in values[column] if v is not None]) for column in self._own)


def number(x: float) -> str:
    """A number as our CSV files write it: up to 12 significant digits, no trailing zeros."""
    return f"{x:.12g}"


def _mean_std(values: Sequence[float | None]) -> tuple[str, str]:
    # Mean and standard deviation (K-1 divisor) over replicates; empty where there is nothing to take it of.
    k = len(values)
    if not k or values[0] is None:
        return "", ""
    if k == 1:
        return number(values[0]), ""
    known: Sequence[float] = values  # type: ignore[assignment] # defined for the item means for all its answers
    mean = math.fsum(known) / k
    return number(mean), number(math.sqrt(math.fsum((x - mean) ** 2 for x in known) / (k - 1)))


def cluster_of(item: Item) -> str:
    """The cluster an item belongs to: its own word, else its passage (16 hex of the sha256), else the item itself."""
    if item.cluster is not None:
        return item.cluster
    if item.context is not None:
        return hashlib.sha256(item.context.encode("utf-8")).hexdigest()[:16]
    return item.key


def result_row(p: Prediction) -> ResultRow:
    """The ResultRow that a row of predictions.csv was written from (without its reasoning and raw line, which it does not hold)."""
    code, _, message = p.error.partition(": ")
    return ResultRow(
        custom_id=p.custom_id,
        outcome=p.outcome,  # type: ignore[arg-type] # checked by _read
        text=p.response_text,
        finish_reason=p.finish_reason or None,
        request_id=p.request_id or None,
        usage=Usage(
            prompt_tokens=int(p.prompt_tokens or 0), completion_tokens=int(p.completion_tokens or 0),
            cached_tokens=int(p.cached_tokens or 0), reasoning_tokens=int(p.reasoning_tokens or 0),
        ),
        confidence=float(p.confidence) if p.confidence else None,
        tool_calls=json.loads(p.tool_calls) if p.tool_calls else None,
        error=Failure(code=code, message=message) if p.error else None,
    )  # fmt: skip


def _read(path: Path) -> Iterator[Prediction]:
    width, outcomes = len(PREDICTION_COLUMNS), frozenset(("answered", "truncated", "refused", "filtered", "failed"))
    with open(path, encoding="utf-8", newline="") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        if tuple(header) != PREDICTION_COLUMNS:
            raise ManifestError(f"expected the columns {','.join(PREDICTION_COLUMNS)}, found {','.join(header)}", where=f"{path}:1")
        make = Prediction._make
        for cells in reader:
            if len(cells) != width:
                raise ManifestError(f"expected {width} cells, found {len(cells)}", where=f"{path}:{reader.line_num}")
            if cells[13] not in outcomes:
                raise ManifestError(f"unknown outcome {cells[13]!r}", where=f"{path}:{reader.line_num}")
            yield make(cells)


def _groups(rows: Iterator[Prediction]) -> Iterator[list[Prediction]]:
    # The replicates of one item stand together: a group ends where item, type, temperature or condition changes.
    group: list[Prediction] = []
    for row in rows:
        if group:
            first = group[0]
            if row.item_id == first.item_id and row.dataset == first.dataset and row[3:5] == first[3:5] and row.type == first.type:
                group.append(row)
                continue
            yield group
        group = [row]
    if group:
        yield group


def _item(indexes: Mapping[str, ItemIndex], row: Prediction, path: Path) -> Item:
    index = indexes.get(row.type)
    item = index.get(f"{row.dataset}|{row.item_id}") if index else None
    if item is None:
        where = index.path if index else f"the files of types {', '.join(indexes)}"
        raise ManifestError(
            f"answer {row.custom_id} is to item {row.dataset}|{row.item_id} (type {row.type!r}), which is not in {where}", where=str(path)
        )
    return item


def _learn_columns(path: Path, indexes: Mapping[str, ItemIndex], callers: Sequence[Caller]) -> None:
    # The header comes first, so each metric is asked once, before scoring, for the names of its numbers.
    rows = (row for row in _read(path) if row.outcome == "answered")
    for row in itertools.islice(rows, _LOOK_FOR_COLUMNS):
        waiting = [caller for caller in callers if caller.columns is None]
        if not waiting:
            break
        item, result = _item(indexes, row, path), result_row(row)
        for caller in waiting:
            caller(item, result)
    for caller in callers:
        caller.forget_calls()
