"""`submission.json`: what was promised, sent and settled for one shard. Durable before the first remote call.

It is written twice, its twin first, in another folder: where one is lost or damaged, the other still knows every job under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.base.digests import digest
from pipeline.base.errors import ManifestError
from pipeline.base.files import read_file
from pipeline.base.schemas import read_document, write_document
from pipeline.layout import ShardPaths
from pipeline.records.clock import now_iso, seconds

SCHEMA = "submission"


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Ascending row numbers as [first, last] ranges: [0,1,2,5] -> [[0,2],[5,5]]."""
    found: list[list[int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return found


def numbers(spans: Sequence[Sequence[int]] | None, total: int) -> list[int]:
    """The row numbers of `ranges`; all `total` of them for None."""
    return list(range(total)) if spans is None else [n for first, last in spans for n in range(first, last + 1)]


def attempt_key(document: Mapping[str, Any], spans: list[list[int]] | None, number: int) -> str:
    """The remote name of attempt `number`: made of content, ending in how often the very same rows were asked before it."""
    before = sum(a["rows"] == spans for a in document["attempts"][:number])
    return f"ab-{digest([document['shard']['sha256'], spans])[:20]}-g{document['generation']}-a{before}"


def fault_of(document: Mapping[str, Any]) -> str | None:
    """Why a record contradicts itself, or None. A wrong key would look for the wrong job, find none, and pay again."""
    for number, attempt in enumerate(document["attempts"]):
        if attempt["number"] != number or attempt["key"] != attempt_key(document, attempt["rows"], number):
            return f"attempts[{number}].key is not that of its rows"
        try:
            seconds(attempt["intent_at"])
        except (ValueError, OverflowError):
            return f"attempts[{number}].intent_at is no time"
        spans, requests = attempt["rows"], document["shard"]["requests"]
        count = requests if spans is None else sum(last - first + 1 for first, last in spans)
        if any(first > last or last >= requests for first, last in spans or ()) or attempt["requests"] != count:
            return f"attempts[{number}].requests is not the number of its rows"
        if attempt["state"] == "submitted" and not (isinstance(attempt["ids"].get("job"), str) and attempt["ids"]["job"]):
            return f"attempts[{number}] was submitted, but names no job"
    if (document["state"] == "published") != (document["results"] is not None):
        return f"state is {document['state']}, results are {'there' if document['results'] else 'not'}"
    if document["state"] in ("intent", "submitted") and not (
        document["attempts"] and document["attempts"][-1]["state"] in ("intent", "submitted")
    ):
        return f"state is {document['state']}, but no attempt is open"
    return None


def read_submission(path: Path) -> dict[str, Any]:
    """The document at `path`. Raises FileNotFoundError, or ManifestError where it is corrupt."""
    document: dict[str, Any] = read_document(path, SCHEMA)
    if fault := fault_of(document):
        raise ManifestError(fault, where=str(path))
    return document


def fault_of_twin(paths: ShardPaths) -> str | None:
    """Why a published record's twin would not serve in its place, or None. Before it is published the twin may be ahead."""
    try:
        if read_submission(paths.submission)["state"] != "published":
            return None
        same = read_file(paths.submission_twin) == read_file(paths.submission)
    except FileNotFoundError as e:
        return "is missing" if Path(e.filename) == paths.submission_twin else None
    except ManifestError as e:
        return e.fact if e.where == str(paths.submission_twin) else None
    return None if same else "is not the same as submission.json"


def charged_usd(attempts: Iterable[Mapping[str, Any]]) -> float:
    """Dollars that attempts used up: as billed, else as reserved."""
    return sum(a["billed_usd"] if a["billed_usd"] is not None else (a["reserved_usd"] or 0.0) for a in attempts)


class SubmissionRecord:
    """The record of one shard. Every method that changes it has written it when it returns."""

    def __init__(self, paths: ShardPaths, document: dict[str, Any]) -> None:
        """Use `new` or `load`."""
        self.paths, self.document = paths, document

    @classmethod
    def new(cls, paths: ShardPaths, *, unit: str, key: str, sha256: str, requests: int, generation: int, provider: str) -> SubmissionRecord:
        """A record in which nothing was promised yet. Not written until the first change."""
        return cls(paths, {
            "schema_version": 1,
            "state": "owing",
            "shard": {"unit": unit, "key": key, "sha256": sha256, "requests": requests},
            "generation": generation,
            "provider": provider,
            "attempts": [],
            "reused": {"requests": 0, "oldest": None, "newest": None},
            "tries": {},
            "failed": {},
            "results": None,
        })  # fmt: skip

    @classmethod
    def load(cls, paths: ShardPaths, *, twin: bool = False) -> SubmissionRecord:
        """The record, or with `twin` what its twin says. Raises FileNotFoundError, or ManifestError where it is corrupt."""
        return cls(paths, read_submission(paths.submission_twin if twin else paths.submission))

    @classmethod
    def either(cls, paths: ShardPaths) -> SubmissionRecord:
        """The record, or its twin where the record is lost or damaged. Raises as `load` where neither serves."""
        try:
            return cls.load(paths)
        except (FileNotFoundError, ManifestError):
            with suppress(FileNotFoundError, ManifestError):
                return cls.load(paths, twin=True)
            raise

    def __getitem__(self, key: str) -> Any:
        return self.document[key]

    def save(self) -> None:
        """Write the record, whole and valid, its twin first: that one is never behind."""
        write_document(self.paths.submission_twin, self.document, SCHEMA)
        write_document(self.paths.submission, self.document, SCHEMA)

    @property
    def open_attempt(self) -> dict[str, Any] | None:
        """The attempt that is promised or in flight, if any: there is at most one."""
        attempts = self.document["attempts"]
        return attempts[-1] if attempts and attempts[-1]["state"] in ("intent", "submitted") else None

    def intend(self, spans: list[list[int]] | None, requests: int, reserved_usd: float | None) -> dict[str, Any]:
        """Promise an attempt: durable before any remote call. Its key is made of content, so the same rows get the same job.

        It ends in how often these very rows were asked before, not in the attempt's number: should this record be lost, its successor
        promises the same keys again, and finds the jobs that exist.
        """
        number = len(self.document["attempts"])
        attempt = {
            "number": number,
            "key": attempt_key(self.document, spans, number),
            "state": "intent",
            "rows": spans,
            "requests": requests,
            "ids": {},
            "intent_at": now_iso(),
            "submitted_at": None,
            "settled_at": None,
            "reserved_usd": reserved_usd,
            "billed_usd": None,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "cached_tokens": 0,
            "answered": 0,
            "failed": 0,
            "missing": 0,
            "duplicates": 0,
            "foreign": 0,
            "outcome": None,
            "message": "",
        }
        self.document["attempts"].append(attempt)
        self.document["state"] = "intent"
        self.save()
        return attempt

    @property
    def charged_usd(self) -> float:
        """Dollars that its attempts used up."""
        return charged_usd(self.document["attempts"])

    @property
    def billed_usd(self) -> float:
        """Dollars that its settled attempts cost."""
        return float(sum(a["billed_usd"] or 0.0 for a in self.document["attempts"]))

    @property
    def answered(self) -> int:
        """Requests that have an answer: asked for by this shard, or taken from the store."""
        requests, failed = self.document["shard"]["requests"], len(self.document["failed"])
        if self.document["state"] == "published":
            return int(requests - failed)
        found = sum(a["answered"] for a in self.document["attempts"]) + self.document["reused"]["requests"]
        return int(min(found, requests - failed))

    def learn(self, attempt: dict[str, Any], ids: dict[str, Any]) -> None:
        """Keep remote ids as they become known."""
        if any(attempt["ids"].get(k) != v for k, v in ids.items()):
            attempt["ids"].update(ids)
            self.save()

    def submitted(self, attempt: dict[str, Any], ids: dict[str, Any]) -> None:
        """The job exists under these ids."""
        attempt["ids"].update(ids)
        attempt.update(state="submitted", submitted_at=now_iso())
        self.document["state"] = "submitted"
        self.save()

    def settle(self, attempt: dict[str, Any], outcome: str, **facts: Any) -> None:
        """The job is over and its rows are kept: what is still owed may be sent anew."""
        attempt.update(state="settled", settled_at=now_iso(), outcome=outcome, **facts)
        self.document["state"] = "owing"
        self.save()

    def publish(self, results: dict[str, Any]) -> None:
        """`results.jsonl` is there, whole."""
        self.document.update(state="published", results=results)
        self.save()
