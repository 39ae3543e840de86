"""provenance.html: the way to the results, read from provenance.json. Tolerant of keys: what is there is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic
from pipeline.reporting.numbers import plain
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
    scalars = [(label(k), plain(v)) for k, v in provenance.items() if not isinstance(v, (Mapping, list, tuple)) and k != "schema_version"]
    order = [k for k in _TITLES if k in provenance] + [k for k in provenance if k not in _TITLES]
    sections = [section(k, provenance[k]) for k in order if isinstance(provenance[k], (Mapping, list, tuple))]
    title = f"How {provenance.get('trial', 'this trial')} came about"
    write_atomic(out, html_page("provenance.html.j2", title=title, scalars=scalars, sections=sections))


def label(key: str) -> str:
    """A key as words: `locked_at` becomes `locked at`."""
    return re.sub(r"[_-]+", " ", str(key))


def section(key: str, value: Any) -> dict[str, Any]:
    """A part of the page: `pairs` of a mapping, a `table` of a list of mappings or a mapping of mappings, else `lines`."""
    made: dict[str, Any] = {
        "title": _TITLES.get(key, label(key).capitalize()),
        "pairs": [],
        "table": None,
        "lines": [],
        "empty": _EMPTY.get(key, "None."),
    }
    if isinstance(value, Mapping):
        nested = {k: v for k, v in value.items() if isinstance(v, Mapping) and v}
        if nested and len(nested) == len(value):
            made["table"] = table([{"": k, **v} for k, v in nested.items()])
        else:
            made["pairs"] = [(label(k), plain(v)) for k, v in value.items()]
    elif value and all(isinstance(v, Mapping) for v in value):
        made["table"] = table(value)
    else:
        made["lines"] = [plain(v) for v in value]
    return made


def table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns in order of first appearance, cells as text; a list of mappings in a cell is one line each."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    return {"columns": [label(c) for c in columns], "rows": [[_cell(row.get(c)) for c in columns] for row in rows]}


def _cell(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        return "\n".join(plain(v) for v in value)
    return plain(value)
