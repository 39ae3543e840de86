"""Sources of items: official data sets and the user's own files, read as `Item` rows with the place of each.

One module per kind, each with `items(path, shown, source, type)`. Nothing is downloaded here: `python -m scripts.fetch_data` does that.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.base.digests import sha256_file
from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item
from pipeline.sources.cache import cached
from pipeline.sources.checks import checked
from pipeline.sources.sample import sample

KINDS: Mapping[str, str] = {
    "squad_v2": "pipeline.sources.squad_v2",
    "nq_open": "pipeline.sources.nq_open",
    "triviaqa": "pipeline.sources.triviaqa",
    "jsonl": "pipeline.sources.jsonl",
    "csv": "pipeline.sources.csv_table",
}
"""Kind of a source -> module that reads it, imported when it is needed."""

TYPES_OF_KIND: Mapping[str, str] = {"squad_v2": "open", "nq_open": "closed", "triviaqa": "closed"}
"""Kinds that are one type only; the others take either."""


def locate(source: Mapping[str, Any], root: Path) -> Path:
    """The local file of a source: its `path` (relative to `root`), or where a fetched `url` lies. It need not exist."""
    if path := source.get("path"):
        return root / str(path)
    return cached(str(source.get("url") or ""), source.get("sha256"), root / "data" / "raw")


def read(source: Mapping[str, Any], root: Path, type: Literal["open", "closed"]) -> Iterator[tuple[Item, str]]:
    """The items of one source in file order, each with its `file:line` (for JSON documents `file:$.json[0].path`).

    `source` is `{kind, path | url, sha256?, max_items?, dataset?, columns?, answer_separator?, delimiter?, cluster?}`, as in the config.
    With `max_items` a fair sample is taken that depends on the ids alone (see `pipeline.sources.sample`).

    Raises ConfigError, with place and remedy, for a file that is missing or differs from its declared sha256, and for the first row
    that is malformed, repeats an id, or is no valid question of this type.
    """
    kind = str(source.get("kind"))
    if kind not in KINDS:
        raise ConfigError(f"there is no source of kind {kind!r}", where="sources", remedy=f"Use one of {', '.join(KINDS)}.")
    path = locate(source, root)
    shown = _shown(path, root)
    only = TYPES_OF_KIND.get(kind, type)
    if only != type:
        has = "has passages" if only == "open" else "has no passages"
        raise ConfigError(f"{kind} {has}: it cannot be read as {type}-book", where=shown, remedy=f"Name it under sources.{only}_book.")
    _check_file(source, path, shown)
    rows = checked(importlib.import_module(KINDS[kind]).items(path, shown, source, type), type)
    limit = source.get("max_items")
    return rows if limit is None else sample(rows, limit)


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _check_file(source: Mapping[str, Any], path: Path, shown: str) -> None:
    if not path.is_file():
        if url := source.get("url"):
            raise ConfigError(f"{url} is not fetched yet", where=shown, remedy="Fetch it: python -m scripts.fetch_data --config CONFIG")
        remedy = "Mend the path; official data sets are fetched by python -m scripts.fetch_data"
        raise ConfigError("there is no such file", where=shown, remedy=remedy)
    declared = source.get("sha256")
    if declared and (found := sha256_file(path)) != declared:
        raise ConfigError(
            f"the file's sha256 is {found}, the config declares {declared}",
            where=shown,
            remedy="Restore or fetch the declared file, or declare the new sha256.",
        )
