"""The protocol that every provider speaks: `limits, submit, poll, fetch, cancel`.

Never pay twice rests on three promises a provider keeps:
1. `find` looks for a job that an earlier, perhaps killed, process created for this submission (by client-chosen id, by metadata,
   by key in the rows), and `create` is called only after `find` saw none. `submit` below is the only caller of both.
2. `create` never retries by itself (SDK retries off). An ambiguous outcome (time-out, reset, 5xx) raises `Ambiguous`; `submit`
   then looks again, and only a look that sees nothing leads to a second create.
3. `fetch` yields what the job has, whole or not; completeness is judged by the caller, by custom_id.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.base.errors import AbidingError, StepError
from pipeline.base.rows import RequestRow, ResultRow, read_rows

Ids = dict[str, Any]
"""Remote ids of one job (job, input dataset or file, output ...): plain JSON, kept in submission.json."""


class Ambiguous(AbidingError):
    """A create whose outcome is unknown: the job may or may not exist. Look before anything else."""


class Rejected(StepError):
    """The provider refused the submission for good (bad row, unknown model, bad key): sending it again would not help.

    `bad_custom_id` names the one row at fault where the provider's answer says so; `splittable` is true where leaving
    out the bad rows may cure it (the whole job failed because of some row).
    """

    def __init__(
        self, fact: str, *, where: str | None = None, remedy: str | None = None, bad_custom_id: str | None = None, splittable: bool = False
    ) -> None:
        super().__init__(fact, where=where, remedy=remedy)
        self.bad_custom_id, self.splittable = bad_custom_id, splittable


class Barred(StepError):
    """The provider turns away the account (key, credit, suspension), not this submission: what was promised stays promised.

    Settling it here would forget a job that an earlier create may have made: the next run looks for it under the same key.
    """


class NoRoomNow(AbidingError):
    """The provider takes no more at present (enqueued-token limit, 429 with a long Retry-After): try later."""

    def __init__(self, fact: str, *, retry_after: float | None = None) -> None:
        super().__init__(fact)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limits:
    """What one job, and the account, may hold. None means no limit that we know of."""

    max_rows: int | None = None
    max_bytes: int | None = None
    """Of the wire file, in bytes."""
    max_concurrent_jobs: int | None = None
    max_enqueued_tokens: int | None = None


class JobState(str, Enum):
    """A remote job as the queue sees it. Only the first two are not final."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    """Completed, wholly or partly: fetch what it has."""
    FAILED = "failed"
    """The whole job failed before any row ran; nothing to fetch, nothing billed. `message` says why."""
    EXPIRED = "expired"
    """Ran out of its window: fetch what it has, the rest is owed."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """The provider does not know this job (any more)."""

    @property
    def final(self) -> bool:
        """True where the job will not change any more."""
        return self not in (JobState.WAITING, JobState.RUNNING)


@dataclass(frozen=True)
class JobStatus:
    """One look at a job. Times are the provider's own, in seconds since 1970 (None where it gives none)."""

    state: JobState
    done: int | None = None
    total: int | None = None
    created_at: float | None = None
    started_at: float | None = None
    now: float | None = None
    """The provider's clock at this look (its Date header), so that a laptop's sleep does not count as waiting."""
    message: str = ""
    bad_custom_ids: tuple[str, ...] = ()
    """Rows that the provider names as the cause of a FAILED job."""
    retry_later: bool = False
    """FAILED only because of a quota: the same file may be sent again later."""
    ids: Ids = field(default_factory=dict)
    """Ids learned at this look (output dataset, result files): merged into submission.json."""


@dataclass(frozen=True)
class Submission:
    """What is sent as one job: an attempt of a shard."""

    key: str
    """Remote name: `ab-<20 hex of the shard's digest>-g<generation>-a<n>`, matching ^[a-z0-9-]{1,60}$. Same rows, same key; `n` counts
    how often these rows were asked before."""
    model: str
    rows_path: Path
    """JSONL of RequestRow: exactly the requests to send, durable before `submit` is called."""
    count: int
    intent_at: float
    """When the intent was recorded (seconds since 1970): no job of this submission is older, clock skew aside."""
    known_jobs: frozenset[str] = frozenset()
    """Job names that belong to other submissions of this experiments folder: never adopt one of these."""

    def rows(self) -> Iterator[RequestRow]:
        """The requests, streamed."""
        return read_rows(self.rows_path, RequestRow)


class Provider(abc.ABC):
    """Base of all providers. Subclasses implement `find create poll fetch cancel` and, where they differ, `limits`."""

    name = "provider"
    live = False
    """True where requests are answered one by one: the journal lies beside the rows, so each attempt gets a folder of its own."""
    look_again_after: tuple[float, ...] = (0.0,)
    """Seconds to wait before each renewed look after an ambiguous create (an API whose lists lag needs several)."""

    def limits(self) -> Limits:
        """What one job and the account may hold."""
        return Limits()

    def check(self, rows: Iterator[RequestRow]) -> list[str]:
        """Faults that would fail the job, found before sending: one line each, naming custom_id. Empty when all is well."""
        return []

    @abc.abstractmethod
    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        """The job's ids where this submission already has a job, else None. `ids` is what an earlier process recorded.

        Raises StepError where looking fails. A Rejected from here (that id holds other work) settles nothing: see `submit`.
        """

    @abc.abstractmethod
    def create(self, submission: Submission, ids: Ids, record: Callable[[Ids], None]) -> Ids:
        """Upload and create the job, once, without retrying the create. `record` makes ids learned on the way durable.

        Raises Ambiguous, Rejected, Barred or NoRoomNow.
        """

    @abc.abstractmethod
    def poll(self, ids: Ids, submission: Submission) -> JobStatus:
        """Look at the job. Transient faults are retried inside, with backoff; raises StepError when they persist."""

    @abc.abstractmethod
    def fetch(self, ids: Ids, submission: Submission) -> Iterator[ResultRow]:
        """Every row that the job has, in any order. May lack rows, hold rows twice or foreign ones: the caller checks."""

    @abc.abstractmethod
    def cancel(self, ids: Ids) -> None:
        """Ask the provider to stop the job (no error where it is already over)."""

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Release connections, threads, models."""

    def provenance(self) -> Mapping[str, Any]:
        """Versions and settings worth keeping with the run (SDK, server build, API version). No secrets."""
        return {}


def submit(
    provider: Provider, submission: Submission, ids: Ids, record: Callable[[Ids], None], sleep: Callable[[float], None] = time.sleep
) -> Ids:
    """Get this submission's job, adopting it where it exists and creating it where it does not. The heart of 'never pay twice'.

    The caller has made the intent durable before. `record` makes ids durable as they become known. Returns the job's ids.
    Raises Ambiguous where even renewed looks cannot tell (the next run looks again), Rejected and NoRoomNow where the create surely made
    nothing, StepError where a look failed or the account is turned away: then nothing is known, and the promise stands.
    """
    found = _look(provider, submission, ids)
    if found is not None:
        return found
    try:
        return provider.create(submission, ids, record)
    except Ambiguous:
        for delay in provider.look_again_after:
            sleep(delay)
            found = _look(provider, submission, ids)
            if found is not None:
                return found
        raise


def _look(provider: Provider, submission: Submission, ids: Ids) -> Ids | None:
    try:
        return provider.find(submission, ids)
    except Rejected as e:  # of the look: that it was refused does not say that there is no job
        raise StepError(e.fact, where=e.where, remedy=e.remedy) from e
