"""Manifests kept true: after every run they say what the predicates say, neither more nor less."""

from __future__ import annotations

from pipeline.base.errors import ManifestError
from pipeline.engine.action import Action
from pipeline.engine.session import Session
from pipeline.experiment import Trial
from pipeline.layout import temp_slug
from pipeline.records.manifest import STAGE_OF_STEP
from pipeline.records.submission import SubmissionRecord
from pipeline.steps.context import Context

JOB_STATUS = {"intent": "pending", "submitted": "submitted", "owing": "running", "published": "downloaded"}
TRIAL_STEPS = ("parse", "score", "stats", "costs", "report")


def stages(session: Session, trial: Trial) -> dict[str, str]:
    """What the predicates say of each stage of a trial: `completed` or `pending`."""
    run = session.run
    ctx = Context(run, trial=trial)
    refs = [ref for _c, ref in run.trial_shards(trial)]
    downloaded = all(
        Action(session, "poll", Context(run, unit=run.experiment.units[ref.unit], shard=ref)).why_not_done() is None for ref in refs
    )
    found = {"downloaded": "completed" if downloaded else "pending"}
    for step in TRIAL_STEPS:
        found[STAGE_OF_STEP[step]] = "completed" if Action(session, step, ctx).why_not_done() is None else "pending"
    found["archived"] = "completed" if Action(session, "archive", Context(run)).why_not_done() is None else "pending"
    return found


def refresh(session: Session) -> None:
    """Bring every trial's manifest up to what is on disk."""
    if session.run.built() is None:
        return
    for trial in session.experiment.trials.values():
        manifest = session.manifest(trial)
        jobs, status, datasets = _jobs(session, trial)
        manifest.set_facts(run_id=session.run.paths.run_id, jobs=jobs, job_status=status, datasets=datasets)
        changed = False
        for stage, verdict in stages(session, trial).items():
            known = manifest.stage(stage)["status"]
            if verdict == "completed" or known in ("completed", "in_progress"):
                changed |= manifest.set_stage(stage, verdict, save=False)
        if changed:
            manifest.save()


def _jobs(session: Session, trial: Trial) -> tuple[dict[str, list[str]], dict[str, str], dict[str, list[str]]]:
    """(jobs, job_status, datasets) by shard key `t0_control_p00`."""
    jobs: dict[str, list[str]] = {}
    status: dict[str, str] = {}
    datasets: dict[str, list[str]] = {}
    for condition, ref in session.run.trial_shards(trial):
        slug = temp_slug(ref.temp)
        key = f"{slug}_{condition}_{ref.key.removeprefix(slug + '_')}"
        try:
            record = SubmissionRecord.load(session.run.shard_paths(ref).submission)
        except FileNotFoundError:
            status[key] = "pending"
            continue
        except ManifestError:
            status[key] = "unknown"
            continue
        status[key] = JOB_STATUS[record["state"]]
        if names := [str(a["ids"]["job"]) for a in record["attempts"] if a["ids"].get("job")]:
            jobs[key] = names
        if names := [str(a["ids"]["input_dataset"]) for a in record["attempts"] if a["ids"].get("input_dataset")]:
            datasets[key] = names
    return jobs, status, datasets
