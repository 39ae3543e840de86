"""`doit run --plan_only`: every phase with what would happen and why, what each shard would send, and what that may cost."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

from pipeline.engine import opening
from pipeline.engine.assess import Assessment, assess, by_step
from pipeline.engine.forecast import Forecast, forecasts
from pipeline.engine.session import Session
from pipeline.records.other_runs import unfinished
from pipeline.steps import foresight

WORDS = {"run": "execute", "done": "skip (already done)", "not selected": "skip (not selected)", "blocked": "blocked"}


def foresee(session: Session) -> list[Assessment]:
    """What `doit run` would do: the assessment, with everything blocked that the gate of a drifted run would keep from running."""
    found = assess(session)
    state = session.run.state
    if state is not None and (drift := opening.drift_of(session, state)) is not None:
        for entry in found:
            if entry.verdict == "run":
                entry.verdict, entry.reason = "blocked", f"{drift.fact} (--force accepts it)"
    return found


def make(session: Session) -> dict[str, Any]:
    """The plan as a document. Writes nothing. Raises UsageError where `--resume` names no run, ConfigError where `build` would refuse."""
    opening.check_existence(session)
    found = foresee(session)
    if any(a.step == "build" and a.verdict == "run" for a in found):
        _check_analysis(session)
    shards = forecasts(session) if {"submit", "poll"} & set(session.steps) else {}
    total = Forecast()
    for forecast in shards.values():
        total.add(forecast)
    cap = session.config.get("max_usd")
    return {
        "run_id": session.run.paths.run_id,
        "exists": session.run.paths.state.exists(),
        "provider": session.experiment.provider,
        "phases": [_phase(step, entries) for step, entries in by_step(found)],
        "shards": {name: asdict(f) for name, f in shards.items()},
        "total": asdict(total),
        "max_usd": cap,
        "unfinished": [asdict(u) | {"line": u.line} for u in others(session)],
        "warnings": list(session.config.warnings),
    }


def _check_analysis(session: Session) -> None:
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # an own scorer is imported; a plan writes nothing
    try:
        foresight.check(session.run)
    finally:
        sys.dont_write_bytecode = keep


def others(session: Session) -> list[Any]:
    """Unfinished runs of the same config."""
    path = session.config.path
    shown = str(path.relative_to(session.root)) if path.is_relative_to(session.root) else str(path)
    return unfinished(session.run.paths.experiments, shown, session.run.paths.run_id)


def _phase(step: str, entries: list[Assessment]) -> dict[str, Any]:
    counts = Counter(a.verdict for a in entries)
    verdict = next((v for v in ("blocked", "run", "done", "not selected") if counts[v]), "not selected")
    reasons = Counter(a.reason for a in entries if a.verdict == verdict)
    reason = (
        reasons.most_common(1)[0][0]
        if reasons
        else "needs both conditions"
        if step not in ("prepare", "build", "submit", "poll")
        else "nothing chosen"
    )
    return {"phase": step, "action": WORDS[verdict], "reason": reason, "tasks": sum(counts.values()), "to_run": counts["run"]}


def show(session: Session, *, as_json: bool) -> int:
    """Print the plan: a table one reads at a glance, or JSON."""
    plan = make(session)
    if as_json:
        print(json.dumps(plan, indent=2, ensure_ascii=False))
        return 0
    from pipeline.engine.plan_table import print_plan

    print_plan(plan)
    return 0
