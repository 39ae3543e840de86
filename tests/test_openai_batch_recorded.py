"""OpenAI's Batch API as it was recorded: our bytes are the recorded ones, and the recorded answers are read as what they say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.providers.protocol import JobState
from tests.servers.harness import ServerProcess
from tests.submissions import deliver, request, submission

pytest.importorskip("openai", reason="the package openai is not installed")

from tests.openai_desk import KEY, bill, example, openai_server, provider

BATCH = example("batch.json")
SUCCESS = example("success_row.jsonl")
HTTP_FAILURE = example("http_failure_row.jsonl")
NOT_RUN = example("not_executed_row.jsonl")
INVALID = example("validation_failure.json")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    yield from openai_server(tmp_path, monkeypatch)


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
    recorded = example("create_request.json")
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
