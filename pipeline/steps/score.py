"""score: turns `predictions.csv` and the items into `per_item_scores.csv`, one row per item, condition and temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.steps.context import Context, Run

SETTINGS = ("metrics", "unsupported", "abstention", "dataset_kinds")
CODE = ("pipeline/scoring", "pipeline/steps/score.py")


def own_code(this: Run) -> list[Path]:
    """Source files of the user's own metrics: changed code scores anew."""
    metrics = this.experiment.config.get("metrics") or []
    if not metrics:
        return []
    from pipeline.scoring.metrics import source_files

    return [
        path
        for path in source_files(scoring_settings(this).metrics, this.root)
        if path.is_relative_to(this.root) and "pipeline" not in path.relative_to(this.root).parts[:1]
    ]


def inputs(ctx: Context) -> list[Path]:
    """Predictions, items, and the code of the user's own metrics."""
    this = ctx.run
    return [this.paths.trial(ctx.the_trial.slug).predictions, this.item_file("open"), this.item_file("closed"), *own_code(this)]


def targets(ctx: Context) -> list[Path]:
    """`per_item_scores.csv`."""
    return [ctx.run.paths.trial(ctx.the_trial.slug).scores]


def run(ctx: Context) -> dict[str, Any]:
    """Score every answer; facts are counts. Own metrics that are slow are told with their items."""
    from pipeline.scoring.files import score_file

    this, paths = ctx.run, ctx.run.paths.trial(ctx.the_trial.slug)
    facts = score_file(
        paths.predictions, {kind: this.item_file(kind) for kind in ("open", "closed")}, paths.scores, scoring_settings(this), this.root
    )
    if calls := facts.get("slow_calls"):
        slowest = sorted(facts["slow"], key=lambda call: -call["seconds"])[:3]
        named = ", ".join(f"{call['metric']} on {call['item']} ({call['seconds']:.1f} s)" for call in slowest)
        this.notice(f"{calls} call{'s' if calls != 1 else ''} of own metrics took long: {named}")
    return facts


def scoring_settings(this: Run) -> Any:
    """The ScoringSettings of a run's config."""
    from pipeline.scoring.settings import ScoringSettings

    given = this.experiment.settings(("metrics", "unsupported", "abstention"))
    return ScoringSettings.from_config(
        {**{k: v for k, v in given.items() if v}, "kinds": this.experiment.config.get("dataset_kinds") or {}}
    )
