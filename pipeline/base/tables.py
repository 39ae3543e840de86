"""CSV as every reader takes it: `\\n` line ends, and a cell that holds a carriage return in quotes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from typing import IO, Any


def csv_writer(stream: IO[str]) -> Callable[[Sequence[Any]], Any]:
    """A function that writes one row to `stream` (opened with newline="").

    Python's csv module leaves a lone carriage return unquoted, and then reads it as the end of the row.
    """
    plain = csv.writer(stream, lineterminator="\n").writerow
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow

    def write(cells: Sequence[Any]) -> Any:
        return (quoted if any(isinstance(c, str) and "\r" in c for c in cells) else plain)(cells)

    return write
