"""Anthropic's Message Batches: marks in every wire id, adoption on trust and its proof, versions, outcomes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, StepError
from pipeline.providers.anthropic_batch import AnthropicBatchProvider
from pipeline.providers.anthropic_wire import NEW_VERSION, OLD_VERSION, mark_of, params_of, row_number, wire_id
from pipeline.providers.http import Patience
from pipeline.providers.protocol import Ambiguous, Barred, JobState, NoRoomNow, Rejected, Submission, submit
from tests.servers.harness import ServerProcess
from tests.submissions import Recorder, deliver, request, submission, until_final

pytest.importorskip("anthropic", reason="the package anthropic is not installed")

KEY = "sk-ant-test-0123456789"
OTHER = "ab-ffffffffffffffffffff-g0-a1"
BATCHES = "/v1/messages/batches"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with ServerProcess("anthropic", tmp_path / "remote") as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        yield running


def provider(**settings: Any) -> AnthropicBatchProvider:
    quick = {"patience": Patience(deadline=5.0, initial=0.01, longest=0.05), "look_again_after": (0.01, 0.02, 0.05)}
    return AnthropicBatchProvider(**(quick | settings))


def killed_after_create(sub: Submission) -> Recorder:
    """What is durable when a process dies between the reply to its create and the record of the job."""
    recorder = Recorder()
    provider().create(sub, {}, recorder)
    assert "job" not in recorder.ids
    return recorder


def test_answers_arrive_whole_under_our_ids(server: ServerProcess, tmp_path: Path) -> None:
    """Every request is answered once, billed once, under its own custom_id, in another order than sent."""
    sub = submission(tmp_path, 20)
    rows = deliver(provider(), sub)
    ids = [row.custom_id for row in rows]
    assert sorted(ids) == sorted(row.custom_id for row in sub.rows())
    assert ids != sorted(ids)
    assert all(row.outcome == "answered" and row.finish_reason == "end_turn" and row.text for row in rows)
    assert all(row.usage.prompt_tokens >= row.usage.cached_tokens > 0 and row.usage.completion_tokens for row in rows)
    assert server.admin("summary") == {"billed": 20, "requests": 20, "duplicates": 0}


def test_every_wire_id_carries_the_submission_and_fits(server: ServerProcess, tmp_path: Path) -> None:
    """`<mark>-<row>`, at most 64 characters of the allowed ones, one mark per submission, and the row can be read back."""
    sub = submission(tmp_path, 3)
    deliver(provider(), sub)
    (post,) = server.rows("SELECT body FROM posts")
    sent = [row["custom_id"] for row in json.loads(post["body"])["requests"]]
    mark = mark_of(sub.key)
    assert sent == [f"{mark}-{n}" for n in range(3)]
    assert [row_number(mark, wire) for wire in sent] == [0, 1, 2]
    assert row_number(mark_of(OTHER), sent[0]) is None and row_number(mark, "r1") is None and row_number(mark, f"{mark}-x") is None
    assert len(wire_id(mark, 99_999)) <= 64


def test_the_create_is_the_recorded_one(server: ServerProcess, tmp_path: Path) -> None:
    """Nothing but `requests` goes out, in the recorded shape; the system prompt is top-level; no idempotency header."""
    row = request(0, messages=[{"role": "user", "content": "x"}], max_tokens=5, temperature=1.0, seed=3)
    sub = submission(tmp_path, [row])
    deliver(provider(), sub)
    (post,) = server.rows("SELECT headers, body FROM posts")
    recorded = '{"requests":[{"custom_id":"a","params":{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}}]}'
    assert json.loads(post["body"].decode().replace(f"{mark_of(sub.key)}-0", "a")) == json.loads(recorded)
    assert not any("idempotency" in name for name in json.loads(post["headers"]))


def test_bodies_are_translated() -> None:
    """Leading system messages go on top, `stop` becomes stop_sequences, settings at the API's default and the seed are left out."""
    body = request(0).body | {"stop": ["\n"], "top_k": None, "top_p": 1.0, "temperature": 0.0}
    assert params_of(body, "m") == {
        "model": "m",
        "max_tokens": 32,
        "messages": [{"role": "user", "content": "What is question 0?"}],
        "system": "Answer.",
        "stop_sequences": ["\n"],
        "temperature": 0.0,
    }
    two = [
        {"role": "system", "content": "A"},
        {"role": "system", "content": [{"type": "text", "text": "B"}]},
        {"role": "user", "content": "x"},
    ]
    assert params_of({"messages": two, "max_tokens": 1, "temperature": 1.0}, "m")["system"] == [
        {"type": "text", "text": "A"},
        {"type": "text", "text": "B"},
    ]


