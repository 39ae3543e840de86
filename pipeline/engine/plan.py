"""`doit run --plan_only`: every phase with what would happen and why, what each shard would send, and what that may cost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from pipeline.engine.assess import Assessment, assess, by_step
from pipeline.engine.forecast import Forecast, forecasts
from pipeline.engine.session import Session
from pipeline.providers.money import EXPECTED_MARGIN
from pipeline.records.other_runs import unfinished

WORDS = {"run": "execute", "done": "skip (already done)", "not selected": "skip (not selected)", "blocked": "blocked"}
SHARDS_SHOWN = 24


def make(session: Session) -> dict[str, Any]:
    """The plan as a document. Writes nothing."""
    found = assess(session)
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
    print(f"run {plan['run_id']} ({plan['provider']}, {'exists' if plan['exists'] else 'new'})")
    print(f"{'phase':<9}{'action':<21}{'tasks':>9}  reason")
    for p in plan["phases"]:
        tasks = f"{p['to_run']}/{p['tasks']}" if p["tasks"] else "-"
        print(f"{p['phase']:<9}{p['action']:<21}{tasks:>9}  {p['reason']}")
    if plan["shards"]:
        _show_shards(plan)
    for line in [*(u["line"] for u in plan["unfinished"]), *plan["warnings"]]:
        print(f"note: {line}")
    return 0


def _show_shards(plan: dict[str, Any]) -> None:
    names = list(plan["shards"])
    width = max(len("all"), *(len(n) for n in names[:SHARDS_SHOWN])) + 2
    print(f"\n{'shard':<{width}}" + "".join(f"{c:>9}" for c in ("requests", "done", "reuse", "poll", "repair", "send")))
    for name in names[:SHARDS_SHOWN]:
        print(_counts(name, plan["shards"][name], width))
    if len(names) > SHARDS_SHOWN:
        print(f"... {len(names) - SHARDS_SHOWN} more shards (--json lists all)")
    total = plan["total"]
    print(_counts("all", total, width))
    if total["oldest_reused"]:
        print(f"the oldest answer to be reused is of {total['oldest_reused'][:10]}")
    expected, worst = (f"{total[f'{how}_prompt_tokens']} + {total[f'{how}_completion_tokens']}" for how in ("expected", "worst"))
    tokens = f"{expected} tokens expected, {worst} at worst"
    if total["expected_usd"] is None:
        print(f"to send: {tokens}; the model has no price")
    else:
        print(
            f"to send: {tokens}; ${total['expected_usd']:.4f} expected, ${total['worst_usd']:.4f} at worst"
            + (f", capped at ${plan['max_usd']:.4f}" if plan["max_usd"] is not None else "")
        )
    print(f"(expected: {EXPECTED_MARGIN}, answers half of max_new_tokens; worst: a token a byte, answers all of max_new_tokens)")


def _counts(name: str, f: dict[str, Any], width: int) -> str:
    return f"{name:<{width}}" + "".join(f"{f[c]:>9}" for c in ("requests", "done", "reuse", "poll", "repair", "send"))
