"""CSV as every reader takes it: `\\n` line ends, and a cell that holds a carriage return in quotes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from typing import IO, Any

_TO_QUOTE = frozenset(',"\n\r')


def csv_writer(stream: IO[str]) -> Callable[[Sequence[Any]], Any]:
    """A function that writes one row to `stream` (opened with newline="").

    Python's csv module leaves a lone carriage return unquoted, and then reads it as the end of the row.
    """
    plain = csv.writer(stream, lineterminator="\n").writerow

    def write(cells: Sequence[Any]) -> Any:
        if any(isinstance(c, str) and "\r" in c for c in cells):
            return stream.write(",".join(map(_cell, cells)) + "\n")
        return plain(cells)

    return write


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if _TO_QUOTE.isdisjoint(text) else '"' + text.replace('"', '""') + '"'
