"""The way to a trial's results, as `provenance.json` holds it: times, jobs, attempts, reuse, money, looks."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.records.receipts import relative
from pipeline.records.submission import SubmissionRecord
from pipeline.steps.context import Context, Run

PACKAGES = ("abiding", "doit", "msgspec", "numpy", "scipy", "xllamacpp", "fireworks-ai", "openai", "anthropic")


def provenance_of(ctx: Context) -> dict[str, Any]:
    """The document. Reads states and submissions; asks nobody."""
    this, trial = ctx.run, ctx.the_trial
    exp, state = this.experiment, this.state
    shards: list[dict[str, Any]] = []
    money = {
        "billed_usd": 0.0,
        "reserved_unsettled_usd": 0.0,
        "billed_prompt_tokens": 0,
        "billed_completion_tokens": 0,
        "answers_from_jobs": 0,
        "duplicate_answers_received": 0,
        "foreign_answers_received": 0,
        "attempts": 0,
    }
    reuse: dict[str, Any] = {"requests": 0, "oldest": None, "newest": None}
    for condition, ref in this.trial_shards(trial):
        try:
            record = SubmissionRecord.load(this.shard_paths(ref))
        except (FileNotFoundError, ManifestError) as e:
            shards.append({"condition": condition, "shard": ref.name, "state": "unknown", "reason": str(e)})
            continue
        attempts = []
        for a in record["attempts"]:
            attempts.append(
                {
                    k: a[k]
                    for k in (
                        "key",
                        "state",
                        "outcome",
                        "requests",
                        "answered",
                        "failed",
                        "missing",
                        "intent_at",
                        "submitted_at",
                        "settled_at",
                        "billed_usd",
                        "ids",
                        "message",
                    )
                }
            )
            money["attempts"] += 1
            money["billed_usd"] += a["billed_usd"] or 0.0
            money["reserved_unsettled_usd"] += (a["reserved_usd"] or 0.0) if a["billed_usd"] is None and a["state"] != "rejected" else 0.0
            money["billed_prompt_tokens"] += a["prompt_tokens"]
            money["billed_completion_tokens"] += a["completion_tokens"]
            money["answers_from_jobs"] += a["answered"]
            money["duplicate_answers_received"] += a["duplicates"]
            money["foreign_answers_received"] += a["foreign"]
        found = record["reused"]
        reuse["requests"] += found["requests"]
        reuse["oldest"] = min(filter(None, (reuse["oldest"], found["oldest"])), default=None)
        reuse["newest"] = max(filter(None, (reuse["newest"], found["newest"])), default=None)
        shards.append(
            {
                "condition": condition,
                "shard": ref.name,
                "state": record["state"],
                "requests": record["shard"]["requests"],
                "failed": len(record["failed"]),
                "generation": record["generation"],
                "attempts": attempts,
            }
        )
    locked = state["locked"] if state else None
    return {
        "schema_version": 1,
        "run_id": this.paths.run_id,
        "trial": trial.slug,
        "config_path": relative(exp.config.path, this.root),
        "config_hash": exp.config_hash,
        "request_hash": exp.request_hash,
        "primary_hash": state["primary_hash"] if state else "0" * 64,
        "locked_at": locked["at"] if locked else None,
        "versions": versions(),
        "provider": dict(this.queue.provenance()) if "queue" in this.__dict__ else {"name": exp.provider},
        "prompts": {
            c: {"path": trial.unit(c).arm.prompt_path, "sha256": trial.unit(c).arm.prompt_sha256} for c in ("control", "treatment")
        },
        "shards": shards,
        "money": money,
        "reuse": reuse,
        "looks": state["looks"] if state else [],
        "forced": state["forced"] if state else [],
        "notes": state["notes"] if state else [],
        "registrations": registrations(this),
    }


def registrations(this: Run) -> dict[str, Any]:
    """From `registry.jsonl`: how many runs and how many wordings were tried on these items. Many wordings find a winner by chance."""
    entries = []
    if this.paths.registry.is_file():
        for line in this.paths.registry.read_bytes().splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:  # a torn last line: its run registers again
                continue
    same = [e for e in entries if isinstance(e, dict) and e.get("items") == this.experiment.prepared_id]
    wordings = {sha for e in same for sha in e.get("prompts", {}).values()}
    runs = {e.get("run_id") for e in same}
    return {"file": "experiments/registry.jsonl", "runs_on_these_items": len(runs), "wordings_on_these_items": len(wordings)}


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter, where they are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
