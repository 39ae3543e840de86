"""OpenAI's Batch API: one batch per submission whatever breaks, every row read, every outcome told apart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, StepError
from pipeline.providers.http import Patience
from pipeline.providers.openai_batch import OpenAIBatchProvider
from pipeline.providers.protocol import Ambiguous, Barred, JobState, NoRoomNow, Rejected, Submission, submit
from tests.servers.harness import ServerProcess
from tests.submissions import Recorder, deliver, request, submission, until_final

pytest.importorskip("openai", reason="the package openai is not installed")

KEY = "sk-test-0123456789"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ServerProcess("openai", tmp_path / "remote") as running:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{running.url}/v1")
        yield running


def provider(**settings: Any) -> OpenAIBatchProvider:
    quick = {"patience": Patience(deadline=5.0, initial=0.01, longest=0.05), "look_again_after": (0.01, 0.02, 0.05)}
    return OpenAIBatchProvider(**(quick | settings))


def bill(server: ServerProcess) -> dict[str, int]:
    return server.admin("summary")


def test_answers_arrive_whole_and_in_another_order(server: ServerProcess, tmp_path: Path) -> None:
    """Upload, create, poll, both files: every request is answered once, billed once, and not in input order."""
    sub = submission(tmp_path, 20)
    rows = deliver(provider(), sub)
    ids = [row.custom_id for row in rows]
    assert sorted(ids) == sorted(row.custom_id for row in sub.rows())
    assert ids != sorted(ids)
    assert all(row.outcome == "answered" and row.text and row.usage.prompt_tokens and row.usage.cached_tokens for row in rows)
    assert bill(server) == {"billed": 20, "requests": 20, "duplicates": 0}


def test_the_create_is_the_recorded_one(server: ServerProcess, tmp_path: Path) -> None:
    """The SDK sends the recorded create body with our key as metadata, no idempotency header, and a bearer token."""
    sub = submission(tmp_path, 1)
    deliver(provider(), sub)
    (post,) = server.rows("SELECT headers, body FROM posts")
    recorded = '{"input_file_id":"file-1","endpoint":"/v1/chat/completions","completion_window":"24h","metadata":{"k":"v"}}'
    ours = post["body"].decode().replace("file-" + "0" * 23 + "1", "file-1").replace(f'"submission_key":"{sub.key}"', '"k":"v"')
    assert json.loads(ours) == json.loads(recorded)
    assert len(ours) == len(recorded)
    headers = json.loads(post["headers"])
    assert headers["authorization"] == f"Bearer {KEY}"
    assert not any("idempotency" in name for name in headers)
    (file,) = server.rows("SELECT filename, content FROM files WHERE purpose='batch'")
    assert file["filename"] == f"{sub.key}.jsonl"
    body = {"model": "m", "messages": request(0).body["messages"], "max_completion_tokens": 32, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    assert json.loads(file["content"]) == {"custom_id": request(0).custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


BATCH = (
    '{"id":"batch_..","object":"batch","endpoint":"/v1/chat/completions","model":"gpt-..","input_file_id":"file-..",'
    '"completion_window":"24h",\n'
    ' "status":"completed","output_file_id":"file-..","error_file_id":null,"errors":null,"created_at":1,'
    '"in_progress_at":1,"finalizing_at":1,\n'
    ' "completed_at":1,"failed_at":null,"expired_at":null,"cancelling_at":null,"cancelled_at":null,"expires_at":1,\n'
    ' "request_counts":{"total":19,"completed":19,"failed":0},"metadata":{"k":"v"},\n'
    ' "usage":{"input_tokens":1,"input_tokens_details":{"cached_tokens":0},'
    '"output_tokens":1,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":2}}'
)
SUCCESS = (
    '{"id":"batch_req_..","custom_id":"r1","response":{"status_code":200,"request_id":"..","body":{"id":"chatcmpl-..","object":"chat.completion","model":"..",'
    '"choices":[{"index":0,"message":{"role":"assistant","content":"..","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,'
    '"total_tokens":2,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}},"error":null}\n'
)
HTTP_FAILURE = (
    '{"id":"batch_req_..","custom_id":"r2","response":{"status_code":400,"request_id":"..","body":{"error":{"message":"..","type":"invalid_request_error",'
    '"param":"messages","code":"context_length_exceeded"}}},"error":null}\n'
)
NOT_RUN = (
    '{"id":"batch_req_..","custom_id":"r3","response":null,"error":{"code":"batch_expired","message":"'
    'This request could not be executed before the completion window expired."}}\n'
)
INVALID = (
    '{"id":"batch_..","object":"batch","status":"failed","request_counts":{"total":0,"completed":0,"failed":0},"errors":{"object":"list","data":'
    '[{"code":"missing_required_parameter","line":1,"message":"..","param":"body.messages"}]}}'
)


def test_recorded_answers_are_read(server: ServerProcess, tmp_path: Path) -> None:
    """The recorded batch, success, failure and expiry lines, replayed byte for byte, become the rows they say."""
    batch = BATCH.replace('"output_file_id":"file-.."', '"output_file_id":"out"').replace('"error_file_id":null', '"error_file_id":"err"')
    batch = batch.replace('"completed":19', '"completed":1')
    replay = {"GET /v1/batches/b1": batch, "GET /v1/files/out/content": SUCCESS, "GET /v1/files/err/content": HTTP_FAILURE + NOT_RUN}
    server.options(replay=replay)
    sub = submission(tmp_path, 3)
    status = provider().poll({"job": "b1"}, sub)
    assert (status.state, status.created_at, status.started_at, status.done, status.total) == (JobState.ENDED, 1, 1, 1, 19)
    assert status.now is not None and abs(status.now - time.time()) < 60
    assert status.ids == {"output_file": "out", "error_file": "err"}
    answered, failed, expired = provider().fetch({"job": "b1"}, sub)
    assert (answered.custom_id, answered.outcome, answered.text, answered.request_id) == ("r1", "answered", "..", "chatcmpl-..")
    assert (answered.usage.prompt_tokens, answered.usage.completion_tokens) == (1, 1)
    assert failed.error is not None and expired.error is not None
    assert (failed.custom_id, failed.outcome, failed.error.code) == ("r2", "failed", "context_length_exceeded")
    assert (expired.custom_id, expired.outcome, expired.error.code) == ("r3", "failed", "batch_expired")


def test_a_recorded_validation_failure_names_the_row(server: ServerProcess, tmp_path: Path) -> None:
    """Line 1 of the file is the first request."""
    server.options(replay={"GET /v1/batches/b1": INVALID})
    status = provider().poll({"job": "b1"}, submission(tmp_path, 3))
    assert (status.state, status.bad_custom_ids, status.retry_later) == (JobState.FAILED, (request(0).custom_id,), False)
    assert "line 1: missing_required_parameter" in status.message


def test_the_server_speaks_as_recorded(server: ServerProcess, tmp_path: Path) -> None:
    """The test server's own objects have the recorded ones' keys, in their order."""

    def shape(value: Any) -> Any:
        return {key: shape(entry) for key, entry in value.items()} if isinstance(value, dict) else None

    sub = submission(tmp_path, 4)
    deliver(provider(), sub)
    batch = json.loads(server.rows("SELECT batch FROM batches")[0]["batch"])
    recorded = json.loads(BATCH)
    assert list(batch) == list(recorded)
    assert shape(batch["usage"]) == shape(recorded["usage"]) and shape(batch["request_counts"]) == shape(recorded["request_counts"])
    row = json.loads(server.rows("SELECT line FROM results")[0]["line"])
    wanted = json.loads(SUCCESS)
    assert list(row) == list(wanted) and list(row["response"]) == list(wanted["response"])
    assert list(row["response"]["body"]["choices"][0]["message"]) == list(wanted["response"]["body"]["choices"][0]["message"])
    assert shape(row["response"]["body"]["usage"]) == shape(wanted["response"]["body"]["usage"])


# ---------------------------------------------------------------------------------------------------- never pay twice


@pytest.mark.parametrize("kind", ["drop_reply", "reply_status", "html", "garbage"])
@pytest.mark.parametrize("lists", [0, 2])
def test_a_lost_reply_to_the_create_is_found_again(server: ServerProcess, tmp_path: Path, kind: str, lists: int) -> None:
    """The batch was made and the reply lost, and lists lag: it is adopted, not made again."""
    server.faults({"kind": kind, "on": "POST /v1/batches$"}, {"kind": "hide", "lists": lists})
    rows = deliver(provider(), submission(tmp_path, 6))
    assert len(rows) == 6
    assert server.calls("POST", "/v1/batches") == 1
    assert bill(server) == {"billed": 6, "requests": 6, "duplicates": 0}


def test_without_the_look_the_same_faults_bill_twice(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation: an adapter that does not look before it creates pays for every row again."""
    monkeypatch.setattr(OpenAIBatchProvider, "find", lambda self, sub, ids: None)
    server.faults({"kind": "drop_reply", "on": "POST /v1/batches$"})
    sub = submission(tmp_path, 6)
    with pytest.raises(Ambiguous):
        deliver(provider(), sub)
    deliver(provider(), sub)
    summary = bill(server)
    assert summary["requests"] == 6 and summary["duplicates"] > 0


