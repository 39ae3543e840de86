"""Submissions for provider tests: requests, their file, and the way of one submission to its rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic
from pipeline.base.rows import Place, RequestRow, ResultRow, encode
from pipeline.providers.protocol import Ids, JobStatus, Provider, Submission, submit


def request(n: int, **body: Any) -> RequestRow:
    """Request number n; `body` adds to or replaces its settings."""
    messages = [{"role": "system", "content": "Answer."}, {"role": "user", "content": f"What is question {n}?"}]
    settings = {"messages": messages, "max_tokens": 32, "temperature": 0.0, "top_p": 1.0, "seed": n} | body
    place = Place(dataset="d", item_id=str(n), type="open", temp=0.0, sample_index=0)
    return RequestRow(custom_id=f"{n:032x}", answer_key=f"k{n}", place=place, body=settings)


def submission(folder: Path, rows: int | list[RequestRow], key: str = "ab-0123456789abcdef0123-g0-a1", **fields: Any) -> Submission:
    """A submission of so many requests, or of these, its intent recorded now."""
    listed = [request(n) for n in range(rows)] if isinstance(rows, int) else rows
    path = folder / key / "rows.jsonl"
    write_atomic(path, b"".join(encode(row) + b"\n" for row in listed))
    return Submission(**({"key": key, "model": "m", "rows_path": path, "count": len(listed), "intent_at": time.time()} | fields))


class Recorder:
    """Plays submission.json: keeps what `record` makes durable, so that a new provider can go on from it."""

    def __init__(self) -> None:
        self.ids: Ids = {}

    def __call__(self, ids: Ids) -> None:
        self.ids = {**self.ids, **ids}


def deliver(
    provider: Provider, sub: Submission, recorder: Recorder | None = None, sleep: Callable[[float], None] = time.sleep
) -> list[ResultRow]:
    """Submit, poll to the end, fetch."""
    status, recorder = None, recorder or Recorder()
    recorder(submit(provider, sub, recorder.ids, recorder, sleep))
    status = until_final(provider, recorder.ids, sub)
    return list(provider.fetch({**recorder.ids, **status.ids}, sub))


def until_final(provider: Provider, ids: Ids, sub: Submission, seconds: float = 30.0) -> JobStatus:
    """The job's final status."""
    deadline = time.monotonic() + seconds
    while not (status := provider.poll(ids, sub)).state.final:
        assert time.monotonic() < deadline, status
    return status
