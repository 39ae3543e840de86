"""What the runs know of answers and of jobs under way, for an answer store that was lost: so that nothing is paid for again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import AbidingError
from pipeline.base.rows import RequestRow, ResultRow, read_rows
from pipeline.layout import RunPaths
from pipeline.records.answers import AnswerStore
from pipeline.records.run_state import RunState
from pipeline.records.submission import SubmissionRecord, numbers


@dataclass(frozen=True)
class Kept:
    """What one shard of some run holds. `answers` by key; `under_way`: the keys of a job that is promised or in flight."""

    run_id: str
    shard: str
    generation: int
    provider: str
    model: str
    answered_at: str | None
    answers: dict[str, ResultRow]
    under_way: list[str]
    published: bool

    @property
    def owner(self) -> str:
        """The name under which the shard claims requests."""
        return f"{self.run_id}/{self.shard}"


def kept(experiments: Path, leave_out: Callable[[str], None]) -> Iterator[Kept]:
    """Every shard of every run that has a submission; `leave_out` is told of those that cannot be read."""
    for path in sorted(experiments.glob("run_*/answers/*/*/submission.json")):
        run = RunPaths(experiments, path.parents[3].name.removeprefix("run_"))
        try:
            yield _kept(run, path.parents[1].name, path.parent.name)
        except (AbidingError, OSError, KeyError, ValueError) as e:
            leave_out(f"left out {path.parents[1].name}/{path.parent.name} of {run.run_id}: {e}")


def _kept(run: RunPaths, unit: str, key: str) -> Kept:
    paths = run.shard(unit, key)
    record = SubmissionRecord.either(paths)
    RunState.load(run.state)
    model = json.loads(run.build_manifest.read_bytes())["units"][unit]["model"]
    requests = {row.custom_id: row.answer_key for row in read_rows(paths.rows, RequestRow)}
    published = record["state"] == "published"
    source = paths.results if published else paths.collected
    rows = read_rows(source, ResultRow) if published or source.exists() else ()
    answers = {requests[row.custom_id]: row for row in rows if row.outcome != "failed" and row.custom_id in requests}
    attempt, keys = record.open_attempt, list(requests.values())
    times = [a["settled_at"] for a in record["attempts"] if a["settled_at"]] or [record["reused"]["newest"]]
    return Kept(
        run.run_id,
        f"{unit}/{key}",
        record["generation"],
        record["provider"],
        model,
        times[-1],
        answers,
        [keys[i] for i in numbers(attempt["rows"], len(keys))] if attempt else [],
        published,
    )


def refill(store: AnswerStore, experiments: Path, leave_out: Callable[[str], None]) -> int:
    """Put the answers of all runs into `store`, and claim for them what they have under way. Returns how many answers were added."""
    added = 0
    for shard in kept(experiments, leave_out):
        added += len(shard.answers) - len(store.known(shard.answers, shard.generation))
        store.put(
            shard.answers,
            shard.generation,
            run_id=shard.run_id,
            provider=shard.provider,
            model=shard.model,
            owner=shard.owner,
            at=shard.answered_at,
        )
        open_keys = [key for key in shard.under_way if key not in shard.answers]
        store.claim(open_keys, shard.generation, shard.owner)
    store.mark_filled()
    return added