def test_a_process_killed_after_the_create_adopts_its_batch(server: ServerProcess, tmp_path: Path) -> None:
    """With only the intent recorded, and again with the upload recorded, the next process finds file and batch."""
    sub = submission(tmp_path, 5)
    first = Recorder()
    made = submit(provider(), sub, {}, first)
    assert "job" not in first.ids and first.ids["input_file"]
    for recorded in ({}, first.ids):
        assert submit(provider(), sub, dict(recorded), Recorder())["job"] == made["job"]
    assert server.calls("POST", "/v1/batches") == server.calls("POST", "/v1/files") == 1
    assert len(deliver(provider(), sub)) == 5
    assert bill(server)["duplicates"] == 0


def test_a_killed_process_with_a_lagging_list_waits_before_it_creates(server: ServerProcess, tmp_path: Path) -> None:
    """The record says that a create was on its way: the next process gives the list time to show it."""
    server.faults({"kind": "hide", "lists": 3})
    sub, recorder = submission(tmp_path, 5), Recorder()
    submit(provider(), sub, {}, recorder)
    slow = provider(look_again_after=(0.3, 0.3, 0.3))
    assert len(deliver(slow, sub, recorder)) == 5
    assert server.calls("POST", "/v1/batches") == 1


def test_an_uploaded_file_is_used_again(server: ServerProcess, tmp_path: Path) -> None:
    """Killed between upload and create: same name and size, no second upload; another size is another file."""
    sub = submission(tmp_path, 5)
    uploaded = provider()._upload(sub)
    made = submit(provider(), sub, {}, Recorder())
    assert made["input_file"] == uploaded
    assert server.calls("POST", "/v1/files") == 1
    other = submission(tmp_path, 4)
    assert provider()._upload(other) != uploaded


