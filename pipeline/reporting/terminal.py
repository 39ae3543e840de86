"""The last lines of `doit run`: the verdict of each trial in one sentence, and the small table behind it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from pipeline.reporting.findings import Findings, findings_of
from pipeline.reporting.numbers import count, p_value

_COLUMNS = ("trial", "metric", "control", "treatment", "effect", "interval", "p", "items", "clusters", "verdict")
_FIRST_TO_GO = ("metric", "clusters", "items", "control", "treatment", "p")
"""Columns that a narrow terminal does without, in this order."""
_RIGHT = {"control", "treatment", "effect", "p", "items", "clusters"}
_STYLE = {"better": "green", "equivalent": "green", "not_inferior": "green", "worse": "red", "undecided": "yellow", "no_verdict": "yellow"}


def verdict_lines(significance: Mapping[str, Any]) -> list[str]:
    """The verdict in one sentence, its reason where it has one, and each caveat, a line each."""
    verdict = significance["verdict"]
    lines = [str(verdict["sentence"])]
    if verdict["reason"] and verdict["reason"] not in lines[0]:
        lines.append(f"Reason: {verdict['reason']}")
    return [_clean(line) for line in [*lines, *(f"Note: {c}" for c in verdict["caveats"])]]


def verdict_row(significance: Mapping[str, Any]) -> dict[str, str]:
    """The numbers behind the verdict, a string per column of the table."""
    findings: Findings = findings_of(significance)
    row, verdict = findings.primary, findings.verdict
    effect, low, high = findings.effect()
    return {
        "trial": _clean(str(significance["trial"])),
        "metric": findings.metric,
        "control": findings.scale.level(row.get("control_mean")),
        "treatment": findings.scale.level(row.get("treatment_mean")),
        "effect": findings.scale.number(effect),
        "interval": findings.scale.interval(low, high),
        "p": p_value(row.get("p_value")),
        "items": count(verdict["n_items"]),
        "clusters": count(verdict["n_clusters"]),
        "verdict": findings.word,
    }


def print_verdicts(documents: Sequence[Mapping[str, Any]], stream: IO[str] | None = None) -> None:
    """Print sentence and table for each trial: with colour on a terminal (unless NO_COLOR is set), plain columns otherwise."""
    out = stream or sys.stdout
    for document in documents:
        for line in verdict_lines(document):
            print(line, file=out)
    rows = [verdict_row(d) for d in documents]
    if not rows:
        return
    if out.isatty() and os.environ.get("TERM") != "dumb":
        _print_rich(rows, [str(d["verdict"]["verdict"]) for d in documents], out)
    else:
        print("\n".join(plain_table(rows)), file=out)


def plain_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Aligned columns with a header line, two spaces apart."""
    widths = _widths(rows)

    def line(cells: Mapping[str, str]) -> str:
        return "  ".join(cells[c].rjust(widths[c]) if c in _RIGHT else cells[c].ljust(widths[c]) for c in _COLUMNS).rstrip()

    return [line({c: c for c in _COLUMNS}), *map(line, rows)]


def _widths(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    return {c: max(len(c), *(len(r[c]) for r in rows)) for c in _COLUMNS}


def fitting_columns(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The columns that fit into `width` characters with the rules of the table between them; the trial's name may fold to 16."""
    widths = {**_widths(rows), "trial": min(16, _widths(rows)["trial"])}
    columns = list(_COLUMNS)
    for column in _FIRST_TO_GO:
        if sum(widths[c] + 3 for c in columns) <= width:
            break
        columns.remove(column)
    return columns


def _print_rich(rows: Sequence[Mapping[str, str]], kinds: Sequence[str], out: IO[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out, highlight=False, no_color="NO_COLOR" in os.environ or None)
    columns = fitting_columns(rows, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _RIGHT else "left", no_wrap=column != "trial", overflow="fold")
    for row, kind in zip(rows, kinds, strict=True):
        style = _STYLE.get(kind, "")
        table.add_row(*(Text(row[c], style=style if c in ("effect", "verdict") else "") for c in columns))
    console.print(table)


def _clean(text: str) -> str:
    """Without control characters, so that no text can move the cursor or colour the screen."""
    return "".join(c for c in text if c.isprintable())
