"""A desk for tests of shards and queues: a scripted remote side that bills, forgets, fails and lies as told, and never dedupes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.base.digests import sha256_file
from pipeline.base.files import write_atomic
from pipeline.base.rows import RequestRow, ResultRow, Usage, encode, read_rows
from pipeline.layout import RunPaths, ShardPaths
from pipeline.providers.money import Budget, Price
from pipeline.providers.protocol import Ids, JobState, JobStatus, Limits, Provider, Submission
from pipeline.providers.queue import Queue
from pipeline.providers.shard import Desk, Shard
from pipeline.records.answers import AnswerStore
from pipeline.records.events import Events
from pipeline.records.stop import StopToken
from tests.submissions import request

PRICE = Price(1.0, 2.0, None, 1.0, None, "test")


def answer(row: RequestRow, **fields: Any) -> ResultRow:
    """A plain answer to a request."""
    usage = Usage(prompt_tokens=10, completion_tokens=5)
    return ResultRow(**({"custom_id": row.custom_id, "outcome": "answered", "text": f"to {row.place.item_id}", "usage": usage} | fields))


@dataclass
class Remote:
    """The world outside: survives any number of processes."""

    jobs: dict[str, tuple[str, list[RequestRow]]] = field(default_factory=dict)
    polls: Counter[str] = field(default_factory=Counter)
    billed: Counter[str] = field(default_factory=Counter)

    def asked(self) -> dict[str, int]:
        """How often each item was asked, by item id."""
        return {f"{int(c, 16)}": n for c, n in sorted(self.billed.items())}


class Scripted(Provider):
    """Behaves like a batch API, except where a test says otherwise: replace any of its methods or the three hooks."""

    name = "simulated"

    def __init__(self, remote: Remote, *, polls: int = 2, limits: Limits | None = None) -> None:
        self.remote, self.needed, self._limits = remote, polls, limits or Limits()
        self.rows_of: Callable[[str, list[RequestRow]], Iterable[ResultRow]] = lambda job, rows: [answer(r) for r in rows]
        self.state_of: Callable[[str, list[RequestRow]], JobStatus] = lambda job, rows: JobStatus(JobState.ENDED)
        self.before_create: Callable[[Submission], None] = lambda submission: None
        self.after_create: Callable[[Submission], None] = lambda submission: None

    def limits(self) -> Limits:
        return self._limits

    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        return next(({"job": job} for job, (key, _rows) in self.remote.jobs.items() if key == submission.key), None)

    def create(self, submission: Submission, ids: Ids, record: Callable[[Ids], None]) -> Ids:
        self.before_create(submission)
        rows = list(submission.rows())
        assert len(rows) == submission.count
        job = f"job-{len(self.remote.jobs) + 1}"
        self.remote.jobs[job] = (submission.key, rows)
        self.remote.billed.update(row.custom_id for row in rows)
        self.after_create(submission)
        return {"job": job}

    def poll(self, ids: Ids, submission: Submission) -> JobStatus:
        self.remote.polls[ids["job"]] += 1
        if self.remote.polls[ids["job"]] < self.needed:
            return JobStatus(JobState.RUNNING)
        status = self.state_of(ids["job"], self.remote.jobs[ids["job"]][1])
        if status.state is JobState.FAILED:  # a whole job that fails bills nothing
            self.remote.billed.subtract(row.custom_id for row in self.remote.jobs[ids["job"]][1])
        return status

    def fetch(self, ids: Ids, submission: Submission) -> Iterator[ResultRow]:
        yield from self.rows_of(ids["job"], self.remote.jobs[ids["job"]][1])

    def cancel(self, ids: Ids) -> None:
        pass


@dataclass
class Office:
    """One process's view of a run: make a new one to play a restart after a kill."""

    folder: Path
    remote: Remote
    provider: Scripted
    run_id: str = "r1"
    generation: int = 0
    max_attempts: int = 3
    cap: float | None = None
    price: Price | None = PRICE
    slots: int | None = None
    stop: StopToken = field(default_factory=StopToken)
    notices: list[str] = field(default_factory=list)

    def paths(self, unit: str, key: str = "t0_p00") -> ShardPaths:
        """The files of a shard of this run."""
        return RunPaths(self.folder, self.run_id).shard(unit, key)

    def queue(self, **shards: int | list[RequestRow]) -> Queue:
        """A queue of shards, unit=number of requests (numbered from 0 in each) or the requests themselves."""
        events = Events(RunPaths(self.folder, self.run_id).events)
        store = AnswerStore(self.folder / "answers.db")
        desk = Desk(
            self.run_id,
            self.provider,
            "simulated",
            store,
            events,
            Budget(self.cap),
            self.generation,
            self.max_attempts,
            self.notices.append,
        )
        made = []
        for unit, rows in shards.items():
            listed = [request(n) for n in range(rows)] if isinstance(rows, int) else rows
            paths = self.paths(unit)
            if not paths.rows.exists():
                write_atomic(paths.rows, b"".join(encode(row) + b"\n" for row in listed))
            made.append(
                Shard(
                    desk, paths, unit=unit, key="t0_p00", model="m", sha256=sha256_file(paths.rows), requests=len(listed), price=self.price
                )
            )
        desk.budget.spent = sum(shard.charged_usd() for shard in made)
        return Queue(
            made,
            self.stop,
            slots=self.slots,
            limits=self.provider.limits(),
            poll_seconds=0.0,
            start_timeout=3600.0,
            progress=lambda *_: None,
        )

    def again(self, **changes: Any) -> Office:
        """The same run in a new process."""
        return replace(self, stop=StopToken(), notices=[], **changes)

    def results(self, unit: str) -> list[ResultRow]:
        """The published answers of a shard."""
        return list(read_rows(self.paths(unit).results, ResultRow))


def office(folder: Path, **fields: Any) -> Office:
    """A fresh run with a remote side of its own."""
    remote = fields.pop("remote", None) or Remote()
    provider = fields.pop("provider", None) or Scripted(remote, limits=fields.pop("limits", None))
    return Office(folder, remote, provider, **fields)


def finish(queue: Queue) -> None:
    """Submit and wait for every shard."""
    for name in queue.shards:
        queue.submit(name)
    for name in queue.shards:
        queue.wait(name)
    queue.close()
