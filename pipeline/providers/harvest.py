"""Taking over what a dead run of a live provider has answered: its journal goes into the answer store, its claims are let go.

A live request is not in flight anywhere once its process is dead, so nothing is owed to us by anybody: what was answered is in the
journal, what was not may be asked by whoever needs it. The dead run's record says so, and it continues from the store when resumed.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.base.errors import Locked, ManifestError
from pipeline.base.rows import RequestRow, read_rows
from pipeline.layout import RunPaths
from pipeline.providers.live import JOURNAL, journal_rows
from pipeline.records.answers import AnswerStore
from pipeline.records.lock import RunLock
from pipeline.records.submission import SubmissionRecord


def harvest(experiments: Path, owner: str, store: AnswerStore, provider: str, model: str) -> int | None:
    """Harvest shard `owner` (`<run>/<unit>/<key>`). Returns the number of answers taken over; None where its run is alive."""
    run_id, unit, key = owner.split("/")
    run = RunPaths(experiments, run_id)
    lock = RunLock(run.lock)
    try:
        lock.acquire()  # so that the run cannot come back to life in the middle of this
    except Locked:
        return None
    try:
        paths = run.shard(unit, key)
        taken = 0
        try:
            record = SubmissionRecord.load(paths.submission)
        except (FileNotFoundError, ManifestError):
            store.release(owner)
            return 0
        attempt = record.open_attempt
        if attempt is not None:
            rows = paths.attempt(attempt["number"])
            asked = {row.custom_id: row.answer_key for row in read_rows(rows, RequestRow)} if rows.exists() else {}
            found = [
                r
                for r in journal_rows(rows.with_name(JOURNAL), str(attempt["ids"].get("job")))
                if r.custom_id in asked and r.outcome != "failed"
            ]
            store.put(
                {asked[r.custom_id]: r for r in found}, record["generation"], run_id=run_id, provider=provider, model=model, owner=owner
            )
            record.settle(attempt, "harvested", answered=len(found), message="another run took over what was answered")
            taken = len(found)
        store.release(owner)
        return taken
    finally:
        lock.release()
