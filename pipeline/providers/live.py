"""Providers that answer one request at a time: a durable journal plays the part of the remote job.

Nothing is remote before a request is asked, and each answer is journalled (fsynced) by the thread that got it, before it counts.
Whatever kills the process, at most the `workers` requests then in flight are asked again; a soft stop (`drain`) loses none.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec

from pipeline.base.errors import AbidingError, ManifestError, StepError
from pipeline.base.files import Journal
from pipeline.base.rows import Failure, RequestRow, ResultRow
from pipeline.providers.protocol import Ids, JobState, JobStatus, Limits, Provider, Submission

JOURNAL = "journal.jsonl"
LONGEST_DELAY = 30.0
"""Backoff doubles from `first_delay` up to this, in seconds, with jitter."""
LONGEST_WAIT = 600.0
"""A server that asks for more patience than this, in seconds, stops the run (resumable)."""
MAX_JOBS = 64
LOOK_AT_STOP = 0.05
"""How often a waiting poll asks whether it should stop, in seconds."""


class Transient(AbidingError):
    """A fault worth a retry.

    With the tries used up it becomes a failed row, or, where it concerns the whole server and not this request, a StepError.
    """

    def __init__(self, fact: str, *, code: str = "transient", retry_after: float | None = None, whole_server: bool = False) -> None:
        """`code` goes into the failed row; with `retry_after` (seconds) or `whole_server` all requests are held back, not only this one."""
        super().__init__(fact)
        self.code, self.retry_after, self.whole_server = code, retry_after, whole_server or retry_after is not None


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the journal. The job tells apart the attempts that share a folder: a follow-up asks again what failed before."""

    job: str
    row: ResultRow


_entries, _encoder = msgspec.json.Decoder(Entry), msgspec.json.Encoder()


def journal_rows(path: Path, job: str) -> Iterator[ResultRow]:
    """The answers that `job` has in the journal at `path`, oldest first; none where there is no journal.

    Raises ManifestError naming file:line for a whole line that is no entry.
    """
    if not path.exists():
        return
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if not line.endswith(b"\n"):
                return  # torn by a kill: cut back when the journal is next opened for appending
            try:
                entry = _entries.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                raise ManifestError(f"not a journal entry: {e}", where=f"{path}:{number}") from e
            if entry.job == job:
                yield entry.row


class _Request:
    """A request that is owed: how often it was tried, and from when (monotonic seconds) it may be asked."""

    __slots__ = ("not_before", "row", "tried")

    def __init__(self, row: RequestRow) -> None:
        self.row, self.tried, self.not_before = row, 0, 0.0


class _Job:
    """A submission being answered: what it owes, what is in flight, how many answers are durable."""

    def __init__(self, name: str, submission: Submission, journal: Journal, lock: threading.Lock) -> None:
        self.name, self.model, self.journal, self.lock, self.total = name, submission.model, journal, lock, submission.count
        answered = {row.custom_id for row in journal_rows(journal.path, name)}
        self.done = len(answered)
        self.fresh = (_Request(row) for row in submission.rows() if row.custom_id not in answered)
        self.again: deque[_Request] = deque()
        self.landed: SimpleQueue[tuple[_Request, Future[bool]]] = SimpleQueue()
        self.flying = 0
        self.cancelled = False

    def owes(self) -> bool:
        """Whether there are requests neither answered nor in flight. Looks one ahead into the rows."""
        if not self.again and (ahead := next(self.fresh, None)) is not None:
            self.again.append(ahead)
        return bool(self.again)

    def next(self) -> _Request | None:
        """The next request that may be asked now: a retry that is due, else a fresh one."""
        now = time.monotonic()
        for _ in range(len(self.again)):
            if self.again[0].not_before <= now:
                return self.again.popleft()
            self.again.rotate(-1)
        return next(self.fresh, None)

    def state(self) -> JobState:
        """RUNNING while anything is in flight, so that a cancelled job is over only when its last answer is durable."""
        if self.flying:
            return JobState.RUNNING
        if self.cancelled:
            return JobState.CANCELLED
        return JobState.RUNNING if self.owes() else JobState.ENDED

    def keep(self, row: ResultRow) -> None:
        """Make an answer durable, then count it. Called on worker threads."""
        record = _encoder.encode(Entry(self.name, row))
        with self.lock:
            self.journal.append(record)
            self.done += 1

    def touch_down(self, request: _Request, future: Future[bool]) -> None:
        """Hand a request back to the polling thread. Called on worker threads."""
        self.landed.put((request, future))

    def land(self) -> None:
        """Take back one request from the workers; waits at most LOOK_AT_STOP, then raises queue.Empty. Raises what stopped it."""
        request, future = self.landed.get(timeout=LOOK_AT_STOP)
        self.flying -= 1
        if future.exception() is not None or future.result():
            self.again.append(request)
        future.result()


