"""predictions.csv to per_item_scores.csv: one row per item, condition and temperature, streamed, on several cores where it pays."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.base.files import atomic_writer
from pipeline.scoring import workers
from pipeline.scoring.items import ItemIndex
from pipeline.scoring.metrics import Caller
from pipeline.scoring.predictions import PREDICTION_COLUMNS, groups, read, result_row
from pipeline.scoring.score_rows import SCORE_COLUMNS, RowScorer, find_item
from pipeline.scoring.settings import ScoringSettings

__all__ = ["PREDICTION_COLUMNS", "SCORE_COLUMNS", "make_scorer", "score_file"]

WORTH_WORKERS = 8 << 20
"""Bytes of predictions from which starting workers costs less than it saves."""
MOST_WORKERS = 4
BLOCK = 512
"""Items that are scored and written at a time."""
_LOOK_FOR_COLUMNS = 1000
"""Answered rows that are tried at most until a metric shows the names of its numbers."""


def score_file(
    predictions: Path,
    item_files: Mapping[str, Path],
    out: Path,
    settings: ScoringSettings,
    root: Path | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Score `predictions` against the items of `item_files` (by type: `open`, `closed`) into `out`, atomically.

    `root` is the project's folder, where own metrics are imported from. `processes` is 1, or the number of worker processes; by default
    one for each core (up to `MOST_WORKERS`) for large files without own metrics. The bytes of `out` do not depend on it.
    Returns counts: rows, items (rows of `out`), answered, failed, truncated, refused, abstained, and where metrics are configured
    `slow` (calls over `slow_seconds`) and `slow_calls`.
    Raises ManifestError (file:line) for a malformed row or an unknown item, ConfigError for a metric that cannot be had,
    StepError naming items and function where one fails.
    """
    if processes is None:
        pays = not settings.metrics and predictions.stat().st_size >= WORTH_WORKERS
        processes = min(MOST_WORKERS, os.cpu_count() or 1) if pays else 1
    if processes > 1 and not settings.metrics:
        with atomic_writer(out) as sink:
            sink.write(RowScorer(settings).header().encode("utf-8"))
            return workers.score(predictions, item_files, settings, processes, sink)
    with ExitStack() as stack:
        indexes = {kind: stack.enter_context(ItemIndex(path)) for kind, path in item_files.items()}
        scorer, callers = make_scorer(predictions, indexes, settings, root)
        sink = stack.enter_context(atomic_writer(out))
        sink.write(scorer.header().encode("utf-8"))
        for block in blocks(predictions, indexes, scorer):
            sink.write(block)
        for caller in callers:
            caller.raise_failures()
    facts: dict[str, Any] = dict(scorer.counts)
    if callers:
        facts["slow_calls"] = sum(caller.slow_calls for caller in callers)
        facts["slow"] = [call for caller in callers for call in caller.slow]
    return facts


def make_scorer(
    predictions: Path, indexes: Mapping[str, ItemIndex], settings: ScoringSettings, root: Path | None
) -> tuple[RowScorer, list[Caller]]:
    """What scores the answers of `predictions`, with the own metrics in it, whose columns are known. Raises ConfigError for a metric."""
    callers = [Caller(metric, root, settings.slow_seconds) for metric in settings.metrics]
    if callers:
        _learn_columns(predictions, indexes, callers)
    return RowScorer(settings, callers), callers


def blocks(predictions: Path, indexes: Mapping[str, ItemIndex], scorer: RowScorer, share: int = 0, of: int = 1) -> Iterator[bytes]:
    """The lines of every `of`-th block of items, beginning with block number `share`, a block at a time."""
    items = groups(read(predictions))
    for number in itertools.count():
        block = list(itertools.islice(items, BLOCK))
        if not block:
            return
        if number % of == share:
            yield "".join([scorer.score(group, find_item(indexes, group[0], predictions)) for group in block]).encode("utf-8")


def _learn_columns(path: Path, indexes: Mapping[str, ItemIndex], callers: Sequence[Caller]) -> None:
    # The header comes first, so each metric is asked once, before scoring, for the names of its numbers.
    rows = (row for row in read(path) if row.outcome == "answered")
    for row in itertools.islice(rows, _LOOK_FOR_COLUMNS):
        waiting = [caller for caller in callers if caller.columns is None]
        if not waiting:
            break
        item, result = find_item(indexes, row, path), result_row(row)
        for caller in waiting:
            caller(item, result)
    for caller in callers:
        caller.forget_calls()