def test_faults_are_found_before_sending() -> None:
    """What Anthropic would say only after a day is said at once, by custom_id."""
    rows = [
        request(0),
        request(1, max_tokens=None),
        request(2, messages=[{"role": "system", "content": "only"}]),
        request(3, messages=[{"role": "user", "content": "x"}, {"role": "system", "content": "late"}]),
        request(4, temperature=1.5),
        request(5, logprobs=True),
    ]
    given = AnthropicBatchProvider.check(FakeProvider("auto"), iter(rows))
    assert [fault[31] for fault in sorted(given)] == ["1", "2", "3", "4", "5"]
    assert AnthropicBatchProvider.check(FakeProvider(NEW_VERSION), iter([request(0)]))[0].endswith("takes no temperature, top_p or top_k")


class FakeProvider(AnthropicBatchProvider):
    """Only what `check` needs."""

    def __init__(self, api_version: str) -> None:
        self.api_version = api_version


# ------------------------------------------------------------------------------------------------------------- versions


@pytest.mark.parametrize(("temperature", "version"), [(0.0, OLD_VERSION), (None, NEW_VERSION), (1.0, NEW_VERSION)])
def test_the_version_follows_the_settings(server: ServerProcess, tmp_path: Path, temperature: float | None, version: str) -> None:
    """Sampling settings need the old version; without any (or with the API's defaults) the new one serves. Both are answered."""
    sub = submission(tmp_path, [request(0, temperature=temperature)])
    (row,) = deliver(provider(), sub)
    (post,) = server.rows("SELECT headers FROM posts")
    assert json.loads(post["headers"])["anthropic-version"] == version
    assert row.outcome == "answered"


@pytest.mark.parametrize("offender", ["post", "row"])
def test_a_refused_temperature_is_reported_either_way(server: ServerProcess, tmp_path: Path, offender: str) -> None:
    """Whether the POST fails or each row errs, the run says what was refused, and nothing is billed."""
    server.options(offender=offender)
    sub = submission(tmp_path, 2)
    if offender == "post":
        with pytest.raises(Rejected, match=r"temperature: Extra inputs") as caught:
            deliver(provider(api_version=NEW_VERSION), sub)
        assert caught.value.splittable  # one row may be at fault: halving finds it
    else:
        rows = deliver(provider(api_version=NEW_VERSION), sub)
        assert [(row.outcome, row.error.code if row.error else None) for row in rows] == [("failed", "invalid_request_error")] * 2
    assert server.admin("summary")["billed"] == 0


