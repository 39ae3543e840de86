"""The run's report over all trials: contrasts by models, each cell an effect with its simultaneous interval and a link to its trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic
from pipeline.reporting.findings import VERDICT_WORDS, Findings, findings_of, read_findings
from pipeline.reporting.gauge import place_on
from pipeline.reporting.numbers import DRY, dollars
from pipeline.reporting.pages import html_page, markdown_page


@dataclass(frozen=True)
class AggregateRow:
    """One trial of the run. Effect, low, high and margin are oriented (positive is good) and in stored units."""

    trial: str
    contrast: str
    control: str
    treatment: str
    model: str
    """With its decoding where one model has several: the column of the matrix."""
    metric: str
    verdict: str
    sentence: str
    effect: str
    """Printed: `+4.2 points`."""
    interval: str
    """Printed, simultaneous over the primary family."""
    numbers: tuple[float | None, float | None, float | None]
    """(effect, low, high)."""
    margin: float | None
    role: str
    usd: float | None
    margin_text: str | None
    """Printed: `5.0 points`."""
    intervals: str
    """What its interval is: level, simultaneity and how that is reached."""
    report: str
    """Link to the trial's report.html, relative to the aggregate."""


def aggregate_row(
    significance: Path | Mapping[str, Any], report: str, *, usd: float | None = None, column: str | None = None
) -> AggregateRow:
    """The row of a trial from its significance.json (path or document). `column` overrides the model as the matrix's column.

    Raises ManifestError where the document breaks its schema.
    """
    findings: Findings = findings_of(significance) if isinstance(significance, Mapping) else read_findings(significance)
    document, verdict = findings.document, findings.verdict
    effect, low, high = findings.effect()
    return AggregateRow(
        trial=document["trial"],
        contrast=document["contrast"]["name"],
        control=document["contrast"]["control"],
        treatment=document["contrast"]["treatment"],
        model=column or document["model"],
        metric=findings.metric,
        verdict=findings.kind,
        sentence=verdict["sentence"],
        effect=findings.scale.effect(effect),
        interval=findings.scale.interval(low, high),
        numbers=(effect, low, high),
        margin=findings.margin,
        role=verdict["role"],
        usd=usd,
        margin_text=findings.scale.size(findings.margin) if findings.margin else None,
        intervals=f"{findings.decides[0].lower()}{findings.decides[1:]}: {document['family']['method']}",
        report=report,
    )


def write_aggregate(
    trials: Sequence[AggregateRow], out_md: Path, out_html: Path, *, title: str = "All trials", provider: str | None = None
) -> None:
    """Write the aggregate as Markdown and HTML, the same bytes for the same trials in the same order."""
    context = {**aggregate_view(trials), "title": title, "banner": DRY if provider == "simulated" else None}
    write_atomic(out_md, markdown_page("aggregate.md.j2", **context))
    write_atomic(out_html, html_page("aggregate.html.j2", **context))


def aggregate_view(trials: Sequence[AggregateRow]) -> dict[str, Any]:
    """The matrix (rows: contrast and metric; columns: models) and the list of trials, as the templates want them."""
    models = list(dict.fromkeys(t.model for t in trials))
    axis = [v for t in trials for v in (*t.numbers, t.margin, -t.margin if t.margin else None) if v is not None] + [0.0]
    lines: dict[tuple[str, str, str, str], dict[str, dict[str, Any]]] = {}
    for t in trials:
        lines.setdefault((t.contrast, t.treatment, t.control, t.metric), {}).setdefault(t.model, _cell(t, axis))
    matrix = [
        {"contrast": k[0], "treatment": k[1], "control": k[2], "metric": k[3], "cells": [cells.get(m) for m in models]}
        for k, cells in lines.items()
    ]
    return {
        "models": models,
        "matrix": matrix,
        "trials": [_cell(t, axis) for t in trials],
        "intervals": "; ".join(dict.fromkeys(t.intervals for t in trials)),
        "margins": list(dict.fromkeys(t.margin_text for t in trials if t.margin_text)),
        "usd": dollars(sum(t.usd or 0 for t in trials)) if any(t.usd is not None for t in trials) else None,
    }


def _cell(t: AggregateRow, axis: Sequence[float]) -> dict[str, Any]:
    return {
        "trial": t.trial,
        "report": t.report,
        "effect": t.effect,
        "interval": t.interval,
        "word": VERDICT_WORDS.get(t.verdict, t.verdict),
        "kind": t.verdict,
        "sentence": t.sentence,
        "exploratory": t.role != "primary",
        "usd": dollars(t.usd),
        "gauge": place_on(axis, *t.numbers, t.margin),
    }
