"""What `scripts.init` finds out about a data file: its kind, its columns, its type, and that every row of it can be asked."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.base.errors import UsageError
from pipeline.base.rows import Item
from pipeline.sources import TYPES_OF_KIND, read
from pipeline.sources.columns import FIELDS
from pipeline.sources.csv_table import header
from pipeline.sources.lines import json_rows

KIND_OF_SUFFIX = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
SPREADSHEETS = (".xlsx", ".xls", ".ods")
CANONICAL = {"id", "question", "answers"}
Ask = Callable[[str, str | None, Callable[[str], object]], str]
"""Question, default, and a check that raises UsageError: then it is asked again."""


@dataclass(frozen=True)
class Data:
    """A checked data file: the source as a config names it, its type, and its items."""

    source: dict[str, Any]
    type: Literal["open", "closed"]
    items: list[Item]

    def summary(self) -> str:
        """One line: how many items of which type, and the columns a template or a subgroup may use."""
        names = Counter(name for item in self.items for name in item.meta)
        unanswerable = sum(item.is_unanswerable for item in self.items)
        clusters = len({item.cluster or item.context or item.key for item in self.items})
        return (
            f"{len(self.items)} {self.type}-book items"
            + (f", {unanswerable} unanswerable" if unanswerable else "")
            + (f", {clusters} clusters" if clusters < len(self.items) else "")
            + (f"; meta: {', '.join(names)}" if names else "")
        )


def locate(data: str, kind: str | None, root: Path) -> tuple[Path, str]:
    """The data file and its kind. Raises UsageError for a file that is not there, or of no kind that is known."""
    path = (root / data).resolve()
    if not path.is_file():
        raise UsageError(f"there is no file {data}", where="--data", remedy="Give a .csv, .tsv or .jsonl file.")
    found = kind or KIND_OF_SUFFIX.get(path.suffix.lower())
    if found is None:
        remedy = "Say --kind csv, jsonl, squad_v2, nq_open or triviaqa."
        if path.suffix.lower() in SPREADSHEETS:
            remedy = "Export the sheet as CSV (UTF-8)."
        raise UsageError(f"what kind of file is {path.name}?", where="--kind", remedy=remedy)
    return path, found


def examine(args: argparse.Namespace, root: Path, ask: Ask | None) -> Data:
    """Read and check the data file; `ask` is for columns that the flags leave open (None: do not ask).

    Raises UsageError for a file or column that is not there, ConfigError naming file:line for a row that cannot be asked.
    """
    path, kind = locate(args.data, args.kind, root)
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    source: dict[str, Any] = {"kind": kind, "path": shown}
    if args.dataset:
        source["dataset"] = args.dataset
    if args.answer_separator:
        source["answer_separator"] = args.answer_separator
    has_context = False
    if kind in ("csv", "jsonl"):
        if args.delimiter:
            source["delimiter"] = args.delimiter.replace("\\t", "\t")
        names = header(path, shown, source) if kind == "csv" else _keys(path, shown)
        if kind == "csv" and len(names) == 1 and (mark := next((m for m in ";\t|" if m in names[0]), None)):
            remedy = f"Is {mark!r} the delimiter? Say --delimiter {mark!r}."
            raise UsageError(f"the header is one column, {names[0]!r}", where=shown, remedy=remedy)
        columns = _columns(args, names, kind, ask)
        if columns is not None:
            source["columns"] = columns
        if (columns or {}).get("dataset", "dataset") not in names:
            source.setdefault("dataset", re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem) or kind)
        has_context = (columns or {}).get("context", "context") in names
    guess = TYPES_OF_KIND.get(kind) or ("open" if has_context else "closed")
    type: Literal["open", "closed"] = "open" if (args.type or guess) == "open" else "closed"
    items = [item for item, _place in read(source, root, type)]
    if not items:
        raise UsageError("there are no items in it", where=shown, remedy="Write some.")
    if args.max_items:
        source["max_items"] = args.max_items
    return Data(source, type, items)


def _keys(path: Path, shown: str) -> list[str]:
    first = next(json_rows(path, shown, dict[str, Any], "A line is one JSON object."), None)
    if first is None:
        raise UsageError("there are no items in it", where=shown, remedy="Write some, one JSON object a line.")
    return list(first[0])


def _columns(args: argparse.Namespace, names: list[str], kind: str, ask: Ask | None) -> dict[str, str] | None:
    """The `columns` of the source; None for canonical items."""
    declared = _declared(args.columns)
    if kind == "jsonl" and not declared and set(names) >= CANONICAL and set(names) <= {*FIELDS, "meta"}:
        return None
    for field in ("question", "answers"):
        name = declared.get(field, field)
        if name in names:
            continue
        if ask is None or field in declared:
            raise UsageError(
                f"there is no column {name!r} in {args.data}",
                where="--columns",
                remedy=f"Columns: {', '.join(names)}. Say which is meant: --columns {_example(names)}.",
            )
        declared[field] = ask(f"Which column holds the {field}? ({', '.join(names)})", None, lambda name: _known(name, names))
    for name in declared.values():
        _known(name, names)
    if kind == "csv" and not declared:
        return None
    return declared


def _known(name: str, names: list[str]) -> None:
    if name not in names:
        raise UsageError(f"there is no column {name!r}", where="--columns", remedy=f"Columns: {', '.join(names)}.")


def _declared(text: str | None) -> dict[str, str]:
    pairs: Mapping[str, str] = dict(re.findall(r"(?:^|,)\s*([a-z_]+)\s*=\s*([^,]+)", text or ""))
    declared = {field: name.strip() for field, name in pairs.items()}
    wrong = sorted(set(declared) - set(FIELDS))
    if wrong or (text and not declared):
        raise UsageError(
            f"{wrong[0]!r} is no field of an item" if wrong else f"{text!r} names no column",
            where="--columns",
            remedy=f"As in question=text,answers=label. Fields: {', '.join(FIELDS)}.",
        )
    return declared


def _example(names: list[str]) -> str:
    first, second = [*names, "NAME", "NAME"][:2]
    return f"question={first},answers={second}"
