"""report: turns a trial's scores, statistics and costs into `report.md` and `report.html`, with `provenance.html` beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.base.schemas import write_document
from pipeline.experiment import TYPES, Experiment, Trial, Unit
from pipeline.reporting.numbers import plain
from pipeline.steps.context import Context
from pipeline.steps.provenance import provenance_of

SETTINGS = ("title", "primary", "unsupported")
CODE = ("pipeline/reporting", "pipeline/steps/report.py")


def inputs(ctx: Context) -> list[Path]:
    """All result files of the trial, and its items."""
    paths = ctx.run.paths.trial(ctx.the_trial.slug)
    return [paths.significance, paths.costs, paths.scores, paths.predictions, *(ctx.run.item_file(kind) for kind in TYPES)]


def targets(ctx: Context) -> list[Path]:
    """The reports, and the way to them."""
    paths = ctx.run.paths.trial(ctx.the_trial.slug)
    return [paths.report_md, paths.report_html, paths.provenance, paths.provenance_html]


def run(ctx: Context) -> dict[str, Any]:
    """Write the reports, and provenance.json and .html, which tell the way there."""
    from pipeline.reporting.provenance import write_provenance_report
    from pipeline.reporting.trial import TrialReportInputs, write_trial_report

    this, trial = ctx.run, ctx.the_trial
    paths, exp = this.paths.trial(trial.slug), this.experiment
    write_trial_report(
        TrialReportInputs(
            title=exp.config.get("title") or trial.contrast.name,
            contrast={"name": trial.contrast.name, "control": trial.contrast.control, "treatment": trial.contrast.treatment},
            model=of_both(trial, lambda unit: unit.model.alias),
            provider=exp.provider,
            decoding=decoding_of(exp, trial),
            prompts={
                condition: {"path": unit.arm.prompt_path, "text": unit.arm.prompt or "", "sha256": unit.arm.prompt_sha256}
                for condition, unit in (("control", trial.control), ("treatment", trial.treatment))
            },
            significance=paths.significance,
            costs=paths.costs,
            scores=paths.scores,
            predictions=paths.predictions,
            item_files={kind: this.item_file(kind) for kind in TYPES},
            planned=exp.primary,
            out_dir=paths.reports,
            changes=changes(ctx),
            raw_files=raw_files(ctx),
        )
    )
    provenance = provenance_of(ctx)
    write_document(paths.provenance, provenance, "provenance")
    write_provenance_report(provenance, paths.provenance_html)
    verdict = json.loads(paths.significance.read_bytes())["verdict"]
    return {
        "verdict": verdict["verdict"],
        "report": str(paths.report_html.relative_to(this.root)) if paths.report_html.is_relative_to(this.root) else str(paths.report_html),
    }


def of_both(trial: Trial, tell: Callable[[Unit], Any]) -> str:
    """What is told of both units, once where they agree; arms may override model and decoding."""
    control, treatment = plain(tell(trial.control)), plain(tell(trial.treatment))
    return treatment if control == treatment else f"{treatment} (treatment) and {control} (control)"


def decoding_of(exp: Experiment, trial: Trial) -> dict[str, str]:
    """How answers were drawn; formats, tools and stops only where there are any."""
    told = {
        "temperature": ", ".join(str(t) for t in trial.temps),
        "top_p": of_both(trial, lambda unit: unit.decoding.top_p),
        "top_k": of_both(trial, lambda unit: unit.decoding.top_k),
        "max_new_tokens": of_both(
            trial, lambda unit: ", ".join(f"{unit.decoding.max_tokens(kind)} {kind}-book" for kind in sorted(exp.instructions))
        ),
        "stop": of_both(trial, lambda unit: " ".join(map(repr, unit.decoding.stop))),
        "extra_body": of_both(trial, lambda unit: unit.decoding.extra_body.replace("{}", "")),
        "replicates": ", ".join(str(exp.samples(t)) for t in trial.temps),
    }
    return {key: value for key, value in told.items() if key not in ("stop", "extra_body") or value != plain(None)}


def changes(ctx: Context) -> list[str]:
    """What differs from the lock, a sentence each."""
    state = ctx.run.state
    locked = state["locked"] if state else None
    if not locked:
        return ["No lock is on record: the primary analysis cannot be shown to have been declared before the answers were there."]
    was, now = locked["primary"], ctx.run.experiment.primary
    return [
        f"Primary {key}: locked as {was.get(key)!r}, now {now.get(key)!r}."
        for key in dict.fromkeys([*now, *was])
        if was.get(key) != now.get(key)
    ]


def raw_files(ctx: Context) -> list[tuple[str, int]]:
    """Where the raw answers stand, in the order of predictions.csv: (file relative to the run's folder, lines in it)."""
    this = ctx.run
    return [
        (this.shard_paths(shard).results.relative_to(this.paths.folder).as_posix(), shard.requests)
        for _condition, shard in this.trial_shards(ctx.the_trial)
    ]
