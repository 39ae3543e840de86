"""Manifests kept true: after every run they say what the predicates say, neither more nor less."""

from __future__ import annotations

from pipeline.base.errors import ManifestError, Stopped
from pipeline.engine.action import FAMILY_STEPS, Action
from pipeline.engine.session import Session
from pipeline.experiment import Trial
from pipeline.layout import temp_slug
from pipeline.records.events import seal
from pipeline.records.manifest import STAGE_OF_STEP
from pipeline.records.run_state import STEPS, WITHIN
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


def finished(session: Session) -> bool:
    """Whether every trial's manifest says that all is done: a whole rerun in which nothing happened need not look further.

    A part of a run looked at a part of the files only; the others may have gone since.
    """
    if session.steps != STEPS or session.condition != "both" or len(session.trials) < len(session.experiment.trials):
        return False
    for trial in session.experiment.trials.values():
        manifest = session.manifest(trial)
        if not manifest.path.exists() or any(stage["status"] != "completed" for stage in manifest.document["stage_status"].values()):
            return False
    return True


def all_done(session: Session, phase: str) -> bool:
    """Whether nothing is left to do in a phase, chosen or not."""
    return all(Action(session, step, ctx).why_not_done() is None for step, ctx in _everything(session, phase))


def _everything(session: Session, phase: str) -> list[tuple[str, Context]]:
    run, exp = session.run, session.experiment
    if phase in ("prepare", "archive"):
        return [(phase, Context(run))]
    if phase == "build":
        return [(phase, Context(run, unit=unit)) for unit in exp.units.values()]
    if phase in FAMILY_STEPS:
        return [(phase, Context(run, unit=exp.units[ref.unit], shard=ref)) for refs in run.layout.values() for ref in refs]
    trials = [(phase, Context(run, trial=trial)) for trial in exp.trials.values()]
    return [*trials, *((step, Context(run)) for step, within in WITHIN.items() if within == phase)]


def settle(session: Session) -> None:
    """At the end no phase is in progress any more: with several threads one may have begun after another had failed. And where nothing
    failed, a phase in which all is done is completed, whoever reported it (`doit run -r json` tells us nothing). The log is sealed."""
    state = session.run.state
    if state is None:
        return
    stopped = any(isinstance(e, Stopped) for e in session.errors)
    for step in STEPS:
        if not session.errors and step in session.steps and state.status(step) != "completed" and all_done(session, step):
            state.move(step, "in_progress")
            state.move(step, "completed")
        elif state.status(step) == "in_progress":
            state.move(step, "stopped" if stopped or not session.errors else "failed", str(session.errors[-1]) if session.errors else None)
    if state["stop_requested"] != stopped:
        state.update(stop_requested=stopped)
    if session.run.events_written:
        state.update(events=seal(session.run.paths.events))


def refresh(session: Session) -> None:
    """Bring every trial's manifest up to what is on disk."""
    if session.run.built() is None:
        return
    for trial in session.experiment.trials.values():
        manifest = session.manifest(trial)
        jobs, status, datasets = _jobs(session, trial)
        known = {"run_id": session.run.paths.run_id} if "legacy" in manifest.document else session.facts(trial)
        manifest.set_facts(**known, jobs=jobs, job_status=status, datasets=datasets)
        changed = False
        for stage, verdict in stages(session, trial).items():
            said = manifest.stage(stage)["status"]
            if verdict == "completed" or said in ("completed", "in_progress"):
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
            record = SubmissionRecord.load(session.run.shard_paths(ref))
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
