"""One shard's way from promise to published answers. Every line may be the last one of this process; the next finds its place.

owing -> intent (durable) -> submitted (job exists) -> settled (rows kept) -> owing again, or published
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from pipeline.base.checkpoints import announce
from pipeline.base.digests import sha256_file
from pipeline.base.errors import AbidingError, StepError
from pipeline.base.files import atomic_writer, put_aside, write_atomic
from pipeline.base.rows import Failure, RequestRow, ResultRow, encode
from pipeline.providers.http import redact
from pipeline.providers.money import worst_usd
from pipeline.providers.protocol import JobState, JobStatus, Rejected, Submission, submit
from pipeline.providers.shard_files import Desk, ShardFiles, job_name, reason_of, sweep
from pipeline.records.clock import seconds
from pipeline.records.submission import numbers, ranges

__all__ = ["Desk", "Shard", "job_name"]

TRUNCATION_WARNING = 0.2  # share of truncated answers from which the first finished shard warns

UNBILLED = ("retry_later", "failed", "refused", "dropped_bad_rows", "refused_here")
"""Outcomes of attempts of which nothing ran."""
HOPELESS = 4  # lone rows that failed one after another, unnamed, before the cause is sought elsewhere


class Shard(ShardFiles):
    """A shard on its way. Not thread-safe: the queue calls it under its lock."""

    def recollect(self) -> None:
        """results.jsonl is gone or damaged: owe it again, and take what the store and the finished jobs still have. Nothing is sent."""
        self.record.document.update(state="owing", results=None)
        self.record.save()
        self.reuse()
        for attempt in self.record["attempts"]:
            if not self.owed():
                return
            if attempt["state"] != "settled" or job_name(attempt["ids"]) is None:
                continue
            try:
                asked = {self.rows[i].custom_id for i in numbers(attempt["rows"], self.requests)}
                found: dict[str, ResultRow] = {}
                for row in self.desk.provider.fetch(attempt["ids"], self._submission(attempt)):
                    if row.custom_id in asked and row.outcome != "failed":
                        found[row.custom_id] = _better(row, found.get(row.custom_id))
                self._keep(found.values())
            except AbidingError as e:
                self.desk.events.add("recollect_failed", shard=self.name, attempt=attempt["key"], message=str(e))
        self._take_from_damaged()

    def retry_failed(self) -> None:
        """Owe again what was given up, and only that: where results.jsonl is not what was published, its answers are gathered first."""
        failed, results = self.record["failed"], self.paths.results
        if not failed:
            return
        if self.published and results.exists() and sha256_file(results) == self.record["results"]["sha256"]:
            self._keep(row for row in self._results() if row.custom_id not in failed)
        elif self.published:
            if results.exists():
                put_aside(results)
            self.recollect()
        self.record.document.update(failed={}, tries={}, state="owing", results=None)
        self.record.save()

    # --- sending -------------------------------------------------------------------------------------------------

    def reuse(self) -> set[str]:
        """Take answers that the store has. Returns the custom_ids claimed by others, which are worth waiting for."""
        owed = self._take_stored([self.rows[i] for i in self.owed()])
        others = self.desk.store.claim((row.answer_key for row in owed), self.desk.generation, self._owner)
        # Who answers lets go of the claim: between the look and the claim the answer may have come, and its claim gone.
        owed = self._take_stored(owed) if len(others) < len(owed) else owed
        self.claimed_by = sorted(set(others.values()))
        return {row.custom_id for row in owed if row.answer_key in others}

    def _take_stored(self, owed: list[RequestRow]) -> list[RequestRow]:
        """Keep what the store has of `owed`; returns the rest."""
        stored = self.desk.store.get((row.answer_key for row in owed), self.desk.generation)
        if not stored:
            return owed
        found = [_renamed(stored[row.answer_key][0], row.custom_id) for row in owed if row.answer_key in stored]
        self._keep(found)
        times = [at for _row, at in stored.values()]
        reused = self.record["reused"]
        reused["requests"] += len(found)
        reused["oldest"] = min([*times, *([reused["oldest"]] if reused["oldest"] else [])])
        reused["newest"] = max([*times, *([reused["newest"]] if reused["newest"] else [])])
        self.record.save()
        return [row for row in owed if row.answer_key not in stored]

    def sendable(self) -> list[int]:
        """What an attempt may hold: owed, not claimed by others, each content once; fewer where whole jobs failed (splitting)."""
        claimed = self.reuse()
        seen: set[str] = set()
        numbers_ = []
        for i in self.owed():
            row = self.rows[i]
            if row.custom_id not in claimed and row.answer_key not in seen:
                seen.add(row.answer_key)
                numbers_.append(i)
        failures = self._in_a_row("failed")
        return numbers_[: max(1, len(numbers_) >> failures)] if failures else numbers_

    def _in_a_row(self, outcome: str) -> int:
        """How many attempts ended so in a row, up to the last. Whole-job failures halve the next attempt, which isolates a bad row."""
        count = 0
        for attempt in reversed(self.record["attempts"]):
            if attempt["outcome"] != outcome:
                break
            count += 1
        return count

    @property
    def patience(self) -> float:
        """Factor on the wait before the next attempt: doubles with each time in a row that the provider said 'later'."""
        times = self._in_a_row("retry_later")
        return float(2 ** min(times, 6)) if times else 0.0

    def promise(self, chosen: list[int]) -> None:
        """Record the intent to send these rows (durable), reserving their worst case, which the caller has found to fit."""
        spans = None if len(chosen) == self.requests else ranges(chosen)
        reserved = sum(worst_usd(self.rows[i], self.price) for i in chosen)
        attempt = self.record.intend(spans, len(chosen), reserved if self.price else None)
        self.desk.events.add("intent", shard=self.name, attempt=attempt["key"], requests=len(chosen), reserved_usd=attempt["reserved_usd"])
        announce("submit:intent")

    def _submission(self, attempt: dict[str, Any]) -> Submission:
        path = self.paths.rows
        if attempt["rows"] is not None or self.desk.provider.live:
            path = self.paths.attempt(attempt["number"])
            if attempt["key"] not in self._written:
                wanted = b"".join(encode(self.rows[i]) + b"\n" for i in numbers(attempt["rows"], self.requests))
                if not path.exists() or path.read_bytes() != wanted:  # one of that number may be left from a record that was lost
                    write_atomic(path, wanted)
                self._written.add(attempt["key"])
        mine = {job_name(a["ids"]) for a in self.record["attempts"]}
        return Submission(
            key=attempt["key"],
            model=self.model,
            rows_path=path,
            count=attempt["requests"],
            intent_at=seconds(attempt["intent_at"]),
            known_jobs=frozenset(self.desk.known_jobs - mine),
        )

    def launch(self) -> None:
        """Get the promised attempt its job: adopt it where it exists, create it where it does not."""
        attempt = self.record.open_attempt
        if attempt is None or attempt["state"] != "intent":
            return
        submission = self._submission(attempt)
        problems = self.desk.provider.check(submission.rows())
        if problems:
            self._settle(attempt, "refused_here", message="; ".join(problems[:5]))
            raise StepError(
                f"{len(problems)} request(s) would fail the job: {'; '.join(problems[:3])}",
                where=str(submission.rows_path),
                remedy="Mend the items or the config named there.",
            )
        try:
            ids = submit(self.desk.provider, submission, attempt["ids"], lambda found: self.record.learn(attempt, found))
        except Rejected as e:
            self._refused(attempt, str(e), (e.bad_custom_id,) if e.bad_custom_id else (), splittable=e.splittable)
            return
        announce("submit:created")
        self.record.submitted(attempt, ids)
        if name := job_name(ids):
            self.desk.known_jobs.add(name)
        self.desk.events.add("submitted", shard=self.name, attempt=attempt["key"], ids=ids)
        announce("submit:recorded")

    # --- looking and collecting ----------------------------------------------------------------------------------

    def look(self) -> JobStatus | None:
        """Look at the job in flight; collect it where it is over. None where there is none."""
        attempt = self.record.open_attempt
        if attempt is None or attempt["state"] != "submitted":
            return None
        submission = self._submission(attempt)
        status = self.desk.provider.poll(attempt["ids"], submission)
        status = replace(status, message=redact(status.message))
        announce("poll:looked")
        if status.ids:
            self.record.learn(attempt, dict(status.ids))
        if not status.state.final:
            return status
        if status.state is JobState.LOST and self._found_elsewhere(attempt, submission):
            return None  # looked at again next time, by the name that the provider knows
        if status.state is JobState.FAILED:
            if status.retry_later:
                self._settle(attempt, "retry_later", message=status.message)
            else:
                self._refused(attempt, status.message, status.bad_custom_ids, splittable=True)
            return status
        self._collect(attempt, submission, status)
        return status

    def _found_elsewhere(self, attempt: dict[str, Any], submission: Submission) -> bool:
        """Whether the provider knows this submission by its key, though not the job that the record names: then the record erred."""
        found = self.desk.provider.find(submission, {})
        if found is None or job_name(found) == job_name(attempt["ids"]):
            return False
        self.desk.events.add("job_name_mended", shard=self.name, attempt=attempt["key"], was=attempt["ids"], now=found)
        self.record.learn(attempt, found)
        return True

    def cancel(self) -> None:
        """Ask the provider to stop the job in flight; a later look settles it."""
        attempt = self.record.open_attempt
        if attempt is not None and attempt["state"] == "submitted":
            self.desk.provider.cancel(attempt["ids"])
            self.desk.events.add("cancel_asked", shard=self.name, attempt=attempt["key"])

    def _settle(self, attempt: dict[str, Any], outcome: str, **facts: Any) -> None:
        reserved, billed = attempt["reserved_usd"], facts.get("billed_usd")
        if outcome in UNBILLED and self.price:
            billed = facts["billed_usd"] = 0.0
        self.record.settle(attempt, outcome, **facts)
        if reserved is not None:
            self.desk.budget.settle(reserved, billed)
        self.desk.events.add("settled", shard=self.name, attempt=attempt["key"], outcome=outcome, billed_usd=billed)

    def _refused(self, attempt: dict[str, Any], message: str, bad: tuple[str, ...], *, splittable: bool) -> None:
        """The whole job failed and nothing ran. Give up the rows at fault where they are known; else the next attempt is half as large."""
        asked = {self.rows[i].custom_id for i in numbers(attempt["rows"], self.requests)}
        named = [c for c in bad if c in asked]
        if not named and len(asked) == 1 and splittable:
            named = list(asked)
            self._blind += named
            if len(self._blind) >= HOPELESS:  # one row after another, and nothing ever ran: the fault is not in the rows
                for custom_id in self._blind:
                    self.record["failed"].pop(custom_id, None)
                self._blind, named, splittable = [], [], False
        for custom_id in named:
            self.record["failed"][custom_id] = f"rejected: {message}"[:500]
        outcome = "dropped_bad_rows" if named else "failed" if splittable else "refused"  # only what splitting may cure is split
        self._settle(attempt, outcome, message=message[:2000])
        if not splittable:
            raise StepError(
                f"the provider refuses {self.name}: {message}",
                where=str(self.paths.submission),
                remedy="Nothing of it ran or was billed. Mend the cause, then run again.",
            )

    def _collect(self, attempt: dict[str, Any], submission: Submission, status: JobStatus) -> None:
        announce("poll:fetch")
        asked = {self.rows[i].custom_id: self.rows[i] for i in numbers(attempt["rows"], self.requests)}
        found: dict[str, ResultRow] = {}
        facts = {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "duplicates": 0, "foreign": 0}
        billed = 0.0
        for row in self._fetch(attempt, submission, lost=status.state is JobState.LOST):
            facts["prompt_tokens"] += row.usage.prompt_tokens
            facts["completion_tokens"] += row.usage.completion_tokens
            facts["cached_tokens"] += row.usage.cached_tokens
            billed += self.price.of(row.usage) if self.price else 0.0
            if row.custom_id not in asked:
                facts["foreign"] += 1
            else:
                facts["duplicates"] += row.custom_id in found
                found[row.custom_id] = _better(row, found.get(row.custom_id))
        answers = {c: r for c, r in found.items() if r.outcome != "failed"}
        if answers:
            self._blind = []
        problems = {c: reason_of(r) for c, r in found.items() if r.outcome == "failed"}
        gone = status.state is JobState.LOST and not found
        problems |= {c: f"missing: no row in the results ({status.state.value})" for c in asked if c not in found}
        self._keep(answers.values())
        self.desk.store.put(
            {asked[c].answer_key: r for c, r in answers.items()},
            self.desk.generation,
            run_id=self.desk.run_id,
            provider=self.desk.provider_name,
            model=self.model,
            owner=self._owner,
        )
        for custom_id, reason in problems.items():
            tries = self.record["tries"]
            tries[custom_id] = tries.get(custom_id, 0) + 1
            if tries[custom_id] >= self.desk.max_attempts:
                self.record["failed"][custom_id] = reason[:500]
        announce("poll:kept")
        self._settle(
            attempt,
            status.state.value,
            billed_usd=None if gone or not self.price else billed,
            answered=len(answers),
            failed=len(found) - len(answers),
            missing=len(asked) - len(found),
            message=status.message[:2000],
            **facts,
        )
        self._warn_of_truncation(answers)

    def _fetch(self, attempt: dict[str, Any], submission: Submission, *, lost: bool) -> Iterator[ResultRow]:
        try:
            yield from self.desk.provider.fetch(attempt["ids"], submission)
        except AbidingError:
            if not lost:  # of a job that the provider does not know, nothing was to be expected
                raise

    def _warn_of_truncation(self, answers: dict[str, ResultRow]) -> None:
        cut = sum(row.outcome == "truncated" for row in answers.values())
        if answers and cut / len(answers) >= TRUNCATION_WARNING:
            self.desk.notice(f"{self.name}: {cut} of {len(answers)} answers were cut at max_new_tokens; raise it if they matter")
            self.desk.events.add("truncated", shard=self.name, cut=cut, of=len(answers))

    def publish(self) -> bool:
        """Write results.jsonl once nothing is owed: one row per request, in their order. False while something is owed."""
        if self.owed():
            return False
        failed = self.record["failed"]
        announce("poll:publish")
        with atomic_writer(self.paths.results) as f:
            for row in self.rows:
                result = self._accepted.get(row.custom_id)
                if result is None:
                    code, _, message = failed[row.custom_id].partition(": ")
                    result = ResultRow(custom_id=row.custom_id, outcome="failed", error=Failure(code=code or "failed", message=message))
                f.write(encode(result) + b"\n")
        results = self.paths.results
        self.desk.store.release(self._owner)  # before the record says published: nobody lets go of them after it
        self.record.publish({"path": results.name, "size": results.stat().st_size, "sha256": sha256_file(results)})
        self.desk.events.add("published", shard=self.name, requests=self.requests, failed=len(failed))
        if failed:
            self.desk.notice(
                f"{self.name}: {len(failed)} of {self.requests} requests have no answer after {self.desk.max_attempts} attempts; "
                "try them again: doit run --retry_failed"
            )
        sweep(self.paths)
        return True


def _better(row: ResultRow, known: ResultRow | None) -> ResultRow:
    """Of two rows for one request an answer rather than a failure, and the same choice in any order."""
    return row if known is None else min(known, row, key=lambda r: (r.outcome == "failed", encode(r)))


def _renamed(row: ResultRow, custom_id: str) -> ResultRow:
    return msgspec.structs.replace(row, custom_id=custom_id)
