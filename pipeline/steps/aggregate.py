"""aggregate: turns the statistics of all trials into the run's `report.html` and `aggregate_report.md`, side by side."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline.steps.context import Context

SETTINGS = ("title",)
CODE = ("pipeline/reporting", "pipeline/steps/aggregate.py")


def inputs(ctx: Context) -> list[Path]:
    """Statistics and costs of every trial."""
    trials = [ctx.run.paths.trial(slug) for slug in ctx.run.experiment.trials]
    return [path for t in trials for path in (t.significance, t.costs)]


def targets(ctx: Context) -> list[Path]:
    """The run's two reports."""
    return [ctx.run.paths.aggregate_md, ctx.run.paths.aggregate_html]


def run(ctx: Context) -> dict[str, Any]:
    """Write them."""
    from pipeline.reporting.aggregate import aggregate_row, write_aggregate

    this = ctx.run
    trials = this.experiment.trials.values()
    decodings = {t.treatment.decoding.slug for t in trials}
    rows = []
    for trial in trials:
        paths = this.paths.trial(trial.slug)
        link = Path(os.path.relpath(paths.report_html, this.paths.folder)).as_posix()
        alias = trial.treatment.model.alias
        rows.append(
            aggregate_row(
                paths.significance,
                link,
                usd=json.loads(paths.costs.read_bytes())["usd"],
                column=alias if len(decodings) == 1 else f"{alias} {trial.treatment.decoding.slug}",
            )
        )
    write_aggregate(rows, this.paths.aggregate_md, this.paths.aggregate_html, title=this.experiment.config.get("title") or "All trials")
    return {"trials": len(rows)}
