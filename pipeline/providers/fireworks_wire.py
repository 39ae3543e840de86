"""Fireworks' wire format and ours: rows out, rows in, job states, and the faults that would fail a job. Nothing here talks to anyone.

Where no source shows what Fireworks sends (the shape of an error row, states with or without their prefix), every form seen is read.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.files import atomic_writer
from pipeline.base.rows import RequestRow, ResultRow
from pipeline.providers.chat import failed_row, result_from_chat
from pipeline.providers.protocol import Ids, JobState, JobStatus

log = logging.getLogger(__name__)

ROLES = frozenset({"system", "user", "assistant", "tool"})
_WAITING = "UNSPECIFIED CREATING CREATING_INPUT_DATASET VALIDATING PENDING IDLE PAUSED RE_QUEUEING"
_RUNNING = "RUNNING WRITING_RESULTS CANCELLING DELETING DELETING_CLEANING_UP"
STATES: dict[str, JobState] = {
    **dict.fromkeys(_WAITING.split(), JobState.WAITING),
    **dict.fromkeys(_RUNNING.split(), JobState.RUNNING),
    # Whether a deleted or archived job's results can still be had is shown by its output dataset, not by its state.
    **dict.fromkeys(("COMPLETED", "EARLY_STOPPED", "ARCHIVED", "DELETED"), JobState.ENDED),
    "FAILED": JobState.FAILED,
    "EXPIRED": JobState.EXPIRED,
    "CANCELLED": JobState.CANCELLED,
}
_QUOTA = re.compile(r"quota|rate.?limit|resource.?exhausted|capacity|too many", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TORN_ID = re.compile(r'"custom_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')


def short(name: Any) -> str:
    """The id at the end of a resource name: `accounts/A/datasets/d1` -> `d1`."""
    return str(name or "").rsplit("/", 1)[-1]


# ------------------------------------------------------------------------------------------------------------- sending


def write_input(rows: Iterable[RequestRow], target: Path) -> tuple[int, int]:
    """Write the input dataset, `{"custom_id","body"}` a line; returns (rows, bytes).

    Sampling stands in the row alone, never in the job: which of the two wins is not documented.
    """
    encoder, count, size = msgspec.json.Encoder(), 0, 0
    with atomic_writer(target) as f:
        for row in rows:
            line = encoder.encode({"custom_id": row.custom_id, "body": row.body}) + b"\n"
            count, size = count + 1, size + f.write(line)
    return count, size


def input_faults(rows: Iterable[RequestRow], max_rows: int | None, max_bytes: int | None, roles: frozenset[str] = ROLES) -> list[str]:
    """What would fail the whole job, a line each, naming the custom_id. One invalid row fails all of them, with zero output."""
    faults: list[str] = []
    encoder, seen, total = msgspec.json.Encoder(), set[str](), 0
    for row in rows:
        problems = list(_row_faults(row.body, roles))
        if not _WORD.fullmatch(row.custom_id):
            problems.append("its custom_id is not 1 to 64 of A-Z a-z 0-9 _ -")
        if row.custom_id in seen:
            problems.append("its custom_id stands twice in this job")
        seen.add(row.custom_id)
        try:
            total += len(encoder.encode({"custom_id": row.custom_id, "body": row.body})) + 1
        except (TypeError, ValueError) as e:
            problems.append(f"its body cannot be written as JSON: {e}")
        faults.extend(f"{row.custom_id}: {problem}" for problem in problems)
    if max_rows is not None and len(seen) > max_rows:
        faults.append(f"the job has {len(seen)} rows; limit {max_rows} (provider.max_rows)")
    if max_bytes is not None and total > max_bytes:
        faults.append(f"the input file has {total} bytes; limit {max_bytes} (provider.max_bytes)")
    return faults


def _row_faults(body: Mapping[str, Any], roles: frozenset[str]) -> Iterator[str]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "it has no messages"
        messages = []
    for number, message in enumerate(messages):
        yield from (f"messages[{number}] {problem}" for problem in _message_faults(message, roles))
    for name in ("max_tokens", "max_completion_tokens"):
        if name in body and (not _is_int(body[name]) or body[name] < 1):
            yield f"{name} is {body[name]!r}, not a positive whole number"
    for name, low, high in (("temperature", 0, 2), ("top_p", 0, 1)):
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high):
            yield f"{name} is {value!r}, not a number from {low} to {high}"
    if body.get("n", 1) != 1:
        yield f"n is {body['n']!r}: one answer a request is read, more would be paid for"
    if body.get("stream"):
        yield "stream is set: a batch job cannot stream"
    for name in sorted({"model", "method", "url"} & body.keys()):
        yield f"{name} belongs to the job, not into the row"


def _message_faults(message: Any, roles: frozenset[str]) -> Iterator[str]:
    if not isinstance(message, dict):
        yield "is not an object"
        return
    role, content = message.get("role"), message.get("content")
    if role not in roles:
        yield f"has the role {role!r}, not one of {', '.join(sorted(roles))}"
    if isinstance(content, list):
        if not content or not all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in content):
            yield "has content parts that are not objects with a type"
    elif not isinstance(content, str) and not (role == "assistant" and message.get("tool_calls")):
        yield "has no text"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# ------------------------------------------------------------------------------------------------------------- reading


def read_line(line: bytes) -> ResultRow | None:
    """One line of `BIJOutputSet.jsonl` or `error-data`. None where it names no request; what is not understood keeps its raw line."""
    text = line.decode("utf-8", "replace").strip()
    raw = text if "\ufffd" not in text else line.decode("utf-8", "backslashreplace").strip()
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as e:
        found = _TORN_ID.search(text)
        return failed_row(found.group(1), f"the result line is not JSON: {e}", raw=raw, default_code="unreadable") if found else None
    custom_id = row.get("custom_id") if isinstance(row, dict) else None
    if not isinstance(custom_id, str) or not _WORD.fullmatch(custom_id):
        return None
    response = row.get("response")
    request_id = row["request_id"] if isinstance(row.get("request_id"), str) else None
    if isinstance(response, dict) and "body" in response and "choices" not in response:  # OpenAI's wrapper, in case it comes to that
        if response.get("status_code", 200) != 200:
            return failed_row(custom_id, response["body"] or row.get("error"), raw=raw, default_code=f"http_{response['status_code']}")
        response = response["body"]
    if isinstance(response, dict) and not row.get("error"):
        result = result_from_chat(custom_id, response, request_id)
        if result.error is not None or raw != text:
            result.raw = result.raw or raw
        return result
    return failed_row(
        custom_id, row.get("error") or response or {k: v for k, v in row.items() if k != "custom_id"}, request_id=request_id, raw=raw
    )


def unreadable_lines(path: Path) -> tuple[int, int]:
    """(lines that are not UTF-8 JSON objects, lines) of a downloaded file: the former may come of a fault on the way."""
    bad = lines = 0
    with open(path, "rb") as f:
        for line in filter(bytes.strip, f):
            lines += 1
            bad += not _is_json_object(line)
    return bad, lines


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode("utf-8")), dict)
    except (ValueError, RecursionError):
        return False


def read_results(path: Path, where: str) -> Iterator[ResultRow]:
    """The rows of one downloaded file; a line that names no request is logged and left out (its request will be missing)."""
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if line.strip():
                row = read_line(line)
                if row is None:
                    log.warning("%s:%d: a result line that names no request was left out: %r", where, number, line[:200])
                else:
                    yield row


# -------------------------------------------------------------------------------------------------------------- states


def job_state(job: Mapping[str, Any]) -> tuple[JobState, str]:
    """(state, warning) of a job object. An unknown state is not final: better to look again than to pay again."""
    name = _state_name(job)
    if name in STATES:
        return STATES[name], ""
    state = JobState.RUNNING if isinstance(job.get("jobProgress"), dict) else JobState.WAITING
    return state, f"unknown job state {name!r}, taken as {state.value}"


def job_status(job: Mapping[str, Any], count: int, now: float | None, ids: Ids, known_ids: Callable[[], set[str]]) -> JobStatus:
    """One look at a job object, as the queue sees it. `known_ids` gives the job's custom_ids, asked for only when it failed."""
    state, warning = job_state(job)
    if state is JobState.FAILED and has_answers(job):
        state = JobState.ENDED  # a FAILED job has no output by all we know; should one have some, it was paid for
    if warning:
        log.warning("job %s: %s", short(job.get("name")), warning)
    status = job["status"] if isinstance(job.get("status"), dict) else {}
    said = str(status.get("message") or "")
    code = str(status.get("code") or "")
    notes = [warning, said, "waiting on capacity" if job.get("waitingOnCapacity") and not state.final else ""]
    lifecycle = job["lifecycle"] if isinstance(job.get("lifecycle"), dict) else {}
    failed = state is JobState.FAILED
    return JobStatus(
        state=state,
        done=_progress(job, "totalProcessedRequests"),
        total=count,  # the job's own total merely echoes what the dataset was declared to hold
        created_at=seconds(job.get("createTime")),
        started_at=seconds(lifecycle.get("runStartTime")),
        now=now,
        message="; ".join(note for note in notes if note) or ("the job failed without a reason" if failed else ""),
        bad_custom_ids=tuple(sorted(set(_WORD.findall(said)) & known_ids())) if failed and said else (),
        retry_later=failed and (code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "8", "14") or bool(_QUOTA.search(said))),
        ids=ids,
    )


