"""`simulated` (`--dry_run`): deterministic answers with a known true effect, from a remote side that behaves like a real one.

The remote side is one SQLite file. A create makes a new job id and never dedupes, and commits job and bill in one transaction,
so that every carelessness of ours shows in table `bill`. A job is answered over several polls, by count of polls, not by time.

The truth: a system prompt answers each item right with a probability (its accuracy) that depends on its text alone, or is set
by `provider.accuracy{arm: p}`. Items have a difficulty shared by all prompts, so that paired answers correlate as real ones do.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.base.checkpoints import announce
from pipeline.base.digests import sha256_bytes, uniform
from pipeline.base.rows import Failure, Item, RequestRow, ResultRow, Usage, encode
from pipeline.providers.protocol import Ids, JobState, JobStatus, Limits, Provider, Submission
from pipeline.records.clock import now_iso

TABLES = """
create table if not exists jobs(
  job_id text primary key, submission_key text not null, rows blob not null, polls integer not null default 0);
create index if not exists jobs_key on jobs(submission_key);
create table if not exists bill(custom_id text not null, job_id text not null, shard text not null, billed_at text not null);
"""
SHARED_DIFFICULTY = 0.7
"""Share of items whose outcome is decided by the item's own difficulty, the same under every prompt: gives realistic discordance."""
ABSTAINS = 0.35
"""Share of wrong answers that are an honest 'I don't know.'"""

Oracle = Callable[[str, str], Item]


def default_accuracy(system_prompt: str) -> float:
    """The accuracy of a prompt that the config does not set: 0.50 to 0.70, by its text."""
    return 0.5 + 0.2 * uniform("accuracy", system_prompt)


def is_right(accuracy: float, item_key: str, custom_id: str) -> bool:
    """Whether this request is answered right: probability `accuracy` exactly, positively correlated between prompts on the same item."""
    if uniform("shared?", item_key) < SHARED_DIFFICULTY:
        return uniform("difficulty", item_key) < accuracy
    return uniform("luck", custom_id) < accuracy


class SimulatedProvider(Provider):
    """The dry run's provider."""

    name = "simulated"

    def __init__(self, remote: Path, oracle: Oracle, settings: Mapping[str, Any], accuracy_by_prompt: Mapping[str, float]) -> None:
        """`oracle(dataset, item_id)` gives the item; `accuracy_by_prompt` maps a system prompt's sha256 to its true accuracy."""
        self._remote, self._oracle = remote, oracle
        self._accuracy = dict(accuracy_by_prompt)
        self._failure_rate = float(settings.get("failure_rate", 0.0))
        self._polls = int(settings.get("polls_per_job", 3))
        self._limits = Limits(
            max_rows=settings.get("max_rows", 50_000),
            max_concurrent_jobs=settings.get("max_concurrent_jobs"),
            max_enqueued_tokens=settings.get("max_enqueued_tokens"),
        )
        self._db: sqlite3.Connection | None = None

    def _connect(self) -> sqlite3.Connection:
        if self._db is None:
            self._remote.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._remote, isolation_level=None, timeout=60, check_same_thread=False)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            self._db.executescript(TABLES)
        return self._db

    def limits(self) -> Limits:
        """50,000 rows a job, as batch APIs have it."""
        return self._limits

    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        """Look-up by submission key, as an API with labels allows it."""
        found = self._connect().execute("select job_id from jobs where submission_key=? order by rowid", (submission.key,)).fetchone()
        return {"job": found[0]} if found else None

    def create(self, submission: Submission, ids: Ids, record: Callable[[Ids], None]) -> Ids:
        """A new job, always: this remote never dedupes. Job and bill are one transaction."""
        db = self._connect()
        rows = list(submission.rows())
        db.execute("begin immediate")
        try:
            count = db.execute("select count(*) from jobs").fetchone()[0]
            job = f"sim-{count + 1:06d}"
            db.execute(
                "insert into jobs(job_id, submission_key, rows) values (?,?,?)", (job, submission.key, b"\n".join(encode(r) for r in rows))
            )
            at = now_iso()
            db.executemany("insert into bill values (?,?,?,?)", ((row.custom_id, job, submission.key, at) for row in rows))
            announce("remote")
            db.execute("commit")
        except BaseException:
            db.execute("rollback")
            raise
        return {"job": job}

    def poll(self, ids: Ids, submission: Submission) -> JobStatus:
        """One more poll; the job ends at the `polls_per_job`-th."""
        db = self._connect()
        found = db.execute("update jobs set polls = polls + 1 where job_id=? returning polls", (ids["job"],)).fetchone()
        if found is None:
            return JobStatus(JobState.LOST, message="the simulated remote has no such job")
        done = min(submission.count, submission.count * found[0] // self._polls)
        return JobStatus(JobState.ENDED if found[0] >= self._polls else JobState.RUNNING, done=done, total=submission.count)

    def fetch(self, ids: Ids, submission: Submission) -> Iterator[ResultRow]:
        """The answers, computed from the rows as the remote received them."""
        import msgspec

        found = self._connect().execute("select rows from jobs where job_id=?", (ids["job"],)).fetchone()
        decode = msgspec.json.Decoder(RequestRow).decode
        for line in found[0].split(b"\n") if found and found[0] else ():
            yield self.answer(decode(line), int(ids["job"].rpartition("-")[2]))

    def answer(self, row: RequestRow, job: int = 0) -> ResultRow:
        """The answer to one request; a failing one fails again in the same job, and may succeed in a later one."""
        if self._failure_rate and uniform("fails", row.custom_id, str(job)) < self._failure_rate:
            return ResultRow(
                custom_id=row.custom_id,
                outcome="failed",
                error=Failure(code="simulated_error", message="failed on purpose (provider.failure_rate)"),
            )
        system = next((m["content"] for m in row.body["messages"] if m["role"] == "system"), "")
        item = self._oracle(row.place.dataset, row.place.item_id)
        accuracy = self._accuracy.get(sha256_bytes(system.encode()), default_accuracy(system))
        text = self._text(item, is_right(accuracy, item.key, row.custom_id), row.custom_id)
        prompt = sum(len(json.dumps(m.get("content", ""), ensure_ascii=False)) for m in row.body["messages"]) // 4
        return ResultRow(
            custom_id=row.custom_id,
            outcome="answered",
            text=text,
            finish_reason="stop",
            model="simulated",
            usage=Usage(prompt_tokens=prompt, completion_tokens=max(1, len(text) // 4)),
        )

    @staticmethod
    def _text(item: Item, right: bool, custom_id: str) -> str:
        if item.is_unanswerable or not item.answers:
            if right:
                return "I don't know."
            words = (item.context or item.question).split()
            return " ".join(words[int(uniform("start", custom_id) * max(1, len(words) - 2)) :][:2])
        if right:
            gold = item.answers[int(uniform("alias", item.key) * len(item.answers))]
            return gold if uniform("form", custom_id) < 0.5 else f"The answer is {gold}."
        return "I don't know." if uniform("abstains", custom_id) < ABSTAINS else f"Perhaps number {int(uniform('guess', custom_id) * 1e6)}"

    def cancel(self, ids: Ids) -> None:
        """Nothing to stop: what was billed is billed."""

    def close(self) -> None:
        """Close the remote's file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def provenance(self) -> Mapping[str, Any]:
        """The known truth of this remote."""
        return {"remote": "experiments/simulated_remote.db", "polls_per_job": self._polls, "failure_rate": self._failure_rate}
