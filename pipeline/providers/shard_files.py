"""A shard's files: its requests, its record, the answers kept so far, and what is made of those that were damaged or superseded."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.base.files import Journal, put_aside
from pipeline.base.rows import RequestRow, ResultRow, encode, read_rows, readable_rows
from pipeline.layout import ShardPaths
from pipeline.providers.money import Budget, Price
from pipeline.providers.protocol import Provider
from pipeline.records.answers import AnswerStore
from pipeline.records.events import Events
from pipeline.records.submission import SubmissionRecord, charged_usd, read_submission


@dataclass
class Desk:
    """What all shards of a run share."""

    run_id: str
    provider: Provider
    provider_name: str
    store: AnswerStore
    events: Events
    budget: Budget
    generation: int
    max_attempts: int
    notice: Callable[[str], None]
    known_jobs: set[str] = field(default_factory=set)


def job_name(ids: dict[str, Any]) -> str | None:
    """The remote job's name among its ids."""
    name = ids.get("job")
    return None if name is None else str(name)


class ShardFiles:
    """What a shard has on disk. `Shard` adds what happens to it."""

    def __init__(
        self, desk: Desk, paths: ShardPaths, *, unit: str, key: str, model: str, sha256: str, requests: int, price: Price | None
    ) -> None:
        """`sha256` and `requests` are the build manifest's; `model` is the provider's name of it."""
        self.desk, self.paths, self.unit, self.key = desk, paths, unit, key
        self.model, self.sha256, self.requests, self.price = model, sha256, requests, price
        self._blind: list[str] = []
        """Rows given up because a job of them alone failed, unnamed by the provider, since a job last brought answers."""
        self._written: set[str] = set()
        self.record = self._load()
        self.claimed_by: list[str] = []
        """Owners of the requests that others have under way, as of the last look at the store."""

    @property
    def name(self) -> str:
        """`<unit>/t0_p00`."""
        return f"{self.unit}/{self.key}"

    @property
    def _owner(self) -> str:
        return f"{self.desk.run_id}/{self.name}"

    # --- the record ----------------------------------------------------------------------------------------------

    def _new_record(self) -> SubmissionRecord:
        return SubmissionRecord.new(
            self.paths,
            unit=self.unit,
            key=self.key,
            sha256=self.sha256,
            requests=self.requests,
            generation=self.desk.generation,
            provider=self.desk.provider_name,
        )

    def _load(self) -> SubmissionRecord:
        found, reason = self._read(twin=False)
        if found is not None and self._fits(found):
            return found
        twin, _ = self._read(twin=True)
        if twin is not None and self._fits(twin):
            if self.paths.submission.exists():
                self._set_aside(reason or "is about other requests than its twin")
            twin.save()
            self.desk.events.add("submission_restored", shard=self.name, attempts=len(twin["attempts"]))
            return twin
        if found is not None:
            return self._retire(found)
        if self.paths.submission.exists():
            self._set_aside(reason)
        return self._salvaged(self._new_record())

    def _read(self, *, twin: bool) -> tuple[SubmissionRecord | None, str]:
        """(the record, or its twin's; why there is none)."""
        try:
            return SubmissionRecord.load(self.paths, twin=twin), ""
        except FileNotFoundError:
            return None, "is missing"
        except ManifestError as e:
            return None, str(e)

    def _fits(self, record: SubmissionRecord) -> bool:
        return bool(record["shard"]["sha256"] == self.sha256 and record["generation"] == self.desk.generation)

    def _set_aside(self, reason: str) -> None:
        aside = put_aside(self.paths.submission)
        self.desk.events.add("submission_set_aside", shard=self.name, file=aside.name, reason=reason)
        self.desk.notice(f"{self.name}: submission.json was corrupt and lies beside as {aside.name}; its twin is asked, or the provider")

    def _salvaged(self, record: SubmissionRecord) -> SubmissionRecord:
        # The record is lost, but answers may have been published: taken as they stand where they fit the requests one to one.
        # Not in a later generation, which must not take an earlier one's answers for its own.
        if self.desk.generation or not self.paths.results.exists() or not self.paths.rows.exists():
            return record
        try:
            found = self._results()
        except ManifestError:
            return record
        if [row.custom_id for row in found] == [row.custom_id for row in self.rows]:
            self._keep(row for row in found if row.outcome != "failed")
            record.document["failed"] = {row.custom_id: reason_of(row)[:500] for row in found if row.outcome == "failed"}
        return record

    def charged_usd(self) -> float:
        """Dollars that this shard used up so far, in earlier generations too."""
        total = self.record.charged_usd
        for path in self.paths.folder.glob("superseded_*/submission.json"):
            with contextlib.suppress(ManifestError):
                total += charged_usd(read_submission(path)["attempts"])
        return total

    def _retire(self, record: SubmissionRecord) -> SubmissionRecord:
        # Other requests, or another generation (`--fresh`): the old record and its answers stay beside, nothing paid is thrown away.
        if record.open_attempt is not None:
            self.desk.events.add("attempt_abandoned", shard=self.name, attempt=record.open_attempt["key"], ids=record.open_attempt["ids"])
        aside = self.paths.folder / f"superseded_g{record['generation']}_{record['shard']['sha256'][:8]}"
        number = 1
        while aside.exists():  # requests that changed and changed back: an older record may lie there
            number += 1
            aside = aside.with_name(f"{aside.name.partition('.')[0]}.{number}")
        self.paths.submission_twin.unlink(missing_ok=True)  # before the other moves: it must not bring it back
        aside.mkdir(parents=True)
        for path in (self.paths.results, self.paths.collected, self.paths.submission):
            if path.exists():
                path.rename(aside / path.name)
        return self._new_record()

    # --- rows ----------------------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> list[RequestRow]:
        """The requests, in order. Raises ManifestError where the file is not the one that was built."""
        rows = list(read_rows(self.paths.rows, RequestRow))
        if len(rows) != self.requests:
            raise ManifestError(
                f"holds {len(rows)} requests, {self.requests} were built",
                where=str(self.paths.rows),
                remedy="Rebuild it: doit run --from_step build",
            )
        return rows

    @cached_property
    def _accepted(self) -> dict[str, ResultRow]:
        """Answers kept so far, by custom_id."""
        if not self.paths.collected.exists():
            return {}
        asked = {row.custom_id for row in self.rows}
        journal = Journal(self.paths.collected)  # cuts a torn last line
        journal.close()
        try:
            return {row.custom_id: row for row in read_rows(self.paths.collected, ResultRow) if row.custom_id in asked}
        except ManifestError as e:  # not torn by us: damaged. The store and the jobs have the answers.
            aside = put_aside(self.paths.collected)
            self.desk.notice(f"{self.name}: collected.jsonl was corrupt and lies beside as {aside.name} ({e})")
            return {}

    def _keep(self, found: Iterable[ResultRow]) -> None:
        batch = [row for row in found if row.custom_id not in self._accepted]
        if not batch:
            return
        journal = Journal(self.paths.collected)
        try:
            journal.append(b"\n".join(encode(row) for row in batch))
        finally:
            journal.close()
        self._accepted.update((row.custom_id, row) for row in batch)

    def owed(self) -> list[int]:
        """Numbers of the rows that have no answer yet and were not given up."""
        given_up = self.record["failed"]
        return [i for i, row in enumerate(self.rows) if row.custom_id not in self._accepted and row.custom_id not in given_up]

    @property
    def published(self) -> bool:
        """True where results.jsonl was published (its digest is the caller's to check)."""
        return bool(self.record["state"] == "published")

    @property
    def in_flight(self) -> bool:
        """True where a job of this shard exists, or may exist."""
        return self.record.open_attempt is not None

    def _take_from_damaged(self) -> None:
        """The last resort: rows of results.jsonl as it was found, where neither the store nor a job has the answer any more."""
        owed = {self.rows[i].custom_id for i in self.owed()}
        for path in sorted(self.paths.folder.glob(f"{self.paths.results.name}.corrupt.*"), reverse=True):
            found = [row for row in readable_rows(path, ResultRow) if row.custom_id in owed and row.outcome != "failed"]
            if found:
                self._keep(found)
                self.desk.events.add("taken_from_damaged", shard=self.name, file=path.name, requests=len(found))
                self.desk.notice(
                    f"{self.name}: {len(found)} answers stand only in the damaged {path.name}; they are taken as they stand there"
                )
                return

    def _results(self) -> list[ResultRow]:
        return list(read_rows(self.paths.results, ResultRow))


def sweep(paths: ShardPaths) -> None:
    """Remove what only mattered on the way to a shard's published answers. Harmless when repeated: publish comes first."""
    paths.collected.unlink(missing_ok=True)
    for folder in paths.folder.glob("attempt_*"):
        shutil.rmtree(folder, ignore_errors=True)


def reason_of(row: ResultRow) -> str:
    """Why a request failed: `code: message`."""
    return f"{row.error.code}: {row.error.message}" if row.error else "failed: no reason given"