def has_answers(job: Mapping[str, Any]) -> bool:
    """True where the job says that rows were answered: there must then be something to fetch."""
    return bool(_progress(job, "successfullyProcessedRequests") or _progress(job, "outputRows"))


def announced_rows(job: Mapping[str, Any]) -> int:
    """How many rows the job says its result files hold, at least; 0 where it does not say."""
    return max(_progress(job, "outputRows") or 0, _progress(job, "successfullyProcessedRequests") or 0)


def dataset_problem(dataset: Mapping[str, Any]) -> str:
    """What Fireworks finds wrong with an uploaded dataset, '' where it finds nothing."""
    status = dataset["status"] if isinstance(dataset.get("status"), dict) else {}
    return "" if status.get("code") in (None, "", "OK", 0) else f"{status['code']}: {status.get('message') or 'no reason given'}"


def is_removed(job: Mapping[str, Any]) -> bool:
    """True where the job's record outlives the job: only its output dataset tells whether its results can still be had."""
    return _state_name(job) in ("DELETED", "ARCHIVED")


def owes_results(job: Mapping[str, Any]) -> bool:
    """True where an output dataset without rows is a fault to be reported, not an answer: taking it for one would pay twice."""
    return not is_removed(job) and (_state_name(job) in ("COMPLETED", "EARLY_STOPPED") or has_answers(job))


def _state_name(job: Mapping[str, Any]) -> str:
    return str(job.get("state") or "UNSPECIFIED").upper().removeprefix("JOB_STATE_")


def _progress(job: Mapping[str, Any], name: str) -> int | None:
    progress = job.get("jobProgress")
    value = progress.get(name) if isinstance(progress, dict) else None
    if isinstance(value, str) and value.isdigit():
        return int(value)  # protobuf writes an int64 as a string
    return value if _is_int(value) else None


def seconds(time: Any) -> float | None:
    """An RFC 3339 time in seconds since 1970, None where it is none."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", time) if isinstance(time, str) else None
    if not found:
        return None
    whole = datetime.fromisoformat(found.group(1) + found.group(3).replace("Z", "+00:00")).timestamp()
    return whole + float(found.group(2) or 0)
