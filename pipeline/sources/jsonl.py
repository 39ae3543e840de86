"""The user's own JSONL: canonical items, or with `columns` objects of any shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.rows import Item, Text
from pipeline.sources.columns import Columns
from pipeline.sources.lines import json_rows

CANONICAL = "See schemas/item.schema.json; for rows of another shape declare `columns`."
ANY = "A line is one JSON object."


class _Item(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    # As `Item`, but the source may name the dataset for all rows.
    dataset: Text | None = None
    id: Text
    question: Text
    answers: list[str]
    context: str | None = None
    is_unanswerable: bool = False
    messages: list[dict[str, Any]] | None = None
    meta: dict[str, Any] = {}
    cluster: str | None = None


def items(path: Path, shown: str, source: Mapping[str, Any], type: str) -> Iterator[tuple[Item, str]]:
    """The items in file order.

    Without `columns` each line is an item as in `schemas/item.schema.json`; `dataset` may be left out and is then the source's
    (`jsonl` where that names none). With `columns` (it may be `{}`) each line is an object of any shape, as a row of a table.
    """
    if source.get("columns") is not None:
        columns = Columns(source, "jsonl", shown)
        for row, where in json_rows(path, shown, dict[str, Any], ANY):
            columns.check_present(row, where)
            yield columns.item(row, where), where
        return
    default = source.get("dataset") or "jsonl"
    for given, where in json_rows(path, shown, _Item, CANONICAL):
        fields = {name: getattr(given, name) for name in _Item.__struct_fields__}
        fields["dataset"] = given.dataset or default
        yield Item(**fields), where
