"""The data behind the item explorer: compact columns, passages once, answers with the place they came from."""

from __future__ import annotations

import csv
import itertools
import json
import operator
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.base.rows import Item, read_rows
from pipeline.reporting.findings import Findings
from pipeline.reporting.inputs import TrialReportInputs
from pipeline.reporting.numbers import plain
from pipeline.reporting.pairs import CONDITIONS, Pairs, temp_text

MAX_ENTRIES = 30_000
"""Item, type and temperature: more than this would make the page slow to open."""
MAX_CHARACTERS = 32_000_000
"""Of all answers together, in the page."""
_CAPS = (20_000, 8_000, 4_000, 2_000, 1_000, 500, 200)
"""Characters shown of one answer; the largest that keeps the page below MAX_CHARACTERS."""
_OUTCOMES = ("answered", "truncated", "refused", "filtered", "failed")
_NEEDED = ("dataset", "item_id", "condition", "temp", "type", "response_text")
_OPTIONAL = ("outcome", "unit", "custom_id", "completion_tokens", "error", "tool_calls")
Place = tuple[str, str, str]
"""(item key, type, temperature)."""


def explorer_data(inputs: TrialReportInputs, pairs: Pairs, findings: Findings) -> dict[str, Any]:
    """All that the explorer shows, as columns (lists of equal length per table); see assets/explorer.js for the reader.

    `left_out` counts entries beyond MAX_ENTRIES; those where the arms differ in the primary metric are kept first.
    """
    kept = _kept(pairs, findings.metric)
    places: dict[Place, int] = {(pairs.keys[i], pairs.types[i], temp_text(pairs.temps[i])): n for n, i in enumerate(kept)}
    temps = sorted({p[2] for p in places})
    keys = list(dict.fromkeys((p[0], p[1]) for p in places))
    item_at = {key: n for n, key in enumerate(keys)}
    passages, items = _items(inputs.item_files, item_at)
    short = _Short()
    return {
        "primary": findings.metric,
        "metrics": [{"name": m, "wish": findings.wish(m), "share": findings.is_share(m)} for m in pairs.metrics],
        "arms": {"control": inputs.contrast.get("control", "control"), "treatment": inputs.contrast.get("treatment", "treatment")},
        "outcomes": _OUTCOMES,
        "temps": temps,
        "temp": next((n for n, t in enumerate(temps) if t == temp_text(str(findings.verdict["temp"]))), 0),
        "passages": passages,
        "items": items,
        "entries": {"item": [item_at[p[:2]] for p in places], "temp": [temps.index(p[2]) for p in places]},
        "scores": {c: {m: [short[pairs.arms[c].metrics[m][i]] for i in kept] for m in pairs.metrics} for c in CONDITIONS},
        "answers": _answers(inputs.predictions, places, inputs.raw_files),
        "left_out": len(pairs) - len(kept),
    }


def _kept(pairs: Pairs, metric: str) -> list[int]:
    if len(pairs) <= MAX_ENTRIES:
        return list(range(len(pairs)))
    changes = pairs.differences(metric)
    order = sorted(range(len(pairs)), key=lambda i: (not changes[i], i))
    return sorted(order[:MAX_ENTRIES])


class _Short(dict[float | None, float | int | None]):
    """Scores as the page shows them. They repeat: each is rounded once."""

    def __missing__(self, value: float | None) -> float | int | None:
        rounded = None if value is None else round(value, 4)
        self[value] = short = int(rounded) if rounded is not None and rounded == int(rounded) else rounded
        return short


def _items(files: Mapping[str, Path | None], item_at: Mapping[tuple[str, str], int]) -> tuple[list[str], dict[str, Any]]:
    size = len(item_at)
    columns: dict[str, Any] = {name: [None] * size for name in ("dataset", "id", "type", "question", "golds", "passage", "meta")}
    columns["unanswerable"] = [0] * size
    columns["messages"] = {}
    passages: dict[str, int] = {}
    metas: dict[str, int] = {}
    for (key, kind), n in item_at.items():  # what is known even where the item file is gone
        columns["dataset"][n], _, columns["id"][n] = key.partition("|")
        columns["type"][n] = kind
    for kind, path in files.items():
        for item in read_rows(path, Item) if path else ():
            found = item_at.get((item.key, kind))
            if found is None:
                continue
            n = found
            columns["dataset"][n], columns["id"][n], columns["question"][n] = item.dataset, item.id, item.question
            columns["golds"][n] = list(dict.fromkeys(item.answers))
            columns["unanswerable"][n] = int(item.is_unanswerable)
            if item.context is not None:
                columns["passage"][n] = passages.setdefault(item.context, len(passages))
            if item.meta:
                flat = {str(k): plain(v) for k, v in item.meta.items()}
                columns["meta"][n] = metas.setdefault(json.dumps(flat, ensure_ascii=False), len(metas))
            if item.messages:
                columns["messages"][n] = [[str(m.get("role", "")), plain(m.get("content"))] for m in item.messages]
    columns["metas"] = [json.loads(m) for m in metas]
    return list(passages), columns