def test_an_unknown_version_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that we do not know is not guessed at, and a missing key names its variable."""
    with pytest.raises(ConfigError, match="api_version"):
        provider(api_version="2024-01-01")
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        provider()


# ------------------------------------------------------------------------------------------------------------- recorded

BATCH = (
    '{"id":"msgbatch_..","type":"message_batch","processing_status":"in_progress",\n'
    ' "request_counts":{"processing":2,"succeeded":0,"errored":0,"canceled":0,"expired":0},\n'
    ' "created_at":"2026-01-01T00:00:00Z","expires_at":"+24h","ended_at":null,'
    '"cancel_initiated_at":null,"archived_at":null,"results_url":null}'
)
LINES = (
    '{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_..","type":"message","role":"assistant","model":"..",'
    '"content":[{"type":"text","text":".."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":34,'
    '"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"service_tier":"batch"}}}}\n'
    '{"custom_id":"b","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":".."},'
    '"request_id":null}}}\n'
    '{"custom_id":"c","result":{"type":"canceled"}}\n'
    '{"custom_id":"d","result":{"type":"expired"}}'  # the last line without a newline, as recorded
)


def test_recorded_answers_are_read(server: ServerProcess, tmp_path: Path) -> None:
    """The recorded batch and its four kinds of result lines, replayed byte for byte but for the ids, become the rows they say."""
    sub = submission(tmp_path, 4)
    running = BATCH.replace('"in_progress"', '"ended"').replace('"results_url":null', '"results_url":"{origin}/elsewhere/results"')
    lines = LINES
    for number, letter in enumerate("abcd"):
        lines = lines.replace(f'"custom_id":"{letter}"', f'"custom_id":"{wire_id(mark_of(sub.key), number)}"')
    results = {"GET /elsewhere/results": lines}
    server.options(replay={f"GET {BATCHES}/b0": BATCH, f"GET {BATCHES}/b1": running, **results})
    status = provider().poll({"job": "b0"}, sub)
    assert (status.state, status.done, status.total, status.created_at) == (JobState.RUNNING, 0, 2, 1767225600.0)
    server.options(replay={f"GET {BATCHES}/b0": BATCH.replace("00:00Z", "00:00.5000000009Z"), f"GET {BATCHES}/b1": running, **results})
    assert provider().poll({"job": "b0"}, sub).created_at == 1767225600.5
    assert provider().poll({"job": "b1"}, sub).state is JobState.ENDED
    rows = list(provider().fetch({"job": "b1"}, sub))
    assert [row.custom_id for row in rows] == [request(n).custom_id for n in range(4)]
    assert (rows[0].outcome, rows[0].text, rows[0].request_id) == ("answered", "..", "msg_..")
    assert (rows[0].usage.prompt_tokens, rows[0].usage.completion_tokens) == (10, 34)
    assert [row.error.code for row in rows[1:] if row.error] == ["invalid_request_error", "canceled", "expired"]


def test_the_server_speaks_as_recorded(server: ServerProcess, tmp_path: Path) -> None:
    """The test server's own objects have the recorded ones' keys, in their order."""
    sub = submission(tmp_path, 4)
    deliver(provider(), sub)
    batch, recorded = json.loads(server.rows("SELECT batch FROM batches")[0]["batch"]), json.loads(BATCH)
    assert list(batch) == list(recorded) and list(batch["request_counts"]) == list(recorded["request_counts"])
    result, wanted = json.loads(server.rows("SELECT result FROM results")[0]["result"]), json.loads(LINES.split("\n")[0])["result"]
    assert list(result) == list(wanted) and list(result["message"]) == list(wanted["message"])
    assert list(result["message"]["usage"]) == list(wanted["message"]["usage"])


def test_a_results_url_of_another_host_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    """The key is not sent wherever a reply points to."""
    server.faults({"kind": "foreign_url"})
    with pytest.raises(StepError, match=r"another host .http://127\.0\.0\.1:9/"):
        deliver(provider(), submission(tmp_path, 2))


# ---------------------------------------------------------------------------------------------------- never pay twice


@pytest.mark.parametrize("kind", ["drop_reply", "reply_status", "html", "garbage"])
@pytest.mark.parametrize("lists", [0, 2])
def test_a_lost_reply_to_the_create_is_found_again(server: ServerProcess, tmp_path: Path, kind: str, lists: int) -> None:
    """The batch was made, the reply lost, and lists lag: it is adopted on trust and proved by its marks."""
    server.faults({"kind": kind, "on": f"POST {BATCHES}$"}, {"kind": "hide", "lists": lists})
    sub, recorder = submission(tmp_path, 6), Recorder()
    rows = deliver(provider(), sub, recorder)
    assert len(rows) == 6 and recorder.ids["on_trust"]
    assert server.calls("POST", BATCHES) == 1
    assert server.admin("summary") == {"billed": 6, "requests": 6, "duplicates": 0}


def test_a_process_killed_after_the_create_adopts_its_batch(server: ServerProcess, tmp_path: Path) -> None:
    """The record of the create that was under way makes the next process look, with patience for a list that lags."""
    server.faults({"kind": "hide", "lists": 3})
    sub = submission(tmp_path, 5)
    recorder = killed_after_create(sub)
    assert len(deliver(provider(look_again_after=(0.3, 0.3, 0.3)), sub, recorder)) == 5
    assert server.calls("POST", BATCHES) == 1


def test_without_the_look_the_same_kill_bills_twice(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation: an adapter that does not look before it creates pays again."""
    sub = submission(tmp_path, 6)
    recorder = killed_after_create(sub)
    monkeypatch.setattr(AnthropicBatchProvider, "find", lambda self, sub, ids: None)
    deliver(provider(), sub, recorder)
    summary = server.admin("summary")
    assert summary["requests"] == 6 and summary["duplicates"] > 0


