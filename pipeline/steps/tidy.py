"""tidy: turns every trial's answers and scores into one table of the run, `results.csv` (and `results.parquet`), one row per request."""

from __future__ import annotations

import csv
import io
import json
import operator
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.base.files import atomic_writer
from pipeline.base.frames import Kinds, parquet_writer, write_parquet
from pipeline.base.rows import Item, read_rows
from pipeline.base.tables import cell, joined
from pipeline.experiment import TYPES, Trial
from pipeline.scoring.predictions import Prediction, groups, read
from pipeline.steps import score
from pipeline.steps.context import Context, Run

SETTINGS = score.SETTINGS
CODE = ("pipeline/scoring", "pipeline/steps/tidy.py", "pipeline/base/frames.py")
BEFORE: Kinds = {
    "custom_id": str, "arm": str, "model": str, "unit": str, "temp": float, "replicate": int, "type": str, "item": str, "dataset": str,
    "item_id": str, "cluster": str, "question": str, "golds": str,
}  # fmt: skip
"""Columns before the metadata. `temp` is empty where the model's default holds; `golds` is a JSON list."""
ANSWER: Kinds = {"outcome": str, "finish_reason": str, "answer": str}
NUMBERS: Kinds = {
    "prompt_tokens": int, "completion_tokens": int, "total_tokens": int, "cached_tokens": int, "reasoning_tokens": int, "confidence": float,
}  # fmt: skip
REMARKS: Kinds = {"error": str, "tool_calls": str, "request_id": str}
AFTER = {**NUMBERS, **REMARKS}
"""Columns behind the scores."""
FIXED = {**BEFORE, **ANSWER, **AFTER}


def inputs(ctx: Context) -> list[Path]:
    """Answers and scores of every trial, the items, and the code of the user's own metrics."""
    this = ctx.run
    trials = [this.paths.trial(slug) for slug in this.experiment.trials]
    files = [path for t in trials for path in (t.predictions, t.scores)]
    return [*files, *(this.item_file(kind) for kind in TYPES), *score.own_code(this)]


def targets(ctx: Context) -> list[Path]:
    """`results.csv`, and `results.parquet` where a library that can write it is installed."""
    paths = ctx.run.paths
    return [paths.table_csv, *([paths.table_parquet] if parquet_writer() else [])]


def run(ctx: Context) -> dict[str, Any]:
    """Write the table; a unit that several trials share stands in it once."""
    this = ctx.run
    metas, items = item_cells(this)
    scores = list(dict.fromkeys(name for trial in this.experiment.trials.values() for name in score_names(_scores_header(this, trial))))
    columns = [*BEFORE, *(f"meta_{name}" for name in metas), *ANSWER, *map(column_of, scores), *AFTER]
    numbers, remarks = operator.attrgetter(*NUMBERS), operator.attrgetter(*REMARKS)
    units = {u.slug: joined((u.arm.name, u.model.alias, u.slug)) for u in this.experiment.units.values()}
    rows = 0
    with atomic_writer(this.paths.table_csv) as f:
        f.write(f"{joined(columns)}\n".encode())
        for p, values in answers(this, scores):
            temp = "" if p.temp == "default" else p.temp
            f.write(
                f"{p.custom_id},{units[p.unit]},{temp},{p.sample_index},{p.type},{items[p.type, f'{p.dataset}|{p.item_id}']},"
                f"{p.outcome},{cell(p.finish_reason)},{cell(p.response_text)},{','.join(values)},{','.join(numbers(p))},"
                f"{joined(remarks(p))}\n".encode()
            )
            rows += 1
    if parquet_writer():
        write_parquet(this.paths.table_csv, this.paths.table_parquet, kinds_of(columns))
    return {"rows": rows, "columns": len(columns)}


def column_of(metric: str) -> str:
    """The column of a metric: its name, or `score_<name>` where a column of another meaning has that name."""
    return f"score_{metric}" if metric in FIXED or metric.startswith("meta_") else metric


def kinds_of(columns: Sequence[str]) -> Kinds:
    """The kind of each column of results.csv: metadata is text, what is neither fixed nor metadata is a score."""
    return {name: FIXED.get(name, str if name.startswith("meta_") else float) for name in columns}


def item_cells(this: Run) -> tuple[list[str], dict[tuple[str, str], str]]:
    """The names of the items' metadata, and by (type, item key) the cells from `item` to the last of the metadata, joined."""
    from pipeline.scoring.score_rows import cluster_of

    found: dict[tuple[str, str], str] = {}
    metas: dict[tuple[str, str], dict[str, str]] = {}
    for kind in TYPES:
        for item in read_rows(this.item_file(kind), Item):
            at = kind, item.key
            found[at] = joined((item.key, item.dataset, item.id, cluster_of(item), item.question, _json(item.answers)))
            if item.meta:
                metas[at] = {str(name): _text(value) for name, value in item.meta.items()}
    names = list(dict.fromkeys(name for meta in metas.values() for name in meta))
    if names:
        found = {at: f"{cells},{joined([metas.get(at, {}).get(name, '') for name in names])}" for at, cells in found.items()}
    return names, found


_json = json.JSONEncoder(ensure_ascii=False).encode


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else _json(value)


def score_names(header: Sequence[str]) -> list[str]:
    """The metrics of a per_item_scores.csv."""
    from pipeline.scoring.score_rows import SCORE_COLUMNS
    from pipeline.scoring.settings import CORE_METRICS

    return [*CORE_METRICS, *header[len(SCORE_COLUMNS) :: 2]]


def _scores_header(this: Run, trial: Trial) -> list[str]:
    with open(this.paths.trial(trial.slug).scores, encoding="utf-8", newline="") as f:
        return next(csv.reader(f))


def answers(this: Run, scores: Sequence[str]) -> Iterator[tuple[Prediction, Sequence[str]]]:
    """Each request's prediction and `scores`, empty where its trial has none of that name, each unit and temperature once.

    The only answer to an item has the item's scores; of several each is scored by itself, as if it were the only one.
    """
    from pipeline.scoring.files import make_scorer
    from pipeline.scoring.items import ItemIndex
    from pipeline.scoring.score_rows import find_item

    seen: set[tuple[str, str]] = set()
    for trial in this.experiment.trials.values():
        with ExitStack() as stack:
            paths, scorer, before = this.paths.trial(trial.slug), None, frozenset(seen)
            lines = csv.reader(stack.enter_context(open(paths.scores, encoding="utf-8", newline="")))
            header = next(lines)
            # One cell behind the last, empty, stands for the scores that this trial lacks.
            pick = operator.itemgetter(*(header.index(name) if name in header else len(header) for name in scores))
            for group in groups(read(paths.predictions)):
                cells, first = next(lines, []), group[0]
                if cells[:4] != [f"{first.dataset}|{first.item_id}", first.type, first.condition, first.temp]:
                    where = f"{paths.scores}:{lines.line_num}"
                    raise ManifestError("does not follow predictions.csv", where=where, remedy="Score anew: doit run --verify")
                part = (first.unit, first.temp)
                if part in before:
                    continue
                seen.add(part)
                if len(group) == 1:
                    yield first, pick([*cells, ""])
                    continue
                if scorer is None:
                    indexes = {kind: stack.enter_context(ItemIndex(this.item_file(kind))) for kind in TYPES}
                    scorer, _callers = make_scorer(paths.predictions, indexes, score.scoring_settings(this), this.root)
                item = find_item(indexes, first, paths.predictions)
                for prediction in group:
                    own = next(csv.reader(io.StringIO(scorer.score([prediction], item), newline="")))
                    yield prediction, pick([*own, ""])