def _answers(path: Path, places: Mapping[Place, int], raw_files: Sequence[tuple[str, int]] | None) -> dict[str, Any]:
    """Per arm: flat columns over its answers, those of entry n from `first[n]` to `first[n + 1]`."""
    found: dict[str, list[list[tuple[Any, ...]]]] = {c: [[] for _ in places] for c in CONDITIONS}
    lengths: list[int] = []
    for row, (cells, line) in enumerate(_predictions(path)):
        dataset, item, condition, temp, kind, text, outcome, unit, custom_id, tokens, error, calls = cells
        n = places.get((f"{dataset}|{item}", kind, temp_text(temp)))
        if n is None or condition not in found:
            continue
        lengths.append(min(len(text), _CAPS[0]))
        remark = error or (calls and f"tool calls: {calls}")
        code = _OUTCOMES.index(outcome) if outcome in _OUTCOMES else 0
        found[condition][n].append((text[: _CAPS[0]], len(text), code, unit, line, custom_id, tokens, remark[:2000], row))
    cap = next((c for c in _CAPS if sum(min(n, c) for n in lengths) <= MAX_CHARACTERS), _CAPS[-1])
    return {"cap": cap, **{c: _flat(found[c], cap, raw_files) for c in CONDITIONS}}


def _flat(entries: list[list[tuple[Any, ...]]], cap: int, raw_files: Sequence[tuple[str, int]] | None) -> dict[str, Any]:
    units: dict[str, int] = {}
    files: dict[str, int] = {}
    starts = [0, *itertools.accumulate(lines for _file, lines in raw_files or ())]
    flat: dict[str, Any] = {name: [] for name in ("first", "text", "outcome", "unit", "line", "custom_id", "tokens", "file", "raw_line")}
    flat["cut"], flat["remark"] = {}, {}
    for samples in entries:
        flat["first"].append(len(flat["text"]))
        for text, length, outcome, unit, line, custom_id, tokens, remark, row in samples:
            at = len(flat["text"])
            flat["text"].append(text[:cap])
            flat["outcome"].append(outcome)
            flat["unit"].append(units.setdefault(unit, len(units)))
            flat["line"].append(line)
            flat["custom_id"].append(custom_id)
            flat["tokens"].append(int(tokens) if str(tokens).isdigit() else None)
            if raw_files is not None and row < starts[-1]:
                part = bisect_right(starts, row) - 1
                flat["file"].append(files.setdefault(raw_files[part][0], len(files)))
                flat["raw_line"].append(row - starts[part] + 1)
            elif raw_files is not None:
                flat["file"].append(None)
                flat["raw_line"].append(None)
            if length > cap:
                flat["cut"][at] = length
            if remark:
                flat["remark"][at] = remark
    flat["first"].append(len(flat["text"]))
    return {**flat, "units": list(units), "files": list(files)}


def _predictions(path: Path) -> Iterable[tuple[tuple[str, ...], int]]:
    """The cells of predictions.csv named by _NEEDED and _OPTIONAL, row by row, each with the line (from 1) on which the row starts."""
    csv.field_size_limit(sys.maxsize)  # an answer may be longer than csv's default of 131,072 characters
    with open(path, encoding="utf-8", newline="") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        for name in _NEEDED:
            if name not in header:
                raise ManifestError(f"column {name} is missing", where=f"{path}:1", remedy="Run the parse step again.")
        absent = len(header)  # a column that is not there is an empty cell behind each row
        pick = operator.itemgetter(*(header.index(name) if name in header else absent for name in (*_NEEDED, *_OPTIONAL)))
        line = reader.line_num + 1
        for row in reader:
            row.append("")
            if len(row) <= absent:
                raise ManifestError(f"{len(row) - 1} cells, expected {absent}", where=f"{path}:{line}", remedy="Run the parse step again.")
            yield pick(row), line
            line = reader.line_num + 1
