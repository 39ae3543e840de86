"""The user's own CSV or TSV, with any columns: a header line, then one item per record."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item
from pipeline.sources.columns import Columns
from pipeline.sources.lines import BOM, decode_utf8

LONGEST_CELL = 1 << 27  # characters; the csv module's own limit, 128 KiB, is shorter than some passages


def items(path: Path, shown: str, source: Mapping[str, Any], type: str) -> Iterator[tuple[Item, str]]:
    """The items in file order; the place of a record that spans lines is its first line.

    `columns` says which column is the question and so on; all others go to `meta` as text. `delimiter` is one character (default: comma,
    tab for *.tsv). `answer_separator` splits the answers' cell into several; without it the cell is one answer.
    """
    columns = Columns(source, "csv", shown)
    names = header(path, shown, source)
    records = _records(path, shown, _delimiter(source, path, shown))
    columns.check_present(names, next(records)[1])
    for record, where in records:
        if len(record) != len(names):
            raise ConfigError(
                f"{len(record)} cells, but the header names {len(names)} columns",
                where=where,
                remedy="Quote cells that hold the delimiter or a line break; mind the `delimiter`.",
            )
        yield columns.item(dict(zip(names, record, strict=True)), where), where


def header(path: Path, shown: str, source: Mapping[str, Any]) -> list[str]:
    """The column names of a file. Raises ConfigError where there are none, or one has no name or stands twice."""
    names, where = next(_records(path, shown, _delimiter(source, path, shown)), (None, shown))
    if names is None:
        raise ConfigError("the file is empty", where=where, remedy="The first line names the columns.")
    _check_header(names, where)
    return names


def _delimiter(source: Mapping[str, Any], path: Path, shown: str) -> str:
    delimiter: str = source.get("delimiter") or ("\t" if path.suffix == ".tsv" else ",")
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ConfigError(f"the delimiter {delimiter!r} is not one character", where=shown, remedy='Use "," or ";" or "\\t".')
    return delimiter


def _check_header(header: list[str], where: str) -> None:
    for name in header:
        if not name.strip() or header.count(name) > 1:
            fact = f"the column name {name!r} stands twice" if name.strip() else "a column has no name"
            raise ConfigError(fact, where=where, remedy="Give every column its own name.")


def _records(path: Path, shown: str, delimiter: str) -> Iterator[tuple[list[str], str]]:
    csv.field_size_limit(LONGEST_CELL)
    with open(path, "rb") as f:
        texts = (decode_utf8(line.removeprefix(BOM) if n == 1 else line, f"{shown}:{n}") for n, line in enumerate(f, 1))
        reader = csv.reader(texts, delimiter=delimiter, strict=True)
        while True:
            where = f"{shown}:{reader.line_num + 1}"
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as e:
                remedy = 'Quote cells that hold quotes, and double the quotes: "".'
                if "new-line character" in str(e):  # the csv module's own advice is for programmers
                    raise ConfigError("a carriage return alone ends no line", where=where, remedy="Save it with usual line ends.") from None
                raise ConfigError(f"not CSV: {e}", where=where, remedy=remedy) from None
            if record:
                yield record, where
