"""provenance.html: the way to the results, read from provenance.json. Tolerant of keys: what is there is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic
from pipeline.reporting.numbers import count, dollars, plain
from pipeline.reporting.pages import html_page

_TITLES = {
    "versions": "Versions",
    "provider": "Provider",
    "prompts": "Prompts",
    "shards": "Jobs and attempts",
    "money": "Money",
    "reuse": "Reuse",
    "looks": "Looks at the results",
    "forced": "Forced",
    "registrations": "Registrations",
    "notes": "Notes",
}
_EMPTY = {
    "looks": "The results were computed once: no look before this one is on record.",
    "forced": "Nothing was forced.",
    "reuse": "No answer was reused.",
    "notes": "None.",
}


def write_provenance_report(provenance: Mapping[str, Any], out: Path) -> None:
    """Write provenance.html: hashes, versions, times, jobs, attempts, reuse, money and looks of one trial."""
    scalars = [(label(k), cell(k, v)) for k, v in provenance.items() if not isinstance(v, (Mapping, list, tuple)) and k != "schema_version"]
    order = [k for k in _TITLES if k in provenance] + [k for k in provenance if k not in _TITLES]
    sections = [section(k, provenance[k]) for k in order if isinstance(provenance[k], (Mapping, list, tuple))]
    title = f"How {provenance.get('trial', 'this trial')} came about"
    write_atomic(out, html_page("provenance.html.j2", title=title, scalars=scalars, sections=sections))


def label(key: str) -> str:
    """A key as words: `locked_at` becomes `locked at`."""
    return str(key).replace("_", " ")


def section(key: str, value: Any) -> dict[str, Any]:
    """A part of the page: `pairs` of a mapping, `tables` of a list of mappings or a mapping of mappings, else `lines`."""
    made: dict[str, Any] = {
        "title": _TITLES.get(key, label(key).capitalize()),
        "pairs": [],
        "tables": [],
        "lines": [],
        "empty": _EMPTY.get(key, "None."),
    }
    if isinstance(value, Mapping):
        nested = {k: v for k, v in value.items() if isinstance(v, Mapping) and v}
        if nested and len(nested) == len(value):
            made["tables"] = [table("", [{"of": k, **v} for k, v in nested.items()])]
        else:
            made["pairs"] = [(label(k), cell(k, v)) for k, v in value.items()]
    elif value and all(isinstance(v, Mapping) for v in value):
        made["tables"] = nested_tables(value)
    else:
        made["lines"] = [plain(v) for v in value]
    return made


def nested_tables(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A table of the rows, and one for each key that holds lists of mappings (a shard's attempts), led by the row's own name."""
    inner = list(
        dict.fromkeys(k for row in rows for k, v in row.items() if isinstance(v, list) and v and all(isinstance(x, Mapping) for x in v))
    )
    flat = [{k: len(v) if k in inner and isinstance(v, list) else v for k, v in row.items()} for row in rows]
    made = [table("", flat)]
    for key in inner:
        name = next((k for k in ("shard", "key", "name") if k in rows[0]), next(iter(rows[0])))
        made.append(
            table(
                label(key).capitalize(),
                [
                    {name: row.get(name), **{f"{k} " if k == name else k: v for k, v in one.items()}}
                    for row in rows
                    for one in row.get(key) or []
                ],
            )
        )
    return made


def table(caption: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns in order of first appearance, cells as text."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    return {"caption": caption, "columns": [label(c) for c in columns], "rows": [[cell(c, row.get(c)) for c in columns] for row in rows]}


def cell(key: str, value: Any) -> str:
    """A value as text: dollars under keys that end in `usd`, times to the second, counts with separators."""
    if key.strip().endswith("usd") and isinstance(value, (int, float)):
        return dollars(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value):
        return f"{value[:10]} {value[11:19]} UTC"
    return plain(value)
