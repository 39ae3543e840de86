"""Anthropic's Message Batches when something goes wrong: outcomes told apart, spoiled results, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.providers.protocol import Ambiguous, Barred, JobState, NoRoomNow, Rejected, submit
from tests.servers.harness import ServerProcess
from tests.submissions import Recorder, deliver, submission, until_final

pytest.importorskip("anthropic", reason="the package anthropic is not installed")

from tests.anthropic_desk import BATCHES, KEY, OTHER, anthropic_server, example, killed_after_create, provider

BATCH = example("batch.json")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    yield from anthropic_server(tmp_path, monkeypatch)


def test_outcomes_are_told_apart(server: ServerProcess, tmp_path: Path) -> None:
    """Errors of the server, bad rows, truncation and refusal are different outcomes; the stop reason is kept."""
    server.faults({"kind": "rows", "errored": 1, "invalid": 1, "max_tokens": 1, "refusal": 1})
    rows = {row.custom_id: row for row in deliver(provider(), submission(tmp_path, 5))}
    said = [(row.outcome, row.error.code if row.error else row.finish_reason) for _, row in sorted(rows.items())]
    assert said == [
        ("failed", "api_error"),
        ("failed", "invalid_request_error"),
        ("truncated", "max_tokens"),
        ("refused", "refusal"),
        ("answered", "end_turn"),
    ]
    assert server.admin("summary")["billed"] == 3


def test_expired_and_cancelled_batches_yield_what_they_have(server: ServerProcess, tmp_path: Path) -> None:
    """What ran is read and was paid; the rest are failed rows that say why."""
    server.faults({"kind": "expire", "share": 0.5})
    sub = submission(tmp_path, 10)
    ids = submit(provider(), sub, {}, Recorder())
    assert until_final(provider(), ids, sub).state is JobState.EXPIRED
    rows = list(provider().fetch(ids, sub))
    assert sorted(row.outcome for row in rows) == ["answered"] * 5 + ["failed"] * 5
    assert {row.error.code for row in rows if row.error} == {"expired"}
    server.options(steps=10)
    ids = submit(provider(), sub2 := submission(tmp_path, 10, key=OTHER), {}, Recorder())
    provider().poll(ids, sub2)
    provider().cancel(ids)
    assert until_final(provider(), ids, sub2).state is JobState.CANCELLED
    assert {row.outcome for row in provider().fetch(ids, sub2)} == {"answered", "failed"}
    provider().cancel(ids)  # over already: no error


def test_spoiled_results_are_read_as_far_as_they_go(server: ServerProcess, tmp_path: Path) -> None:
    """Missing, repeated, foreign, torn and badly encoded rows: all that can be read is there, for the caller to check."""
    server.faults({"kind": "rows", "missing": 1, "duplicated": 1, "foreign": 1, "torn_row": 1, "invalid_utf8": 1})
    sub = submission(tmp_path, 8)
    rows = deliver(provider(), sub)
    asked = {row.custom_id for row in sub.rows()}
    assert len(rows) == 9  # 8 - 1 missing + 1 twice + 1 foreign
    assert sum(row.custom_id not in asked for row in rows) == 1
    assert sum(row.error is not None and row.error.code == "unreadable_row" for row in rows) == 1
    assert sum("\ufffd" in row.text for row in rows) >= 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 529},
        {"kind": "status", "status": 429, "retry_after": 0.05},
        {"kind": "reset"},
        {"kind": "truncate"},
        {"kind": "html"},
        {"kind": "slow"},
    ],
    ids=lambda fault: fault["kind"] + str(fault.get("status", "")),
)
def test_looks_and_downloads_outlast_faults(server: ServerProcess, tmp_path: Path, fault: dict[str, Any]) -> None:
    """One fault in each safe call changes nothing."""
    for on in (f"GET {BATCHES}$", f"GET {BATCHES}/[^/]*$", f"GET {BATCHES}/.*/results"):
        server.faults(fault | {"on": on})
    sub = submission(tmp_path, 8)
    rows = deliver(provider(), sub, killed_after_create(sub))
    assert sorted(row.custom_id for row in rows) == sorted(row.custom_id for row in sub.rows())
    assert server.admin("summary") == {"billed": 8, "requests": 8, "duplicates": 0}


@pytest.mark.parametrize(
    ("kind", "status", "raised", "text"),
    [
        ("rate_limit_error", 429, NoRoomNow, "429"),
        ("billing_error", 402, Barred, "Add credit"),
        ("invalid_request_error: your credit balance is too low", 400, Barred, "Add credit"),
        ("authentication_error", 401, Barred, "Check the API key"),
        ("request_too_large", 413, Rejected, "lines_per_part"),
        ("overloaded_error", 529, Ambiguous, "529"),
    ],
)
def test_refusals_of_the_create_say_what_they_mean(
    server: ServerProcess, tmp_path: Path, kind: str, status: int, raised: type[Exception], text: str
) -> None:
    """Later, never, or unknown; no message holds the key; and after a definite no, nothing is looked for."""
    body = {"type": "error", "error": {"type": kind, "message": f"no {KEY}"}, "request_id": "req_1"}
    server.faults({"kind": "status", "on": f"POST {BATCHES}$", "status": status, "body": body, "retry_after": 7, "times": -1})
    recorder = Recorder()
    with pytest.raises(raised, match=text) as caught:
        submit(provider(), submission(tmp_path, 1), {}, recorder)
    assert KEY not in str(caught.value)
    assert bool(recorder.ids["create_sent_at"]) is (raised is Ambiguous)


def test_a_batch_that_is_gone_or_emptied_is_lost(server: ServerProcess, tmp_path: Path) -> None:
    """Unknown to look and list, or with its results removed: lost; but not while the list shows it."""
    sub = submission(tmp_path, 2)
    ids = submit(provider(), sub, {}, Recorder())
    gone = {"kind": "status", "on": f"GET {BATCHES}/.", "status": 404, "body": {"type": "error", "error": {"type": "not_found_error"}}}
    server.faults(gone)
    assert provider().poll(ids, sub).state is JobState.RUNNING
    assert provider().poll({"job": "msgbatch_unknown"}, sub).state is JobState.LOST
    emptied = BATCH.replace('"in_progress"', '"ended"').replace('"archived_at":null', '"archived_at":"2026-01-30T00:00:00Z"')
    server.options(replay={f"GET {BATCHES}/b1": emptied})
    assert provider().poll({"job": "b1"}, sub).state is JobState.LOST
