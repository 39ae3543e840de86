"""Anthropic's Message Batches as they were recorded: marks in every wire id, versions, bodies, and the recorded answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, StepError
from pipeline.providers.anthropic_batch import AnthropicBatchProvider
from pipeline.providers.anthropic_wire import NEW_VERSION, OLD_VERSION, mark_of, params_of, row_number, wire_id
from pipeline.providers.protocol import JobState, Rejected
from tests.servers.harness import ServerProcess
from tests.submissions import deliver, request, submission

pytest.importorskip("anthropic", reason="the package anthropic is not installed")

from tests.anthropic_desk import BATCHES, OTHER, anthropic_server, example, provider

BATCH = example("batch.json")
LINES = example("results.jsonl")  # the last line without a newline, as recorded


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    yield from anthropic_server(tmp_path, monkeypatch)


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
    recorded = example("create_request.json")
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