class LiveProvider(Provider):
    """Base of live providers. Subclasses implement `answer`; `workers` of them run at a time, on threads."""

    live = True

    def __init__(self, workers: int = 1, slice_seconds: float = 0.5, max_tries: int = 8, first_delay: float = 0.5) -> None:
        """`slice_seconds` is how long a poll works before it reports; `max_tries` counts the first try; `first_delay` is in seconds."""
        self.workers, self.slice_seconds, self.max_tries, self.first_delay = workers, slice_seconds, max_tries, first_delay
        self.stop_requested: Callable[[], bool] = lambda: False
        """Set by the queue: once it says True, no request is begun any more."""
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=self.name)
        self._jobs: dict[str, _Job] = {}
        self._journals: dict[Path, tuple[Journal, threading.Lock]] = {}
        self._cancelled: set[str] = set()
        self._draining = False
        self._hold_until = 0.0

    def limits(self) -> Limits:
        """Enough jobs side by side to keep all workers busy: each holds two files open while it lasts."""
        return Limits(max_concurrent_jobs=MAX_JOBS)

    @abc.abstractmethod
    def answer(self, row: RequestRow, model: str) -> ResultRow:
        """Ask one request, on a worker thread. A fault of the request itself is a `failed` row.

        Raises Transient for what is worth a retry, StepError for what stops the whole run (bad key, unknown model).
        """

    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        """The job, where it was begun before. Its answers are in the journal, so beginning it again would cost nothing either."""
        return dict(ids) if ids.get("job") == _job_name(submission) else None

    def create(self, submission: Submission, ids: Ids, record: Callable[[Ids], None]) -> Ids:
        """Name the job; nothing is asked yet."""
        return {**ids, "job": _job_name(submission)}

    def poll(self, ids: Ids, submission: Submission) -> JobStatus:
        """Ask further requests for one slice, and until at least one is back, unless a stop or a backoff forbids it.

        What is in flight at the end goes on and is collected by a later poll. Raises StepError (bad key, server away).
        """
        job = self._job(submission)
        end, landed = time.monotonic() + self.slice_seconds, False
        while not (job.cancelled and not job.flying):
            self._begin(job)
            if not job.flying and (self.stop_requested() or not job.owes()):
                break
            if self.stop_requested() or (time.monotonic() >= end and (landed or not job.flying)):
                break
            with contextlib.suppress(Empty):
                job.land()
                landed = True
        status = JobStatus(job.state(), done=job.done, total=job.total)
        if status.state.final:
            self._release(job)
        return status

    def fetch(self, ids: Ids, submission: Submission) -> Iterator[ResultRow]:
        """The journalled answers of this job."""
        return journal_rows(submission.rows_path.with_name(JOURNAL), _job_name(submission))

    def cancel(self, ids: Ids) -> None:
        """Begin no further request of this job; those in flight are still journalled."""
        name = str(ids.get("job"))
        self._cancelled.add(name)
        if name in self._jobs:
            self._jobs[name].cancelled = True

    def drain(self) -> None:
        """Wait for the requests in flight, so that a stop loses nothing that was asked. None is begun meanwhile."""
        self._draining = True
        try:
            for job in self._jobs.values():
                while job.flying:
                    # A fault met now leaves its request owed; the next run meets it again and reports it.
                    with contextlib.suppress(Empty, AbidingError):
                        job.land()
        finally:
            self._draining = False

    def close(self) -> None:
        """Drain, then release threads and journals."""
        self.drain()
        self._pool.shutdown()
        for journal, _lock in self._journals.values():
            journal.close()
        self._jobs.clear()
        self._journals.clear()

    def _job(self, submission: Submission) -> _Job:
        name = _job_name(submission)
        if name not in self._jobs:
            path = submission.rows_path.with_name(JOURNAL)
            if path not in self._journals:
                self._journals[path] = (Journal(path), threading.Lock())
            self._jobs[name] = _Job(name, submission, *self._journals[path])
            self._jobs[name].cancelled = name in self._cancelled
        return self._jobs[name]

    def _release(self, job: _Job) -> None:
        """Close what a job that is over holds open."""
        del self._jobs[job.name]
        job.fresh.close()
        if not any(other.journal is job.journal for other in self._jobs.values()):
            job.journal.close()
            del self._journals[job.journal.path]

    def _held_back(self) -> bool:
        return self._draining or time.monotonic() < self._hold_until or self.stop_requested()

    def _begin(self, job: _Job) -> None:
        # As many requests again wait in line as there are workers, so that none idles between two polls.
        while job.flying < 2 * self.workers and not job.cancelled and not self._held_back() and (request := job.next()):
            job.flying += 1
            self._pool.submit(self._work, job, request).add_done_callback(functools.partial(job.touch_down, request))

    def _work(self, job: _Job, request: _Request) -> bool:
        """On a worker thread: ask and journal. Returns whether the request is still owed."""
        if job.cancelled or self._held_back():
            return True
        try:
            row = self.answer(request.row, job.model)
        except Transient as fault:
            if self._put_off(request, fault):
                return True
            row = ResultRow(custom_id=request.row.custom_id, outcome="failed", error=Failure(code=fault.code, message=fault.fact))
        job.keep(row)
        return False

    def _put_off(self, request: _Request, fault: Transient) -> bool:
        """Set when the request may be asked again. False where it had its tries; StepError where the server is at fault, not it."""
        request.tried += 1
        delay = min(LONGEST_DELAY, self.first_delay * 2 ** (request.tried - 1)) * random.uniform(0.5, 1.0)
        delay = max(delay, fault.retry_after or 0.0)
        if request.tried >= self.max_tries or delay > LONGEST_WAIT:
            if not fault.whole_server:
                return False
            request.tried = 0
            wait = f" It asks to wait {delay:.0f} s." if delay > LONGEST_WAIT else ""
            raise StepError(fault.fact + wait, remedy="Every answer so far is kept: run again when the server takes requests.") from fault
        request.not_before = time.monotonic() + delay
        if fault.whole_server:
            self._hold_until = max(self._hold_until, request.not_before)
        return True


def _job_name(submission: Submission) -> str:
    return f"live-{submission.key}"
