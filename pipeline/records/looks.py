"""Looks: analyses of the same comparison on other items, or with other replicates, that were seen before a run was begun.

`registry.jsonl` keeps one line for each analysis, outside the runs' folders. What counts against a run is fixed when it is locked, before
its first request: analyses that come later, re-runs and interruptions change nothing, so the results stay the same bytes.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.digests import canonical_json, digest
from pipeline.base.files import Journal
from pipeline.base.rows import Item
from pipeline.base.schemas import parse_json
from pipeline.experiment import Experiment, Trial
from pipeline.records.clock import now_iso

SAMPLE = 32
"""Fingerprints kept of a set of items, the smallest: if one set holds another its sample shows it; a tenth in common is missed in 3%."""


def comparison_of(exp: Experiment, trial: Trial) -> str:
    """What is compared, whichever way round and on whatever items: provider, both arms' prompts, models and decoding, temperature."""
    units = exp.identity["units"]
    arms = [
        {k: v for k, v in units[unit.slug].items() if k not in ("temps", "samples_per_item")} for unit in (trial.control, trial.treatment)
    ]
    return digest(
        {
            "provider": exp.identity["provider"],
            "arms": sorted(arms, key=canonical_json),
            "temperature": exp.primary["temperature"],
            "task_instructions": exp.identity["task_instructions"],
        }
    )


def fingerprints(items: Iterable[tuple[str, Item]]) -> Iterator[str]:
    """16 hex of what each (type, item) asks; its id, dataset and gold answers play no part."""
    for kind, item in items:
        parts = [kind, item.question, item.context or ""]
        if item.messages or item.meta:
            parts.append(canonical_json([item.messages, item.meta]).decode())
        yield hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def asked_of(found: Iterable[str], replicates: int) -> dict[str, Any]:
    """What a run asks, for its lock: how many items, a sample of their fingerprints, answers per item and arm."""
    n = 0

    def counted() -> Iterator[str]:
        nonlocal n
        for n, one in enumerate(found, 1):  # noqa: B007 - counts what passes
            yield one

    sample = heapq.nsmallest(SAMPLE, counted())
    return {"items": n, "sample": sample, "replicates": replicates}


def entries(registry: Path) -> Iterator[Mapping[str, Any]]:
    """The looks on record, oldest first; a torn or foreign line is no look."""
    if registry.is_file():
        for line in registry.read_bytes().splitlines():
            try:
                entry = parse_json(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("look"), dict):
                yield entry["look"]


def earlier(
    registry: Path, comparisons: Mapping[str, str], asked: Mapping[str, Any], all_fingerprints: Callable[[], set[str]]
) -> list[dict[str, Any]]:
    """The looks at trials (slug -> `comparison_of`) on items that `asked` shares, but not exactly on what it asks; for `run_state.looks`.

    `all_fingerprints` is called only where a look may be among them.
    """
    slugs = {comparison: slug for slug, comparison in comparisons.items()}
    known: set[str] | None = None
    found = []
    for look in entries(registry):
        slug = slugs.get(look.get("comparison", ""))
        if slug is None or all(look.get(k) == asked[k] for k in ("items", "sample", "replicates")):
            continue
        known = all_fingerprints() if known is None else known
        if known.isdisjoint(look["sample"]):
            continue
        found.append({"trial": slug, **{k: look[k] for k in ("at", "run_id", "items", "replicates", "could_decide", "declared")}})
    return found


def record(registry: Path, comparison: str, asked: Mapping[str, Any], run_id: str, *, could_decide: bool, declared: Sequence[int]) -> None:
    """Append the look of an analysis that is about to be published, once for each run and what it asks.

    `could_decide`: enough clusters for a verdict; `declared`: `primary.looks`. Raises OSError.
    """
    look = {"comparison": comparison, **asked, "run_id": run_id}
    if any(all(known.get(k) == v for k, v in look.items()) for known in entries(registry)):
        return
    journal = Journal(registry)
    try:
        journal.append(canonical_json({"look": {"at": now_iso(), **look, "could_decide": could_decide, "declared": list(declared)}}))
    finally:
        journal.close()


def objection(looks: Sequence[Mapping[str, Any]], trial: str, asked: Mapping[str, Any] | None, declared: Sequence[int]) -> str | None:
    """Why the looks before a trial of this run leave no verdict, in words without names and times; None where they do not.

    A look that could not decide (fewer informative clusters than a verdict needs) gave nobody a reason to stop and does not count.
    """
    if asked is None:
        return None
    n, k = asked["items"], asked["replicates"]
    counted = {
        (look["items"], look["replicates"])
        for look in looks
        if look["trial"] == trial and look["could_decide"] and not (look["declared"] == list(declared) and look["items"] in declared)
    }
    if counted:
        seen = ", ".join(f"{items:,} items" + (f" with {r} answer{'s' * (r != 1)} each" if r != k else "") for items, r in sorted(counted))
        return f"an unplanned look: the comparison was analysed before, on {seen}, and these {n:,} share items with them"
    if declared and n not in declared:
        return f"an unplanned look: {n:,} items were analysed, and the looks declared are at {', '.join(f'{x:,}' for x in declared)}"
    return None
