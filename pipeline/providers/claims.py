"""Claims of other runs on requests that this run needs: waited for while their run lives, freed where nothing stands behind them.

A live request is not in flight anywhere once its process is dead, so nothing is owed to us by anybody: what was answered is in the
journal and goes into the answer store, what was not may be asked by whoever needs it. The dead run's record says so, and it continues
from the store when resumed. A batch job goes on without its process: its run must be finished first.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.base.errors import Locked, ManifestError
from pipeline.base.rows import RequestRow, read_rows
from pipeline.layout import RunPaths, ShardPaths
from pipeline.providers.live import JOURNAL, journal_rows
from pipeline.providers.shard_files import Desk
from pipeline.records.lock import RunLock
from pipeline.records.submission import SubmissionRecord


class Claim(Enum):
    """What came of looking behind a claim."""

    ALIVE = "its run is at work: wait"
    SENT = "its run is not at work, and has a job under way"
    FREED = "nothing was under way: the claim is gone"


def look_behind(owner: str, experiments: Path, desk: Desk, model: str) -> Claim:
    """Free the claims of shard `owner` (`<run>/<unit>/<key>`) where no job can be under way any more.

    Holds that run's lock meanwhile: a run that came to life between the look and the release would send what we send.
    """
    run_id, unit, key = owner.split("/")
    run = RunPaths(experiments, run_id)
    if not run.folder.exists():
        desk.store.release(owner)
        return Claim.FREED
    lock = RunLock(run.lock)
    try:
        lock.acquire()
    except Locked:
        return Claim.ALIVE
    try:
        paths = run.shard(unit, key)
        try:
            record: SubmissionRecord | None = SubmissionRecord.either(paths)
        except FileNotFoundError:
            record = None
        except ManifestError:
            if not desk.provider.live:
                return Claim.SENT  # nobody can tell: its own run asks the provider
            record = None
        attempt = record.open_attempt if record else None
        if record and attempt:
            if not desk.provider.live:
                return Claim.SENT
            _harvest(record, attempt, paths, owner, desk, model)
        desk.store.release(owner)
        return Claim.FREED
    finally:
        lock.release()


def _harvest(record: SubmissionRecord, attempt: dict[str, Any], paths: ShardPaths, owner: str, desk: Desk, model: str) -> None:
    """Take over what a dead run of a live provider has answered."""
    rows = paths.attempt(attempt["number"])
    asked = {row.custom_id: row.answer_key for row in read_rows(rows, RequestRow)} if rows.exists() else {}
    journal = journal_rows(rows.with_name(JOURNAL), str(attempt["ids"].get("job")))
    found = {asked[r.custom_id]: r for r in journal if r.custom_id in asked and r.outcome != "failed"}
    run_id = owner.partition("/")[0]
    desk.store.put(found, record["generation"], run_id=run_id, provider=desk.provider_name, model=model, owner=owner)
    record.settle(attempt, "harvested", answered=len(found), message="another run took over what was answered")
    desk.events.add("harvested", owner=owner, answers=len(found))
