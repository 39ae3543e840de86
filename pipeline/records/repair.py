"""What a run's other files still know when one of its documents is lost or lies: pure look-ups and checks, nothing is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.digests import digest
from pipeline.base.errors import ManifestError
from pipeline.base.schemas import parse_json, read_document
from pipeline.layout import temp_slug

FRESH, REBUILT = "--fresh", "rebuilt"
"""How entries of `forced[]` begin that account for a generation of answers."""
UNBUILT = "0" * 64


# --- documents that are valid, but cannot be true ------------------------------------------------------------------------


def fault_of_state(state: Mapping[str, Any]) -> str | None:
    """Why a run state contradicts itself, or None. A wrong generation would pay again; a wrong lock would falsify the registration."""
    generation = 0
    for entry in state["forced"]:
        if entry["what"].startswith(FRESH):
            generation += 1
        elif entry["what"].startswith(REBUILT):
            generation = int(entry["now"]) if re.fullmatch(r"[0-9]{1,9}", str(entry["now"])) else -1
    if state["generation"] != generation:
        return f"generation is {state['generation']}, but forced[] accounts for {generation}"
    locked = state["locked"]
    if locked is not None and lock_digest(locked) != state["primary_hash"]:
        return "primary_hash is not the digest of what was locked"
    return None


def fault_of_build(build: Mapping[str, Any]) -> str | None:
    """Why a build manifest contradicts itself, or None: shards against receipts, and units against each other."""
    sums: dict[str, dict[str, int]] = {}
    for slug, unit in build["units"].items():
        counts: Counter[str] = Counter()
        made_files = set(unit["receipt"]["artifacts"])
        if not unit["shards"] or (unit["receipt"]["inputs_digest"] != UNBUILT and made_files != {f"{key}.jsonl" for key in unit["shards"]}):
            return f"unit {slug} does not name the shards of its receipt"
        for key, shard in unit["shards"].items():
            counts[str(shard["temp"])] += shard["requests"]
            if not key.startswith(f"{temp_slug(shard['temp'])}_p"):
                return f"shard {slug}/{key} has temperature {shard['temp']}"
            if shard["path"] != f"{slug}/{key}.jsonl":
                return f"shard {slug}/{key} has the path {shard['path']}"
            made = unit["receipt"]["artifacts"].get(f"{key}.jsonl")
            if unit["receipt"]["inputs_digest"] != UNBUILT and (
                made is None or (made["sha256"], made["size"]) != (shard["sha256"], shard["bytes"])
            ):
                return f"shard {slug}/{key} is not the file of its receipt"
        sums[slug] = dict(counts)
    for temp in {t for counts in sums.values() for t in counts}:
        if len({counts[temp] for counts in sums.values() if temp in counts}) > 1:
            return f"units hold different numbers of requests at temperature {temp}"
    return None


def fault_of_prepared(prepared: Mapping[str, Any]) -> str | None:
    """Why a manifest of prepared items contradicts itself, or None."""
    if digest(prepared["spec"])[:8] != prepared["id"]:
        return "its id is not the digest of its spec"
    for kind, counts in prepared["counts"].items():
        if sum(counts["datasets"].values()) != counts["items"]:
            return f"counts of {kind} do not add up"
    return None


# --- what other files know -------------------------------------------------------------------------------------------------


def was_sent(folder: Path) -> bool:
    """True where a run's folder holds submissions or answers: its requests may have been paid for."""
    return any(folder.glob("answers/*/*/*"))


def generation_on_disk(folder: Path) -> int:
    """The highest generation of answers among the submissions that can be read."""
    found = [0]
    for path in (*folder.glob("answers/*/*/submission.json"), *folder.glob("batch_inputs/*/*.submission.json")):
        try:
            found.append(read_document(path, "submission")["generation"])
        except ManifestError:
            continue  # a damaged submission tells nothing; it is put aside when its shard is worked on
    return max(found)


def request_hash_on_disk(build_manifest: Path) -> str | None:
    """The request hash that the build manifest witnesses; None where it cannot be read."""
    try:
        found: str = read_document(build_manifest, "build_manifest")["request_hash"]
    except (FileNotFoundError, ManifestError):
        return None
    return found


def parts_on_disk(batch_inputs: Path) -> int:
    """Shards per unit and temperature, by the files: the most that any has."""
    files = (p for p in batch_inputs.glob("*/*.jsonl") if re.fullmatch(r".+_p\d+", p.stem))
    return max(Counter((p.parent.name, p.stem.rpartition("_p")[0]) for p in files).values(), default=0)


def lock_digest(locked: Mapping[str, Any]) -> str:
    """`primary_hash`: the digest of what is locked, its time aside."""
    return digest({k: v for k, v in locked.items() if k != "at"})


def registration(registry: Path, run_id: str, request_hash: str) -> tuple[dict[str, Any], str, list[Any]] | None:
    """(locked, primary_hash, looks before it) of a run's first registration in `registry.jsonl`, where its digest proves it."""
    if not registry.is_file():
        return None
    for line in registry.read_bytes().splitlines():
        try:
            entry = parse_json(line)
        except ValueError:
            continue  # a torn line proves nothing
        if isinstance(entry, dict) and entry.get("run_id") == run_id and entry.get("request_hash") == request_hash:
            locked = {k: entry[k] for k in ("at", "primary", "prompts", "items", "scorers", "asked") if k in entry}
            if lock_digest(locked) == entry.get("primary_hash"):
                return locked, entry["primary_hash"], entry.get("looks") or []
    return None
