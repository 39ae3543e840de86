"""OpenAI's Batch API: a file of requests in, a file of answers and a file of errors out, at half the price.

All ids are server-made and a repeated create makes a second batch. What makes it exactly once is `metadata.submission_key`, looked
for in the list of batches before every create and again after every doubt (see docs/providers/openai.md for what remains).
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import msgspec

from pipeline.base.errors import StepError
from pipeline.base.rows import RequestRow, ResultRow
from pipeline.providers.checks import row_faults
from pipeline.providers.http import Patience
from pipeline.providers.openai_lines import URL, request_line, result_from_line
from pipeline.providers.protocol import Barred, Ids, JobState, JobStatus, Limits, NoRoomNow, Provider, Rejected, Submission
from pipeline.providers.sdk import Gone, Remote, require_env, rows_of, sdk, seen_in_time, unreadable_row

KEY = "submission_key"
MAX_BYTES = 200_000_000
STATES = {
    "validating": JobState.WAITING,
    "in_progress": JobState.RUNNING,
    "finalizing": JobState.RUNNING,
    "cancelling": JobState.RUNNING,
    "completed": JobState.ENDED,
    "failed": JobState.FAILED,
    "expired": JobState.EXPIRED,
    "cancelled": JobState.CANCELLED,
}
QUOTA = frozenset({"token_limit_exceeded", "rate_limit_exceeded"})
"""Codes of a failed validation that say `later`, not `never`."""
FIELDS = frozenset(
    {
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning_effort",
        "verbosity",
        "service_tier",
        "user",
        "store",
        "metadata",
        "prompt_cache_key",
        "safety_identifier",
        "prediction",
        "stream",
    }
)


class OpenAIBatchProvider(Provider):
    """Jobs of OpenAI's Batch API, through the official SDK, whose own environment variables hold key and base URL."""

    name = "openai"

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout_seconds: float = 120.0,
        patience: Patience | None = None,
        skew_seconds: float = 600.0,
        look_again_after: Sequence[float] = (2.0, 5.0, 10.0, 20.0),
        max_tokens_field: str = "max_completion_tokens",
    ) -> None:
        """`patience` bounds a look with its retries; `skew_seconds` is how far our clock may be ahead of theirs.

        `look_again_after` says how long lists may lag: so many looks, so many seconds apart, see nothing before a second create.
        Raises ConfigError without SDK or key.
        """
        module = sdk("openai")
        require_env("OPENAI_API_KEY")
        # The SDK reads key, organisation, project and, without ours, the base URL from its own environment variables.
        client = module.OpenAI(**({"base_url": base_url} if base_url else {}), timeout=timeout_seconds, max_retries=0)
        self._remote = Remote(module, client, patience or Patience(deadline=300.0, attempts=30))
        self._batches, self._files = client.batches, client.files
        self.skew_seconds, self.look_again_after = skew_seconds, tuple(look_again_after)
        self.max_tokens_field = max_tokens_field

    def limits(self) -> Limits:
        """50,000 requests and 200 MB a file. The enqueued-token limit is the account's: the config may name it."""
        return Limits(max_rows=50_000, max_bytes=MAX_BYTES)

    def check(self, rows: Iterator[RequestRow]) -> list[str]:
        """Faults for which validation would fail the whole file."""
        return list(row_faults(rows, fields=FIELDS))

    def wire_row(self, row: RequestRow, model: str) -> dict[str, Any]:
        """A line of the input file. Settings that are null are left out; `max_tokens` goes by the name the model knows."""
        body = {(self.max_tokens_field if key == "max_tokens" else key): value for key, value in row.body.items() if value is not None}
        return request_line(row, {"model": model, **body})

    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        """The batch that carries this submission's key. Where a create was under way, lists are given time to show it."""
        if ids.get("job"):
            return dict(ids)
        found = seen_in_time(lambda: self._look(submission), float(ids.get("create_sent_at") or 0), self.look_again_after)
        return None if found is None else {**ids, **found}

    def create(self, submission: Submission, ids: Ids, record: Callable[[Ids], None]) -> Ids:
        """Upload the file, unless it is there, and create the batch, once."""
        ids = {**ids, "input_file": ids.get("input_file") or self._upload(submission)}
        record({**ids, "create_sent_at": time.time()})
        create = {
            "input_file_id": ids["input_file"],
            "endpoint": URL,
            "completion_window": "24h",
            "metadata": {KEY: submission.key},
        }
        try:
            made = self._remote.create(f"creating batch {submission.key}", lambda: self._batches.with_raw_response.create(**create))
        except (Rejected, Barred, NoRoomNow):
            record({**ids, "create_sent_at": None})
            raise
        return {**ids, "job": made["id"]}

    def poll(self, ids: Ids, submission: Submission) -> JobStatus:
        """Look at the batch."""
        try:
            batch, now = self._batch(ids["job"])
        except Gone:
            if self._look(submission, job=ids["job"]) is None:
                return JobStatus(JobState.LOST, message=f"OpenAI knows no batch {ids['job']}")
            return JobStatus(JobState.RUNNING, message="listed, though not found by its id")
        counts = batch.get("request_counts") or {}
        errors = [error for error in (batch.get("errors") or {}).get("data") or [] if isinstance(error, dict)]
        status = str(batch.get("status"))
        state = STATES.get(status, JobState.RUNNING)
        if state is JobState.FAILED and _ran(batch):
            state = JobState.ENDED  # a failed batch has no answers by all we know; should one have some, they were paid for
        return JobStatus(
            state,
            done=(counts.get("completed") or 0) + (counts.get("failed") or 0),
            total=counts.get("total") or submission.count,
            created_at=batch.get("created_at"),
            started_at=batch.get("in_progress_at"),
            now=now,
            message="; ".join(_said(error) for error in errors[:3]) or ("" if status in STATES else f"unknown status {status}"),
            bad_custom_ids=_named(errors, submission) if state is JobState.FAILED else (),
            retry_later=state is JobState.FAILED and any(error.get("code") in QUOTA for error in errors),
            ids={name: batch[key] for name, key in (("output_file", "output_file_id"), ("error_file", "error_file_id")) if batch.get(key)},
        )

    def fetch(self, ids: Ids, submission: Submission) -> Iterator[ResultRow]:
        """The rows of the output file and of the error file; every state that has ended may have both."""
        batch, _ = self._batch(ids["job"])
        counts = batch.get("request_counts") or {}
        output, errors = batch.get("output_file_id"), batch.get("error_file_id")
        nothing = batch.get("status") == "completed" and not output and not errors and (counts.get("total") or 0)
        if nothing or (counts.get("completed") and not output):  # taken for missing, its answers would be paid for again
            raise StepError(f"batch {ids['job']} is over, but its files are not there yet", remedy="Run again in a few minutes.")
        for file_id, least_rows in ((output, counts.get("completed") or 0), (errors, 0)):
            if file_id:
                for custom_id, row, line in rows_of(self._download(file_id, least_rows)):
                    yield unreadable_row(custom_id, line) if row is None else result_from_line(custom_id, row, line)

    def cancel(self, ids: Ids) -> None:
        """Ask OpenAI to stop the batch; it takes up to ten minutes, and what has finished is billed."""
        if ids.get("job"):
            # 400, 404, 409: it is over already, or gone; then there is nothing to stop.
            self._remote.look("cancelling a batch", lambda: self._batches.with_raw_response.cancel(ids["job"]), over=(400, 404, 409))

    def close(self) -> None:
        """Close the connections."""
        self._remote.client.close()

    def provenance(self) -> Mapping[str, Any]:
        """The SDK's version and the host."""
        return {"sdk": f"openai {self._remote.module.__version__}", "host": self._remote.host}

    def _batch(self, job: str) -> tuple[dict[str, Any], float | None]:
        return self._remote.look(f"looking at batch {job}", lambda: self._batches.with_raw_response.retrieve(job))

    def _download(self, file_id: str, least_rows: int) -> IO[bytes]:
        return self._remote.download(f"downloading {file_id}", lambda: self._files.with_streaming_response.content(file_id), least_rows)

    def _entries(self, what: str, oldest: float, page: Callable[..., Any]) -> Iterator[dict[str, Any]]:
        return self._remote.entries(what, page, oldest, _made_at, "after")

    def _look(self, submission: Submission, job: str | None = None) -> Ids | None:
        """The oldest batch of this submission, where the list shows one; further ones are cancelled.

        A batch that failed is none: nothing of it ran or was billed. With `job`, that very batch is looked for.
        """
        oldest = submission.intent_at - self.skew_seconds
        listed = self._entries("listing batches", oldest, self._batches.with_raw_response.list)
        if job is not None:
            return next(({"job": job} for batch in listed if batch.get("id") == job), None)
        mine = [
            batch
            for batch in listed
            if (batch.get("metadata") or {}).get(KEY) == submission.key
            and (batch.get("status") != "failed" or _ran(batch))
            and batch.get("id") not in submission.known_jobs
        ]
        if not mine:
            return None
        mine.sort(key=lambda batch: (batch.get("created_at") or 0, str(batch["id"])))
        for twin in mine[1:]:
            if not STATES.get(str(twin.get("status")), JobState.RUNNING).final:
                self.cancel({"job": twin["id"]})
        found: Ids = {"job": mine[0]["id"], "input_file": mine[0].get("input_file_id")}
        return found | ({"duplicates": [twin["id"] for twin in mine[1:]]} if mine[1:] else {})

    def _upload(self, submission: Submission) -> str:
        """The id of the input file: an earlier upload of the same name and size, else a new one."""
        name, encoder = f"{submission.key}.jsonl", msgspec.json.Encoder()
        with tempfile.TemporaryFile() as spool:  # a real file: the SDK takes no spooled one on Python 3.10
            for row in submission.rows():
                spool.write(encoder.encode(self.wire_row(row, submission.model)) + b"\n")
            size = spool.tell()
            if size > MAX_BYTES:
                raise Rejected(f"{name} would have {size:,} bytes", remedy="Lower lines_per_part or provider.max_bytes.")
            uploads, oldest = self._files.with_raw_response, submission.intent_at - self.skew_seconds
            for entry in self._entries("listing files", oldest, functools.partial(uploads.list, purpose="batch", order="desc")):
                if entry.get("filename") == name and entry.get("bytes") == size and entry.get("status") in (None, "processed", "uploaded"):
                    return str(entry["id"])

            def upload() -> Any:
                spool.seek(0)
                return uploads.create(file=(name, spool), purpose="batch", timeout=max(600.0, float(self._remote.client.timeout)))

            made, _ = self._remote.look(f"uploading {name}", upload)
        if not isinstance(made.get("id"), str):
            raise StepError(f"uploading {name}: the reply names no file id", remedy="Nothing was billed: run again.")
        return str(made["id"])


def _ran(batch: Mapping[str, Any]) -> bool:
    """True where rows of the batch were answered."""
    return bool(batch.get("output_file_id") or (batch.get("request_counts") or {}).get("completed"))


def _made_at(entry: Mapping[str, Any]) -> float | None:
    at = entry.get("created_at")
    return float(at) if isinstance(at, (int, float)) else None


def _said(error: Mapping[str, Any]) -> str:
    at = f"line {error['line']}: " if error.get("line") else ""
    return f"{at}{error.get('code')}: {error.get('message')}"


def _named(errors: list[dict[str, Any]], submission: Submission) -> tuple[str, ...]:
    """The custom_ids of the lines (1-based) that validation names."""
    lines = {error["line"] for error in errors if isinstance(error.get("line"), int)}
    return tuple(row.custom_id for number, row in enumerate(submission.rows(), 1) if number in lines) if lines else ()
