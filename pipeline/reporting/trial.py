"""A trial's report: report.md for pull requests and pipes, report.html with figures and the item explorer for readers."""

from __future__ import annotations

from typing import Any

from pipeline.base.files import write_atomic
from pipeline.reporting import curves, plots
from pipeline.reporting.explorer import explorer_data
from pipeline.reporting.findings import Findings, forest_rows, read_findings
from pipeline.reporting.gauge import gauge
from pipeline.reporting.inputs import TrialReportInputs, load
from pipeline.reporting.pages import html_page, inline_svg, markdown_page
from pipeline.reporting.pairs import Pairs, read_pairs, temp_text
from pipeline.reporting.view import trial_view
from pipeline.reporting.worddiff import word_diff

__all__ = ["TrialReportInputs", "write_trial_report"]


def write_trial_report(inputs: TrialReportInputs) -> None:
    """Write report.md and report.html into `inputs.out_dir`, the same bytes for the same inputs.

    Raises ManifestError where a table or document is missing a column, unreadable, or breaks its schema.
    """
    findings = read_findings(inputs.significance)
    pairs = read_pairs(inputs.scores)
    view = trial_view(inputs, findings, load(inputs.costs))
    write_atomic(inputs.out_dir / "report.md", markdown_page("trial.md.j2", **view))
    control, treatment = (str((inputs.prompts.get(c) or {}).get("text") or "") for c in ("control", "treatment"))
    data = explorer_data(inputs, pairs, findings)
    page = html_page(
        "trial.html.j2",
        script="explorer.js",
        data=data,
        gauge=gauge(findings),
        explorer_left_out=data["left_out"],
        figures=figures(findings, pairs),
        prompt_pieces=dict(zip(("control", "treatment"), word_diff(control, treatment), strict=True)),
        **view,
    )
    write_atomic(inputs.out_dir / "report.html", page)


def entries_of(findings: Findings, pairs: Pairs) -> list[int]:
    """The entries that the primary analysis speaks of: its temperature and type."""
    kind, temp = findings.verdict["type"], temp_text(str(findings.verdict["temp"]))
    return [i for i in range(len(pairs)) if temp_text(pairs.temps[i]) == temp and kind in ("all", pairs.types[i])]


def figures(findings: Findings, pairs: Pairs) -> dict[str, Any]:
    """The figures by name, as inline SVG; None for one that has nothing to show."""
    made: dict[str, str | None] = dict.fromkeys(("forest", "trade", "risk", "outcomes", "differences", "power"))
    row, entries = findings.primary, entries_of(findings, pairs)
    rows, left_out = forest_rows(findings)
    if rows:
        made["forest"] = plots.forest(rows, findings.scale, findings.margin)
    if traded := curves.trades(pairs, entries):
        made["trade"] = plots.trade_off(traded)
    kind, temp = findings.verdict["type"], findings.verdict["temp"]
    risk = [r for r in findings.document["risk"] if (r["type"], r["temp"]) == (kind, temp)]
    if any(r["error"] is not None for r in risk):
        made["risk"] = plots.risk_coverage(risk)
    if won := curves.outcomes(pairs, entries, findings.metric, findings.direction):
        made["outcomes"] = plots.outcome_bars(won)
    graded = next((m for m in (findings.metric, "f1") if curves.is_graded(pairs, entries, m)), None)
    if graded:
        changes = [d for d in map(pairs.differences(graded).__getitem__, entries) if d is not None]
        made["differences"] = plots.differences(changes, graded, 100.0 if findings.is_share(graded) else 1.0, findings.wish(graded))
    if row and row["se"]:
        made["power"] = plots.power_curves(row["se"], row["n_items"], row["mde"], findings.margin, findings.scale)
    return {"left_out": left_out, "graded": graded, **{name: svg and inline_svg(svg) for name, svg in made.items()}}
