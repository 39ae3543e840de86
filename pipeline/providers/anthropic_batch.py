"""Anthropic's Message Batches: all requests inline in one create, one results file at the end, at half the price.

The API offers no label, no idempotency key and no look inside a batch before it ends. A batch whose create had an unknown outcome is
therefore sought by time and number of rows, adopted on trust, and proved by the marks in its results' custom_ids: at least once,
deduplicated, with a bound in money (see docs/providers/anthropic.md).
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, Any
from urllib.parse import urljoin

from pipeline.base.errors import ConfigError, StepError
from pipeline.base.rows import RequestRow, ResultRow
from pipeline.providers.anthropic_wire import (
    FIELDS,
    NEW_VERSION,
    OLD_VERSION,
    SAMPLING,
    body_faults,
    mark_of,
    params_of,
    result_from,
    row_number,
    wire_id,
)
from pipeline.providers.checks import row_faults
from pipeline.providers.http import Patience, bare_url, same_origin
from pipeline.providers.protocol import Barred, Ids, JobState, JobStatus, Limits, NoRoomNow, Provider, Rejected, Submission
from pipeline.providers.sdk import Gone, Remote, require_env, rows_of, sdk, seen_in_time, text_of, unreadable_row


class AnthropicBatchProvider(Provider):
    """Jobs of Anthropic's Message Batches, through the official SDK, whose own environment variables hold key and base URL."""

    name = "anthropic"

    def __init__(
        self,
        base_url: str | None = None,
        *,
        timeout_seconds: float = 120.0,
        patience: Patience | None = None,
        skew_seconds: float = 600.0,
        look_again_after: Sequence[float] = (2.0, 5.0, 10.0, 20.0),
        api_version: str = "auto",
    ) -> None:
        """`api_version` is a date, or `auto`: the old one where a request sets temperature, top_p or top_k, else the new one.

        `patience` bounds a look with its retries; `skew_seconds` is how far the clocks may differ; `look_again_after` says how long
        lists may lag. Raises ConfigError without SDK or key, or for an unknown version.
        """
        if api_version not in ("auto", OLD_VERSION, NEW_VERSION):
            raise ConfigError(
                f"unknown API version {api_version!r}", where="provider.options.api_version", remedy="auto or one of both dates."
            )
        module = sdk("anthropic")
        require_env("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE")
        client = module.Anthropic(**({"base_url": base_url} if base_url else {}), timeout=timeout_seconds, max_retries=0)
        self._remote = Remote(module, client, patience or Patience(deadline=300.0, attempts=30))
        self._batches, self._timeout = client.messages.batches, timeout_seconds
        self.skew_seconds, self.look_again_after, self.api_version = skew_seconds, tuple(look_again_after), api_version
        self._begun: dict[str, Ids] = {}
        """By submission key: what was recorded before its create."""

    def limits(self) -> Limits:
        """100,000 requests and 256 MB a batch."""
        return Limits(max_rows=100_000, max_bytes=256_000_000)

    def check(self, rows: Iterator[RequestRow]) -> list[str]:
        """Faults that Anthropic would report only when the batch has ended."""
        listed = list(rows)
        faults = list(row_faults(listed, fields=FIELDS, max_temperature=1.0))
        faults += [fault for row in listed for fault in body_faults(row)]
        if self.api_version == NEW_VERSION:
            faults += [
                f"{row.custom_id}: API version {NEW_VERSION} takes no temperature, top_p or top_k" for row in listed if _samples(row)
            ]
        return faults

    def version_for(self, rows: Iterator[RequestRow]) -> str:
        """The API version under which these rows say what they mean."""
        if self.api_version != "auto":
            return self.api_version
        return OLD_VERSION if any(_samples(row) for row in rows) else NEW_VERSION

    def find(self, submission: Submission, ids: Ids) -> Ids | None:
        """The recorded batch, or, where a create was on its way, one that may be its. Lists are given time to show it."""
        if ids.get("job"):
            return dict(ids)
        ids = {**self._begun.get(submission.key, {}), **ids}
        sent_at = ids.get("create_sent_at")
        if not sent_at:
            return None  # recorded before every POST: without it there was none, and a batch that looks alike is another's
        found = seen_in_time(lambda: self._candidate(submission, ids), float(sent_at), self.look_again_after)
        return None if found is None else {**ids, "job": found, "on_trust": True}

    def create(self, submission: Submission, ids: Ids, record: Callable[[Ids], None]) -> Ids:
        """Send all requests, once."""
        version, mark = self.version_for(submission.rows()), mark_of(submission.key)
        requests = [
            {"custom_id": wire_id(mark, number), "params": params_of(row.body, submission.model)}
            for number, row in enumerate(submission.rows())
        ]
        self._begun[submission.key] = {**ids, "api_version": version, "create_sent_at": time.time()}
        record(self._begun[submission.key])
        try:
            made = self._remote.create(
                f"creating the batch of {submission.key}",
                lambda: self._batches.with_raw_response.create(
                    requests=requests, extra_headers=_header(version), timeout=max(600.0, self._timeout)
                ),
                rows_inline=True,
            )
        except (Rejected, Barred, NoRoomNow):
            record({**self._begun.pop(submission.key), "create_sent_at": None})
            raise
        return {**self._begun[submission.key], "job": made["id"]}

    def poll(self, ids: Ids, submission: Submission) -> JobStatus:
        """Look at the batch. One adopted on trust is proved as soon as it has ended, and exchanged or given up if it is another's."""
        try:
            batch, now = self._batch(ids)
        except Gone as e:
            if any(entry.get("id") == ids["job"] for entry in self._entries(submission.intent_at - self.skew_seconds, ids)):
                return JobStatus(JobState.RUNNING, message="listed, though not found by its id")
            return JobStatus(JobState.LOST, message=e.fact)
        counts = {name: int(count or 0) for name, count in (batch.get("request_counts") or {}).items()}
        total, created = sum(counts.values()), _seconds(batch.get("created_at"))
        status = JobStatus(_state(batch, counts), total - counts.get("processing", 0), total, created, created, now)
        if batch.get("archived_at"):
            return JobStatus(JobState.LOST, message=f"the results of {ids['job']} were removed at {batch['archived_at']}")
        if status.state.final and ids.get("on_trust") and not self._is_ours(batch, ids, submission):
            return self._exchange(ids, submission)
        return status

    def fetch(self, ids: Ids, submission: Submission) -> Iterator[ResultRow]:
        """The rows of the results under our custom_ids. Rows of other batches keep their wire ids; a file of only such is refused."""
        batch, _ = self._batch(ids)
        mark, custom_ids, ours = mark_of(submission.key), [row.custom_id for row in submission.rows()], 0
        for wire, row, line in rows_of(self._results(batch, ids, submission.count)):
            number = row_number(mark, wire)
            known = number is not None and number < len(custom_ids)
            custom_id = custom_ids[number] if known and number is not None else wire
            ours += known
            yield unreadable_row(custom_id, line) if row is None else result_from(custom_id, row.get("result"), text_of(line))
        if not ours and custom_ids:
            raise StepError(
                f"the results of {ids['job']} belong to another submission", remedy="Run again: it will not be adopted any more."
            )

    def cancel(self, ids: Ids) -> None:
        """Ask Anthropic to stop the batch; rows under way may still finish, and are billed."""
        if ids.get("job"):
            cancel = self._batches.with_raw_response.cancel
            # 400, 404, 409: it is over already, or gone; then there is nothing to stop.
            self._remote.look("cancelling a batch", lambda: cancel(ids["job"], extra_headers=_of(ids)), over=(400, 404, 409))

    def close(self) -> None:
        """Close the connections."""
        self._remote.client.close()

    def provenance(self) -> Mapping[str, Any]:
        """The SDK's version, the host, the API version asked for. Anthropic takes no seed: answers are not reproducible."""
        return {"sdk": f"anthropic {self._remote.module.__version__}", "host": self._remote.host, "api_version": self.api_version}

    def _batch(self, ids: Ids) -> tuple[dict[str, Any], float | None]:
        retrieve = self._batches.with_raw_response.retrieve
        return self._remote.look(f"looking at batch {ids['job']}", lambda: retrieve(ids["job"], extra_headers=_of(ids)))

    def _results(self, batch: Mapping[str, Any], ids: Ids, least_rows: int) -> IO[bytes]:
        base, given = str(self._remote.client.base_url), batch.get("results_url")
        if not given:
            raise StepError(f"batch {ids['job']} has no results yet", remedy="Nothing is lost: run again later.")
        if not same_origin(url := urljoin(base, str(given)), base):
            raise StepError(
                f"batch {ids['job']} names results at another host ({bare_url(url)}); the key does not go there",
                remedy="Check provider.base_url and whatever stands between you and Anthropic.",
            )
        stream = self._batches.with_streaming_response.results
        return self._remote.download(f"downloading {ids['job']}", lambda: stream(ids["job"], extra_headers=_of(ids)), least_rows)

    def _candidate(self, submission: Submission, ids: Ids) -> str | None:
        """A batch made since the intent with as many rows, of no known submission and not proved foreign: nearest in time first."""
        listed, oldest = [], submission.intent_at - self.skew_seconds
        excluded = submission.known_jobs | set(ids.get("foreign") or ())
        for batch in self._entries(oldest, ids):
            created, counts = _seconds(batch.get("created_at")), batch.get("request_counts") or {}
            if created is not None and created >= oldest and sum(counts.values()) == submission.count and batch.get("id") not in excluded:
                listed.append((abs(created - float(ids.get("create_sent_at") or submission.intent_at)), str(batch["id"]), batch))
        for _, job, batch in sorted(listed, key=lambda entry: entry[:2]):
            if batch.get("processing_status") != "ended" or self._is_ours(batch, {**ids, "job": job}, submission):
                return job
        return None

    def _entries(self, oldest: float, ids: Ids) -> Iterator[dict[str, Any]]:
        page = functools.partial(self._batches.with_raw_response.list, extra_headers=_of(ids))
        return self._remote.entries("listing batches", page, oldest, lambda batch: _seconds(batch.get("created_at")), "after_id")

    def _is_ours(self, batch: Mapping[str, Any], ids: Ids, submission: Submission) -> bool:
        """Whether an ended batch's results carry this submission's mark."""
        mark = mark_of(submission.key)
        return any(row_number(mark, wire) is not None for wire, _, _ in rows_of(self._results(batch, ids, 0)))

    def _exchange(self, ids: Ids, submission: Submission) -> JobStatus:
        """The status after an adopted batch turned out to be another's: the next candidate, or lost."""
        foreign = [*(ids.get("foreign") or ()), ids["job"]]
        other = self._candidate(submission, {**ids, "foreign": foreign})
        if other is None:
            return JobStatus(JobState.LOST, message=f"batch {ids['job']}, adopted on trust, is another's; no list shows ours")
        return JobStatus(JobState.RUNNING, message=f"batch {ids['job']} is another's; now {other}", ids={"job": other, "foreign": foreign})


def _samples(row: RequestRow) -> bool:
    return any(name in params_of(row.body, "") for name in SAMPLING)


def _header(version: str) -> dict[str, str]:
    return {"anthropic-version": version}


def _of(ids: Ids) -> dict[str, str]:
    return _header(str(ids.get("api_version") or OLD_VERSION))


def _state(batch: Mapping[str, Any], counts: Mapping[str, int]) -> JobState:
    if batch.get("processing_status") != "ended":
        return JobState.RUNNING
    if batch.get("cancel_initiated_at") and counts.get("canceled"):
        return JobState.CANCELLED
    return JobState.EXPIRED if counts.get("expired") else JobState.ENDED


def _seconds(stamp: Any) -> float | None:
    """Seconds since 1970 of an RFC 3339 time, with any number of digits (Python 3.10 reads fractions of three or six only)."""
    text = re.sub(r"\.(\d+)", lambda fraction: f".{fraction[1][:6]:0<6}", str(stamp))
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
