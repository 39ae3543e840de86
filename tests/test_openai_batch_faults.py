"""OpenAI's Batch API when something goes wrong: every row is read, every outcome told apart, no answer taken for missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, StepError
from pipeline.providers.http import Patience
from pipeline.providers.protocol import Ambiguous, Barred, JobState, NoRoomNow, Rejected, submit
from tests.servers.harness import ServerProcess
from tests.submissions import Recorder, deliver, request, submission, until_final

pytest.importorskip("openai", reason="the package openai is not installed")

from tests.openai_desk import KEY, bill, example, openai_server, provider

BATCH = example("batch.json")
SUCCESS = example("success_row.jsonl")
HTTP_FAILURE = example("http_failure_row.jsonl")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    yield from openai_server(tmp_path, monkeypatch)


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_answers_whose_file_is_not_there_yet_are_not_missing(server: ServerProcess, tmp_path: Path, status: str) -> None:
    """The error file came first: rows that OpenAI counts as completed were paid, and must not be sent again."""
    batch = BATCH.replace('"output_file_id":"file-.."', '"output_file_id":null').replace('"error_file_id":null', '"error_file_id":"err"')
    batch = batch.replace('"status":"completed"', f'"status":"{status}"')
    server.options(replay={"GET /v1/batches/b1": batch, "GET /v1/files/err/content": HTTP_FAILURE})
    with pytest.raises(StepError, match="not there yet"):
        list(provider().fetch({"job": "b1"}, submission(tmp_path, 3)))


def test_a_failed_batch_that_has_answers_is_read(server: ServerProcess, tmp_path: Path) -> None:
    """No source shows one; should it come, its answers were paid for."""
    failed = BATCH.replace('"status":"completed"', '"status":"failed"').replace('"output_file_id":"file-.."', '"output_file_id":"out"')
    failed = failed.replace('"completed":19', '"completed":1')
    server.options(replay={"GET /v1/batches/b1": failed, "GET /v1/files/out/content": SUCCESS})
    sub = submission(tmp_path, 3)
    assert provider().poll({"job": "b1"}, sub).state is JobState.ENDED
    assert [row.custom_id for row in provider().fetch({"job": "b1"}, sub)] == ["r1"]


def test_a_full_queue_means_later(server: ServerProcess, tmp_path: Path) -> None:
    """The enqueued-token limit fails the batch asynchronously: nothing ran, send it again later."""
    server.faults({"kind": "token_limit"})
    sub = submission(tmp_path, 3)
    status = until_final(provider(), submit(provider(), sub, {}, Recorder()), sub)
    assert (status.state, status.retry_later) == (JobState.FAILED, True)
    assert "token_limit_exceeded" in status.message
    assert bill(server)["billed"] == 0


def test_one_bad_line_is_named(server: ServerProcess, tmp_path: Path) -> None:
    """A line that only the server finds wrong is named by its custom_id, and so is one that the check finds first."""
    bad = request(2, messages=[{"role": "wizard", "content": "x"}])
    sub = submission(tmp_path, [request(0), request(1), bad, request(3)])
    assert provider().check(sub.rows()) == [f"{bad.custom_id}: messages[0] has role 'wizard'"]
    status = until_final(provider(), submit(provider(), sub, {}, Recorder()), sub)
    assert (status.state, status.bad_custom_ids) == (JobState.FAILED, (bad.custom_id,))


def test_expired_and_cancelled_batches_yield_what_they_have(server: ServerProcess, tmp_path: Path) -> None:
    """What ran is read and was paid; what did not run is a failed row that says why."""
    server.faults({"kind": "expire", "share": 0.5})
    sub, recorder = submission(tmp_path, 10), Recorder()
    recorder(submit(provider(), sub, {}, recorder))
    assert until_final(provider(), recorder.ids, sub).state is JobState.EXPIRED
    rows = list(provider().fetch(recorder.ids, sub))
    assert sorted(row.outcome for row in rows) == ["answered"] * 5 + ["failed"] * 5
    assert {row.error.code for row in rows if row.error} == {"batch_expired"}
    assert bill(server)["billed"] == 5

    server.options(steps=10)
    other = submission(tmp_path, 10, key="ab-ffffffffffffffffffff-g0-a1")
    ids = submit(provider(), other, {}, Recorder())
    for _ in range(3):
        provider().poll(ids, other)
    provider().cancel(ids)
    assert until_final(provider(), ids, other).state is JobState.CANCELLED
    rows = list(provider().fetch(ids, other))
    assert len(rows) == 10 and {row.outcome for row in rows} == {"answered", "failed"}
    provider().cancel(ids)  # over already: no error


def test_outcomes_are_told_apart(server: ServerProcess, tmp_path: Path) -> None:
    """Failed, status 0, filtered, truncated and refused rows are five different things; only status 200 is an answer."""
    server.faults({"kind": "rows", "failed": 1, "status_0": 1, "filtered": 1, "truncated": 1, "refused": 1})
    rows = {row.custom_id: row for row in deliver(provider(), submission(tmp_path, 6))}
    said = [(row.outcome, row.error.code if row.error else row.finish_reason) for _, row in sorted(rows.items())]
    assert said == [
        ("failed", "server_error"),
        ("failed", "server_error"),
        ("filtered", "content_filter"),
        ("truncated", "length"),
        ("refused", "stop"),
        ("answered", "stop"),
    ]


def test_every_row_failed_leaves_no_output_file(server: ServerProcess, tmp_path: Path) -> None:
    """`completed` with output_file_id null is read from its error file."""
    server.faults({"kind": "rows", "failed": 4})
    rows = deliver(provider(), submission(tmp_path, 4))
    assert [row.outcome for row in rows] == ["failed"] * 4
    assert bill(server)["billed"] == 0


def test_completed_without_any_file_is_not_an_empty_result(server: ServerProcess, tmp_path: Path) -> None:
    """Rows that were paid and are not shown yet are waited for, never taken for missing."""
    server.options(replay={"GET /v1/batches/b1": BATCH.replace('"output_file_id":"file-.."', '"output_file_id":null')})
    with pytest.raises(StepError, match="not there yet"):
        list(provider().fetch({"job": "b1"}, submission(tmp_path, 1)))


def test_spoiled_result_files_are_read_as_far_as_they_go(server: ServerProcess, tmp_path: Path) -> None:
    """Missing, repeated, foreign, torn and badly encoded rows: all that can be read is there, for the caller to check."""
    server.faults({"kind": "rows", "missing": 1, "duplicated": 1, "foreign": 1, "torn_row": 1, "invalid_utf8": 1})
    sub = submission(tmp_path, 8)
    rows = deliver(provider(), sub)
    asked = {row.custom_id for row in sub.rows()}
    assert len(rows) == 9  # 8 - 1 missing + 1 twice + 1 foreign
    assert sum(row.custom_id not in asked for row in rows) == 1
    assert sum(row.error is not None and row.error.code == "unreadable_row" and bool(row.raw) for row in rows) == 1
    assert sum("\ufffd" in row.text for row in rows) >= 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 502},
        {"kind": "status", "status": 429, "retry_after": 0.05},
        {"kind": "reset"},
        {"kind": "truncate"},
        {"kind": "html"},
        {"kind": "garbage"},
        {"kind": "slow"},
    ],
    ids=lambda fault: fault["kind"],
)
def test_looks_and_downloads_outlast_faults(server: ServerProcess, tmp_path: Path, fault: dict[str, Any]) -> None:
    """One fault in each safe call (file list, upload, batch list, look, download) changes nothing."""
    for on in ("GET /v1/files$", "POST /v1/files$", "GET /v1/batches$", "GET /v1/batches/", "GET /v1/files/.*/content"):
        server.faults(fault | {"on": on})
    sub = submission(tmp_path, 8)
    rows = deliver(provider(), sub)
    assert sorted(row.custom_id for row in rows) == sorted(row.custom_id for row in sub.rows())
    assert all(row.outcome == "answered" for row in rows)
    assert bill(server)["duplicates"] == 0


def test_a_torn_download_never_passes_for_missing_rows(server: ServerProcess, tmp_path: Path) -> None:
    """A download that breaks off every time is an error to run again after, not fewer rows to pay for again."""
    sub = submission(tmp_path, 8)
    ids = submit(provider(), sub, {}, Recorder())
    until_final(provider(), ids, sub)
    server.faults({"kind": "truncate", "on": "GET /v1/files/.*/content", "times": -1})
    with pytest.raises(StepError, match="run again"):
        list(provider(patience=Patience(deadline=0.5, initial=0.01, longest=0.05)).fetch(ids, sub))


@pytest.mark.parametrize(
    ("error", "status", "kind", "text"),
    [
        ({"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}, 429, NoRoomNow, "Rate limit"),
        ({"message": "You exceeded your quota", "type": "insufficient_quota", "code": "insufficient_quota"}, 429, Barred, "Add credit"),
        ({"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}, 401, Barred, "Check the API key"),
        ({"message": "The model `m` does not exist", "code": "model_not_found"}, 404, Rejected, "model_not_found"),
        ({"message": "bad gateway"}, 503, Ambiguous, "503"),
    ],
)
def test_refusals_of_the_create_say_what_they_mean(
    server: ServerProcess, tmp_path: Path, error: dict[str, Any], status: int, kind: type[Exception], text: str
) -> None:
    """Later, never, or unknown: three different things; and no message holds the key."""
    server.faults({"kind": "status", "on": "POST /v1/batches$", "status": status, "body": {"error": error}, "retry_after": 7, "times": -1})
    recorder = Recorder()
    with pytest.raises(kind, match=text) as caught:
        submit(provider(), submission(tmp_path, 1), {}, recorder)
    assert KEY not in str(caught.value)
    assert bool(recorder.ids["create_sent_at"]) is (kind is Ambiguous)  # after a definite no, the next look need not wait for lists
    assert server.calls("POST", "/v1/batches") == 1
    if isinstance(caught.value, Rejected):
        assert not caught.value.splittable  # a create holds no rows: halving the shard would not help
    if isinstance(caught.value, NoRoomNow):
        assert caught.value.retry_after == 7


def test_a_batch_that_is_gone_is_lost_only_when_the_list_agrees(server: ServerProcess, tmp_path: Path) -> None:
    """A 404 for a batch that the list still shows is no reason to send it again."""
    sub = submission(tmp_path, 1)
    ids = submit(provider(), sub, {}, Recorder())
    server.faults({"kind": "status", "on": "GET /v1/batches/.", "status": 404, "body": {"error": {"message": "No batch found"}}})
    assert provider().poll(ids, sub).state is JobState.RUNNING
    assert provider().poll({"job": "batch_unknown"}, sub).state is JobState.LOST


def test_without_key_the_error_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is a usage error that says what to set."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        provider()


def test_base_url_overrides_the_environment(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """provider.base_url wins over OPENAI_BASE_URL."""
    url = f"{server.url}/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert len(deliver(provider(base_url=url), submission(tmp_path, 2))) == 2


def test_a_restarted_server_goes_on(server: ServerProcess, tmp_path: Path) -> None:
    """The test server keeps its jobs over a kill, as the real one would."""
    sub = submission(tmp_path, 6)
    ids = submit(provider(), sub, {}, Recorder())
    server.kill()
    server.start()
    assert until_final(provider(), ids, sub).state is JobState.ENDED
    assert len(list(provider().fetch(ids, sub))) == 6
