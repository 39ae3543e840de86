"""OpenAI's Batch API: one batch per submission, whatever breaks around its create."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.providers.openai_batch import OpenAIBatchProvider
from pipeline.providers.protocol import Ambiguous, JobState, Submission, submit
from tests.servers.harness import ServerProcess
from tests.submissions import Recorder, deliver, submission, until_final

pytest.importorskip("openai", reason="the package openai is not installed")

from tests.openai_desk import bill, openai_server, provider


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    yield from openai_server(tmp_path, monkeypatch)


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


def test_a_killed_process_with_a_lagging_list_waits_before_it_creates(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record says that a create was on its way: the next process gives the list time to show it."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # the lag is counted in looks
    server.faults({"kind": "hide", "lists": 3})
    sub, recorder = submission(tmp_path, 5), Recorder()
    submit(provider(), sub, {}, recorder)
    slow = provider(look_again_after=(600, 600, 600))
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