def test_of_two_batches_with_one_key_the_older_is_adopted_and_the_other_cancelled(server: ServerProcess, tmp_path: Path) -> None:
    """A duplicate that another process made is stopped before it costs more."""
    sub = submission(tmp_path, 12)
    server.options(steps=12)
    first = provider().create(sub, {}, Recorder())
    second = provider().create(sub, {}, Recorder())
    found = provider().find(sub, {})
    assert found is not None and (found["job"], found["duplicates"]) == (first["job"], [second["job"]])
    rows = list(provider().fetch(found, sub)) if until_final(provider(), found, sub).state is JobState.ENDED else []
    assert len(rows) == 12
    statuses = {b["id"]: b["status"] for b in (json.loads(row["batch"]) for row in server.rows("SELECT batch FROM batches"))}
    assert statuses == {first["job"]: "completed", second["job"]: "cancelled"}


def test_batches_of_others_are_not_adopted(server: ServerProcess, tmp_path: Path) -> None:
    """Another key, a batch that failed, and a batch known to belong elsewhere are left alone."""
    mine = submission(tmp_path, 3)
    other = submission(tmp_path, 3, key="ab-ffffffffffffffffffff-g0-a1")
    made = submit(provider(), other, {}, Recorder())
    assert provider().find(mine, {}) is None
    server.faults({"kind": "token_limit"})
    failed = submit(provider(), mine, {}, Recorder())
    assert until_final(provider(), failed, mine).state is JobState.FAILED
    assert provider().find(mine, {}) is None
    again = submission(tmp_path, 3, key="ab-ffffffffffffffffffff-g0-a1", known_jobs=frozenset({made["job"]}))
    assert provider().find(again, {}) is None


def test_the_list_is_paged_until_it_is_older_than_the_intent(server: ServerProcess, tmp_path: Path) -> None:
    """A batch on the third page is found; pages from before the intent are not read."""
    sub, there = submission(tmp_path, 1), provider()
    first = there.create(sub, {}, Recorder())
    other = submission(tmp_path, 1, key="ab-ffffffffffffffffffff-g0-a1")
    ids = {"input_file": there._upload(other)}
    for _ in range(205):
        there.create(other, ids, Recorder())
    before = server.calls("GET", "/v1/batches")
    found = there.find(sub, {})
    assert found is not None and found["job"] == first["job"]
    assert server.calls("GET", "/v1/batches") - before == 3
    later = Submission(sub.key, sub.model, sub.rows_path, 1, intent_at=time.time() + 3600)
    assert there.find(later, {}) is None
    assert server.calls("GET", "/v1/batches") - before == 4
    ahead = Submission(sub.key, sub.model, sub.rows_path, 1, intent_at=time.time() + 300)  # our clock is five minutes ahead
    assert there.find(ahead, {}) is not None


# ------------------------------------------------------------------------------------------------------ what goes wrong


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
