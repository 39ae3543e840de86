"""Opening a run for work: lock, state, drift, snapshot, generation; and pre-registration, before the first request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.base.digests import canonical_json, digest
from pipeline.base.errors import AbidingError, ManifestError, UsageError
from pipeline.base.files import Journal, put_aside, sweep_dead, sweep_temporaries
from pipeline.config import Overrides, read_yaml
from pipeline.engine import mending
from pipeline.engine.action import code_digest, module
from pipeline.engine.assess import ORDER
from pipeline.engine.session import Session
from pipeline.experiment import Experiment
from pipeline.layout import RunPaths
from pipeline.records import looks, snapshot
from pipeline.records.clock import now_iso
from pipeline.records.lock import RunLock
from pipeline.records.manifest import refuse_newer
from pipeline.records.repair import FRESH, lock_digest, was_sent
from pipeline.records.run_state import RunState
from pipeline.records.stop import StopToken

NO_DRIFT = ("paths", "run_id", "max_usd", "sources", "sweep", "models")
"""Keys whose words may differ where nothing changed: resolved, chosen on the command line, or covered by the requests' own hash."""


class Drift(AbidingError):
    """The requests of an existing run would change: answers would be paid for again."""

    exit_code = 2


def open_run(session: Session) -> RunLock:
    """Take the run's lock and make its state fit for work. Raises Locked, Drift, UsageError; then nothing was changed."""
    run = session.run
    paths = run.paths
    check_existence(session)
    lock = RunLock(paths.lock)
    lock.acquire()
    try:
        run.stop = StopToken(paths.stop_request)
        run.stop.clear_old_request()
        run.state = _state(session)
        for step in run.state.recognise_interruption():
            run.events.add("interruption_recognised", step=step)
        sweep_temporaries(paths.folder)
        sweep_dead(paths.experiments)
        for aside in snapshot.save(session.experiment, paths, session.root):
            run.notice(f"{aside.name} is the run's snapshot as it was found; it did not fit the run and was written anew")
        mending.build_manifest(session)
        if session.params.get("verify"):
            mending.event_log(session)
            mending.twins(session)
        if run.options.fresh:
            run.state.force(
                f"{FRESH}: a new generation of answers", None, str(run.state["generation"] + 1), generation=run.state["generation"] + 1
            )
    except BaseException:
        lock.release()
        raise
    return lock


def check_existence(session: Session) -> None:
    """Raise UsageError where `--resume` was said of a run that is not there."""
    paths = session.run.paths
    if session.params.get("resume") and not any(p.exists() for p in (paths.state, paths.effective_config, paths.build_manifest)):
        raise UsageError(f"there is no run {paths.run_id}", where=str(paths.folder), remedy=_others(paths.experiments))


def _others(experiments: Path) -> str:
    known = sorted(p.name.removeprefix("run_") for p in experiments.glob("run_*")) if experiments.is_dir() else []
    named = f"Runs here: {', '.join(known[:8])}. Name one with --run_id, or" if known else "Without --resume a new run begins:"
    return f"{named} leave --resume out to begin a new one." if known else f"{named} doit run"


def _state(session: Session) -> RunState:
    run, exp = session.run, session.experiment
    path = run.paths.state
    try:
        state = RunState.load(path)
    except FileNotFoundError:
        state = None
    except ManifestError as e:
        refuse_newer(path)
        aside = put_aside(path)
        run.notice(f"run_state.json was corrupt and lies beside as {aside.name}; it is rebuilt from the files ({e})")
        state = None
    config_path = str(exp.config.path.relative_to(session.root)) if exp.config.path.is_relative_to(session.root) else str(exp.config.path)
    if state is None:
        state = RunState.new(
            path,
            run_id=run.paths.run_id,
            config_path=config_path,
            provider=exp.provider,
            config_hash=exp.config_hash,
            request_hash=exp.request_hash,
            primary_hash=digest(exp.primary),
        )
        state.document["extends"] = extended(session)
        if was_sent(run.paths.folder):
            mending.restore(session, state)
            _check_drift(session, state)
        state.save()
        return state
    _check_drift(session, state)
    return state


def extended(session: Session) -> str | None:
    """The newest run that differs from this new one in its choice of items alone: its answers are reused, the new items are paid."""
    mine = {k: v for k, v in session.experiment.identity.items() if k != "items"}
    candidates: list[tuple[str, str]] = []
    for folder in session.run.paths.experiments.glob("run_*"):
        run_id = folder.name.removeprefix("run_")
        if run_id == session.run.paths.run_id:
            continue
        try:
            state = RunState.load(folder / "run_state.json")
            config = snapshot.load(RunPaths(session.run.paths.experiments, run_id), session.root, Overrides(run_id=run_id))
            if config is None or state["provider"] != session.experiment.provider:
                continue
            other = {k: v for k, v in Experiment(config, session.cache.sha256).identity.items() if k != "items"}
        except (AbidingError, FileNotFoundError):  # a run that cannot be read is not one to build on
            continue
        if other == mine:
            candidates.append((state["phases"]["submit"]["updated_at"] or "", run_id))
    return max(candidates)[1] if candidates else None


