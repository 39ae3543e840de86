"""How far the primary metric can be trusted: the validation that the caller brings, else ours where there is one (docs/scoring.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.reporting.findings import Findings
from pipeline.reporting.numbers import plain
from pipeline.reporting.pages import asset


def trust_table(trust: Mapping[str, Any] | None, findings: Findings) -> dict[str, Any] | None:
    """Columns, rows of strings and notes; None where nothing is known of the metric. Rows may be lists or mappings by column."""
    found = trust or own_validation(findings)
    if not found:
        return None
    rows = list(found.get("rows") or [])
    columns = [str(c) for c in found.get("columns") or (rows[0] if rows and isinstance(rows[0], Mapping) else [])]
    cells = [[plain(r.get(c)) for c in columns] if isinstance(r, Mapping) else [plain(c) for c in r] for r in rows]
    return {"columns": columns, "rows": cells, "notes": [str(n) for n in found.get("notes") or []]}


def own_validation(findings: Findings) -> dict[str, Any] | None:
    """The agreement of a built-in metric with people, measured once on public data, and what it means for this trial's effect."""
    known = json.loads(asset("agreement.json"))
    metric = known["metrics"].get(findings.metric)
    if metric is None:
        return None
    error = metric["largest_error_of_a_difference"]
    effect = findings.verdict["effect"]
    notes = [
        known["source"],
        f"A difference between two systems, measured by “{findings.metric}” instead of by people, was wrong by up to "
        f"{findings.scale.size(error)} there. "
        "Arms that differ little in length and style are safer; other languages, long answers and other data are less so.",
    ]
    if effect is not None and abs(effect) <= error:
        notes.append(
            "The effect of this trial is no larger than that: judge a sample of items by hand, blind to the arm, before relying on it."
        )
    return {"columns": known["columns"], "rows": metric["rows"], "notes": notes}
