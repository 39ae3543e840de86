"""Data frames by whichever library is there: polars, else pandas. Nothing is imported before a frame is asked for."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import UsageError
from pipeline.base.files import write_atomic

Kinds = Mapping[str, type]
"""Column -> str, int or float; every column may have empty cells."""


def _there(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def library() -> str:
    """`polars` or `pandas`. Raises UsageError naming the extra where neither is installed."""
    for name in ("polars", "pandas"):
        if _there(name):
            return name
    remedy = "Install one: pip install 'abiding[frames]' (polars), or pip install pandas."
    raise UsageError("data frames need polars or pandas", remedy=remedy)


def read_csv(path: Path, kinds: Kinds) -> Any:
    """The frame of a CSV file; an empty cell is null."""
    if library() == "polars":
        import polars

        types = {str: polars.String, int: polars.Int64, float: polars.Float64}
        return polars.read_csv(path, schema={name: types[kind] for name, kind in kinds.items()})
    import pandas

    names = {str: "string", int: "Int64", float: "float64"}
    return pandas.read_csv(path, dtype={n: names[k] for n, k in kinds.items()}, keep_default_na=False, na_values=[""], lineterminator="\n")


def from_rows(rows: Sequence[Mapping[str, Any]]) -> Any:
    """The frame of rows with the same or some of the same keys; what a row lacks is null."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    if library() == "polars":
        import polars

        return polars.DataFrame({name: polars.Series(name, values, strict=False) for name, values in columns.items()})
    import pandas

    return pandas.DataFrame(columns)


def parquet_writer() -> str | None:
    """What can write Parquet here: `polars`, `pandas` (with pyarrow), or None."""
    if _there("polars"):
        return "polars"
    return "pandas" if _there("pandas", "pyarrow") else None


def write_parquet(csv_path: Path, path: Path, kinds: Kinds) -> None:
    """The rows of a CSV file as Parquet, atomically; the same bytes for the same rows and library."""
    sink = io.BytesIO()
    frame = read_csv(csv_path, kinds)
    if parquet_writer() == "polars":
        frame.write_parquet(sink)
    else:
        frame.to_parquet(sink, index=False)
    write_atomic(path, sink.getvalue())