def drift_of(session: Session, state: RunState) -> Drift | None:
    """Why this run may not go on with these requests; None where they are its own, or `--force` accepts them."""
    run = session.run
    if run.options.force or run.built() is not None or state["request_hash"] == run.experiment.request_hash:
        return None
    return Drift(
        f"the requests of run {run.paths.run_id} would change: {request_changes(session)}",
        where=str(run.paths.effective_config),
        remedy=f"Finish it from its own snapshot (doit run --run_id {run.paths.run_id} --resume), "
        "begin a new run (leave --run_id out), or accept it with --force.",
    )


def _check_drift(session: Session, state: RunState) -> None:
    run, exp = session.run, session.experiment
    if state["request_hash"] != exp.request_hash and run.built() is not None:
        # The shards are those of this experiment, and so is its config: it is the state that errs.
        run.events.add("state_mended", key="request_hash", was=state["request_hash"], now=exp.request_hash)
        state.update(request_hash=exp.request_hash)
    if (drift := drift_of(session, state)) is not None:
        raise drift
    if state["request_hash"] != exp.request_hash:
        changed = request_changes(session)
        more: dict[str, Any] = {"request_hash": exp.request_hash}
        if state["locked"] is not None:  # what is asked now is locked anew before it is sent, with the looks there were until then
            locked = {**state["locked"], "asked": None}
            more |= {"locked": locked, "primary_hash": lock_digest(locked)}
        state.force(f"requests changed: {changed}", state["request_hash"], exp.request_hash, **more)
        run.events.add("drift_forced", changed=changed)
    if state["config_hash"] != exp.config_hash:
        keys = config_changes(session)
        run.events.add("config_changed", was=state["config_hash"], now=exp.config_hash, changed=keys)
        if keys:
            run.notice(f"the config changed since: {', '.join(keys[:6])} (read by {steps_reading(keys)}); nothing is asked again for that")
        state.update(config_hash=exp.config_hash)


def config_changes(session: Session) -> list[str]:
    """Key paths in which the config differs from the one that the run last worked with; none where that cannot be read."""
    try:
        old, _lines = read_yaml(session.run.paths.effective_config)
    except AbidingError:
        return []
    now = session.config.data
    keys = [key for key in dict.fromkeys([*old, *now]) if key not in NO_DRIFT]
    return [d for key in keys for d in differences(old.get(key), now.get(key), key)]


def steps_reading(changed: list[str]) -> str:
    """The steps that read any of these keys."""
    roots = {path.partition(".")[0] for path in changed}
    return ", ".join(step for step in ORDER if roots & set(module(step).SETTINGS)) or "no step"


def request_changes(session: Session) -> str:
    """Which parts of the identity differ from the run's snapshot, in words."""
    try:
        old_config = snapshot.load(session.run.paths, session.root, Overrides(run_id=session.run.paths.run_id))
        old = Experiment(old_config, session.cache.sha256).identity if old_config else {}
    except AbidingError as e:
        return f"its snapshot cannot be read ({e})"
    return ", ".join(differences(old, session.experiment.identity)[:6]) or "its snapshot is incomplete"


def differences(old: object, new: object, at: str = "") -> list[str]:
    """Key paths at which two plain documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            d for key in dict.fromkeys([*old, *new]) for d in differences(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
        ]
    return [] if old == new else [at]


def register(session: Session) -> None:
    """Lock the primary analysis before the first request: in the state, and in `registry.jsonl` outside the run's folder."""
    run, exp = session.run, session.experiment
    state = run.state
    assert state is not None
    locked = state["locked"]
    if locked is not None and ("asked" not in locked or locked["asked"] is not None):
        return
    if locked is None:
        locked = {
            "at": now_iso(),
            "primary": exp.primary,
            "prompts": {name: arm.prompt_sha256 for name, arm in exp.arms.items()},
            "items": exp.prepared_id,
            "scorers": code_digest(session, ("pipeline/scoring",)),
        }
    kind = exp.primary["type"]
    locked["asked"] = looks.asked_of(looks.fingerprints(run.stream_items(kind)), exp.samples(exp.primary["temperature"]))
    comparisons = {trial.slug: looks.comparison_of(exp, trial) for trial in exp.trials.values()}
    seen = looks.earlier(run.paths.registry, comparisons, locked["asked"], lambda: set(looks.fingerprints(run.stream_items(kind))))
    primary_hash = lock_digest(locked)
    registry = Journal(run.paths.registry)
    try:
        registry.append(
            canonical_json(
                {"run_id": run.paths.run_id, "primary_hash": primary_hash, "request_hash": exp.request_hash, "looks": seen, **locked}
            )
        )
    finally:
        registry.close()
    state.update(locked=locked, primary_hash=primary_hash, looks=seen)
    objections = (looks.objection(seen, slug, locked["asked"], exp.primary.get("looks", [])) for slug in comparisons)
    if (reason := next(filter(None, objections), None)) is not None:
        run.notice(f"there will be no verdict: {reason} (docs/statistics.md, Looks)")
    run.events.add("registered", primary_hash=primary_hash)
