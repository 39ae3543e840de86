"""predictions.csv read row by row, and the replicates of one item taken together."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.base.errors import ManifestError
from pipeline.base.rows import Failure, ResultRow, Usage


class Prediction(NamedTuple):
    """One row of predictions.csv, all text; its fields are the columns, in their order."""

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


PREDICTION_COLUMNS = Prediction._fields
_OUTCOMES = frozenset(("answered", "truncated", "refused", "filtered", "failed"))


def read(path: Path) -> Iterator[Prediction]:
    """The rows, streamed. Raises ManifestError naming file:line for other columns, a row of another width, an unknown outcome."""
    csv.field_size_limit(sys.maxsize)
    width, outcome = len(PREDICTION_COLUMNS), PREDICTION_COLUMNS.index("outcome")
    with open(path, encoding="utf-8", newline="") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        if tuple(header) != PREDICTION_COLUMNS:
            raise ManifestError(f"expected the columns {','.join(PREDICTION_COLUMNS)}, found {','.join(header)}", where=f"{path}:1")
        make = Prediction._make
        for cells in reader:
            if len(cells) != width:
                raise ManifestError(f"expected {width} cells, found {len(cells)}", where=f"{path}:{reader.line_num}")
            if cells[outcome] not in _OUTCOMES:
                raise ManifestError(f"unknown outcome {cells[outcome]!r}", where=f"{path}:{reader.line_num}")
            yield make(cells)


def arms(path: Path) -> tuple[Iterator[Prediction], Iterator[Prediction]]:
    """The rows of the first condition, and those behind them, to be read side by side: parse writes one arm behind the other."""
    first = next(read(path), None)

    def of_the_first(row: Prediction) -> bool:
        return first is not None and row.condition == first.condition

    return itertools.takewhile(of_the_first, read(path)), itertools.dropwhile(of_the_first, read(path))


def groups(rows: Iterator[Prediction]) -> Iterator[list[Prediction]]:
    """The replicates of one item, which stand together: a group ends where item, type, temperature or condition changes."""
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


def result_row(p: Prediction) -> ResultRow:
    """The ResultRow that a row of predictions.csv was written from (without its reasoning and raw line, which it does not hold)."""
    code, _, message = p.error.partition(": ")
    return ResultRow(
        custom_id=p.custom_id,
        outcome=p.outcome,  # type: ignore[arg-type] # checked by `read`
        text=p.response_text,
        finish_reason=p.finish_reason or None,
        request_id=p.request_id or None,
        usage=Usage(
            prompt_tokens=int(p.prompt_tokens or 0),
            completion_tokens=int(p.completion_tokens or 0),
            cached_tokens=int(p.cached_tokens or 0),
            reasoning_tokens=int(p.reasoning_tokens or 0),
        ),
        confidence=float(p.confidence) if p.confidence else None,
        tool_calls=json.loads(p.tool_calls) if p.tool_calls else None,
        error=Failure(code=code, message=message) if p.error else None,
    )
