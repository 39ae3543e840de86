"""aggregate: turns the statistics of all trials into the run's `report.html` and `aggregate_report.md`, side by side."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.experiment import Trial
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
    trials = list(this.experiment.trials.values())
    rows = []
    for trial, column in zip(trials, columns(trials), strict=True):
        paths = this.paths.trial(trial.slug)
        link = Path(os.path.relpath(paths.report_html, this.paths.folder)).as_posix()
        rows.append(
            aggregate_row(
                paths.significance,
                link,
                usd=json.loads(paths.costs.read_bytes())["usd"],
                column=column,
            )
        )
    title = this.experiment.config.get("title") or "All trials"
    write_aggregate(rows, this.paths.aggregate_md, this.paths.aggregate_html, title=title, provider=this.experiment.provider)
    return {"trials": len(rows)}


def columns(trials: Sequence[Trial]) -> list[str]:
    """Each trial's column of the matrix: the model and decoding that its arms do not override.

    With the decoding where there are several; the treatment's own where that would put two trials into one cell.
    """
    found = []
    for trial in trials:
        units = (trial.treatment, trial.control)
        model = next((u.model.alias for u in units if "model_id" not in u.arm.overrides), "arms with models of their own")
        decoding = next((u.decoding.slug for u in units if not set(u.arm.overrides) - {"model_id"}), "")
        found.append((model, decoding))
    several = len({decoding for _model, decoding in found if decoding}) > 1
    named = [f"{model} {decoding}".strip() if several else model for model, decoding in found]
    taken = Counter((trial.contrast.name, name) for trial, name in zip(trials, named, strict=True))
    return [
        name if taken[trial.contrast.name, name] == 1 else f"{trial.treatment.model.alias} {trial.treatment.decoding.slug}"
        for trial, name in zip(trials, named, strict=True)
    ]