def test_the_bound_one_shard_for_each_create_that_stays_hidden(server: ServerProcess, tmp_path: Path) -> None:
    """What remains: a batch that no list shows for longer than the looks take is paid again, once, and its rows are not mixed in."""
    server.faults({"kind": "hide", "lists": 1000})
    sub = submission(tmp_path, 6)
    recorder = killed_after_create(sub)
    rows = deliver(provider(), sub, recorder)
    assert len(rows) == len({row.custom_id for row in rows}) == 6
    assert server.calls("POST", BATCHES) == 2
    assert server.admin("summary")["billed"] <= 2 * 6


def test_without_a_create_under_way_nothing_is_adopted(server: ServerProcess, tmp_path: Path) -> None:
    """A colleague's batch of the same size and hour is not ours, and is not waited for."""
    provider().create(submission(tmp_path, 6, key=OTHER), {}, Recorder())
    sub = submission(tmp_path, 6)
    assert provider().find(sub, {}) is None
    assert len(deliver(provider(), sub)) == 6
    assert server.calls("POST", BATCHES) == 2


def test_a_foreign_batch_adopted_on_trust_is_given_up_when_it_ends(server: ServerProcess, tmp_path: Path) -> None:
    """Our create never arrived; a batch of the same size is another's. Proof comes with its end: exchanged for ours, or lost."""
    server.options(steps=6)
    sub, recorder = submission(tmp_path, 6), Recorder()
    server.faults({"kind": "reset", "on": f"POST {BATCHES}$"})
    with pytest.raises(Ambiguous):
        submit(provider(), sub, {}, recorder)
    foreign = provider().create(submission(tmp_path, 6, key=OTHER), {}, Recorder())
    ids = submit(provider(), sub, recorder.ids, recorder)
    assert ids["job"] == foreign["job"]
    lost = until_final(provider(), ids, sub)
    assert lost.state is JobState.LOST and "another's" in lost.message
    with pytest.raises(StepError, match="another submission"):
        list(provider().fetch(ids, sub))


def test_of_several_candidates_the_right_one_is_reached(server: ServerProcess, tmp_path: Path) -> None:
    """Ours and another's of the same size: whichever is adopted first, the rows fetched are ours, and nothing is paid again."""
    server.options(steps=4)
    sub = submission(tmp_path, 6)
    recorder = killed_after_create(sub)
    recorder({"create_sent_at": recorder.ids["create_sent_at"] + 0.6})
    time.sleep(0.6)
    provider().create(submission(tmp_path, 6, key=OTHER), {}, Recorder())
    ids = submit(provider(), sub, recorder.ids, recorder)
    first = ids["job"]
    while not (status := provider().poll(ids, sub)).state.final:
        ids = {**ids, **status.ids}
    assert status.state is JobState.ENDED
    assert ids["job"] != first and ids["foreign"] == [first]
    assert sorted(row.custom_id for row in provider().fetch(ids, sub)) == [request(n).custom_id for n in range(6)]
    assert server.calls("POST", BATCHES) == 2


def test_candidates_have_our_size_our_hour_and_no_other_owner(server: ServerProcess, tmp_path: Path) -> None:
    """Another number of rows, a time before the intent, and a batch known to belong elsewhere are no candidates."""
    server.options(steps=6)
    sub = submission(tmp_path, 6)
    sent = {"create_sent_at": time.time()}
    five = provider().create(submission(tmp_path, 5, key=OTHER), {}, Recorder())
    assert provider().find(sub, sent) is None
    six = provider().create(submission(tmp_path, 6, key=OTHER), {}, Recorder())
    found = provider().find(sub, sent)
    assert found is not None and found["job"] == six["job"] != five["job"]
    assert provider().find(submission(tmp_path, 6, known_jobs=frozenset({six["job"]})), sent) is None
    assert provider().find(submission(tmp_path, 6, intent_at=time.time() + 3600), sent) is None


# ------------------------------------------------------------------------------------------------------ what goes wrong


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
