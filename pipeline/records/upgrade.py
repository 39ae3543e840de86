"""From a predecessor's trial manifest to version 2: pure translation, nothing lost.

What has a place in version 2 is put there. Every key whose value is not found there unchanged is kept verbatim under `legacy.v1`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pipeline.records.clock import iso
from pipeline.records.upgrade_evidence import PART

VERSION = 2
SHA256 = re.compile(r"^[0-9a-f]{64}$")
CONDITIONS = ("control", "treatment")
STATUS = {
    "pending": "pending", "created": "pending", "queued": "pending", "validating": "submitted", "submitted": "submitted",
    "running": "running", "in_progress": "running", "writing_results": "running",
    "completed": "completed", "ended": "completed", "succeeded": "completed",
    "failed": "failed", "expired": "failed", "cancelled": "failed", "canceled": "failed", "downloaded": "downloaded",
}  # fmt: skip
"""A job's state as the predecessor wrote it -> ours. What is not here is `unknown` (and stays verbatim under legacy.v1)."""


def version_of(document: Any) -> int | float | None:
    """The version that a manifest claims; None where it claims none, or one that is no number."""
    version = document.get("schema_version") if isinstance(document, dict) else None
    return version if isinstance(version, (int, float)) and not isinstance(version, bool) else None


def is_predecessors(document: Any) -> bool:
    """True for what the predecessor wrote: no version or a lower one, or version 2 without the marks of ours (units, receipts)."""
    if not isinstance(document, dict) or not isinstance(document.get("timestamps", {}), dict):
        return False
    if "units" in _dict(document.get("trial")) or any("inputs_digest" in _dict(s) for s in _dict(document.get("stage_status")).values()):
        return False
    version = version_of(document)
    return (version is None or version <= VERSION) and any(
        isinstance(document.get(k), dict) for k in ("trial", "job_status", "datasets", "jobs")
    )


def upgraded(old: Mapping[str, Any], *, slug: str, run_id: str | None, at: str, stage_status: Mapping[str, Any]) -> dict[str, Any]:
    """Version 2 of `old`. `slug` and `run_id` come from its place (run_id None: not known there), `at` is now, stages from evidence."""
    trial = old.get("trial")
    temps = _temps(old)
    created = _time(old.get("created_utc")) or _time(_dict(old.get("timestamps")).get("created_at"))
    new: dict[str, Any] = {
        "schema_version": VERSION,
        "timestamps": {"created_at": created or at, "updated_at": at},
        "run_id": run_id or _text(old.get("run_id")) or "unknown",
        "trial": {**(trial if isinstance(trial, dict) else {}), "slug": slug},
        "temps": temps,
        "samples_per_item": _samples(old.get("samples_per_item"), temps),
        "prompts": {c: _prompt(old.get("prompts"), c) for c in CONDITIONS},
        "datasets": _by_part(old.get("datasets"), old.get("job_status")),
        "jobs": _by_part(old.get("jobs"), old.get("job_status")),
        "job_status": _statuses(old.get("job_status")),
        "stage_status": dict(stage_status),
    }
    new["legacy"] = {"v1": {key: value for key, value in old.items() if key not in new or not contains(new[key], value)}}
    return new


def contains(new: Any, old: Any) -> bool:
    """True where all that `old` says is said by `new` in the same place."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and contains(new[key], value) for key, value in old.items())
    return type(new) is type(old) and bool(new == old)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _time(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        return iso((found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp())
    except (ValueError, OverflowError):
        return None


def _temps(old: Mapping[str, Any]) -> list[float | str]:
    trial = old.get("trial")
    for given in (old.get("temps"), trial.get("temps") if isinstance(trial, dict) else None):
        if isinstance(given, list) and given and all(_number(t) or t == "default" for t in given):
            return given
    return []


def _samples(value: Any, temps: list[float | str]) -> dict[str, int]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return {str(t): value for t in temps}
    if not isinstance(value, dict):
        return {}
    return {key: n for key, n in value.items() if isinstance(n, int) and not isinstance(n, bool) and n >= 1}


def _prompt(prompts: Any, condition: str) -> dict[str, str | None]:
    given = prompts.get(condition) if isinstance(prompts, dict) else None
    given = given if isinstance(given, dict) else {}
    sha = given.get("sha256")
    return {"path": _text(given.get("path")), "sha256": sha if isinstance(sha, str) and SHA256.match(sha) else None}


def _by_part(value: Any, statuses: Any) -> dict[str, list[str]]:
    """Names by part: a list as long as its condition has parts is dealt out to them, anything else keeps its key."""
    found: dict[str, list[str]] = {}
    known = [key for key in statuses if part_key(key)] if isinstance(statuses, dict) else []
    for key, given in value.items() if isinstance(value, dict) else ():
        names = [given] if isinstance(given, str) else given
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            continue
        parts = sorted((k for k in known if k.startswith(f"{key}_p")), key=lambda k: int(k.rpartition("_p")[2]))
        if parts and len(parts) == len(names):
            found |= {part_key(part) or part: [name] for part, name in zip(parts, names, strict=True)}
        else:
            found[(part_key(key) or key) if key in known else key] = list(names)
    return found


def part_key(key: str) -> str | None:
    """A part's key as version 2 writes it: `t0p7_control_p01`; a part without a number is p00. None for what is no part's key."""
    match = PART.match(key)
    slug = match[1].replace(".", "p") if match else ""
    return f"{slug}_{match[2]}_p{int(match[3] or 0):02d}" if match and slug.isalnum() and slug.isascii() else None


def _statuses(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {part: STATUS.get(_word(status), "unknown") for key, status in value.items() if (part := part_key(key))}


def _word(status: Any) -> str:
    return status.rpartition(".")[2].lower().removeprefix("job_state_").removeprefix("state_") if isinstance(status, str) else ""
