"""`doit run --plan_only`: every phase with what would happen and why, per shard what would be sent, and what it may cost."""

from __future__ import annotations

import json

from pipeline.engine.assess import assess, by_step
from pipeline.engine.session import Session


def show(session: Session, *, as_json: bool) -> int:
    """Print the plan. Writes nothing."""
    found = assess(session)
    plan = {"run_id": session.run.paths.run_id, "phases": []}
    for step, entries in by_step(found):
        verdicts = {a.verdict for a in entries}
        verdict = next((v for v in ("blocked", "run", "done", "not selected") if v in verdicts), "not selected")
        plan["phases"].append({"phase": step, "verdict": verdict, "reason": next((a.reason for a in entries if a.verdict == verdict), "")})
    print(json.dumps(plan, indent=2) if as_json else "\n".join(f"{p['phase']:<8} {p['verdict']:<13} {p['reason']}" for p in plan["phases"]))
    return 0
