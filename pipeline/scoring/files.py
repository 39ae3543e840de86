"""predictions.csv to per_item_scores.csv: one row per item, condition and temperature, streamed, on several cores where it pays."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from pipeline.base.files import atomic_writer
from pipeline.scoring import workers
from pipeline.scoring.items import ItemIndex
from pipeline.scoring.metrics import Caller
from pipeline.scoring.predictions import PREDICTION_COLUMNS, arms, groups, read, result_row
from pipeline.scoring.score_rows import SCORE_COLUMNS, RowScorer, find_item
from pipeline.scoring.settings import ScoringSettings

__all__ = ["PREDICTION_COLUMNS", "SCORE_COLUMNS", "make_scorer", "score_file"]

WORTH_WORKERS = 8 << 20
"""Bytes of predictions from which starting workers costs less than it saves."""
MOST_WORKERS = 4
BLOCK = 512
"""Items that are scored and written at a time, in both arms."""
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
        with _sinks(out) as sinks:
            sinks[0].write(RowScorer(settings).header().encode("utf-8"))
            return workers.score(predictions, item_files, settings, processes, sinks)
    with ExitStack() as stack:
        indexes = {kind: stack.enter_context(ItemIndex(path)) for kind, path in item_files.items()}
        scorer, callers = make_scorer(predictions, indexes, settings, root)
        sinks = stack.enter_context(_sinks(out))
        sinks[0].write(scorer.header().encode("utf-8"))
        for block in blocks(predictions, indexes, scorer):
            for sink, lines in zip(sinks, block, strict=True):
                sink.write(lines)
        for caller in callers:
            caller.raise_failures()
    facts: dict[str, Any] = dict(scorer.counts)
    if callers:
        facts["slow_calls"] = sum(caller.slow_calls for caller in callers)
        facts["slow"] = [call for caller in callers for call in caller.slow]
    return facts


@contextmanager
def _sinks(out: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """What takes the lines of the first arm, and what takes those of the other, which stand behind them in `out` in the end."""
    with atomic_writer(out) as first, TemporaryFile(dir=out.parent) as second:
        yield first, second
        second.seek(0)
        shutil.copyfileobj(second, first, 1 << 20)


def make_scorer(
    predictions: Path, indexes: Mapping[str, ItemIndex], settings: ScoringSettings, root: Path | None
) -> tuple[RowScorer, list[Caller]]:
    """What scores the answers of `predictions`, with the own metrics in it, whose columns are known. Raises ConfigError for a metric."""
    callers = [Caller(metric, root, settings.slow_seconds) for metric in settings.metrics]
    if callers:
        _learn_columns(predictions, indexes, callers)
    return RowScorer(settings, callers), callers


def blocks(
    predictions: Path, indexes: Mapping[str, ItemIndex], scorer: RowScorer, share: int = 0, of: int = 1
) -> Iterator[tuple[bytes, bytes]]:
    """The lines of every `of`-th block of items, beginning with block number `share`, a block at a time: of the first arm, of the other.

    Both arms have the items in the same order, as a rule: then each item is read and prepared once, and an answer that both give is
    scored once.
    """
    pairs = itertools.zip_longest(*map(groups, arms(predictions)))
    for number in itertools.count():
        block = list(itertools.islice(pairs, BLOCK))
        if not block:
            return
        if number % of == share:
            lines: tuple[list[str], list[str]] = ([], [])
            for pair in block:
                item, asked = None, None
                for group, into in zip(pair, lines, strict=True):
                    if group is not None:
                        first = group[0]
                        if item is None or asked != (first.dataset, first.item_id, first.type):
                            item, asked = find_item(indexes, first, predictions), (first.dataset, first.item_id, first.type)
                        into.append(scorer.score(group, item))
            yield "".join(lines[0]).encode("utf-8"), "".join(lines[1]).encode("utf-8")


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
