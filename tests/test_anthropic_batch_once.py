"""Anthropic's Message Batches: adoption on trust and its proof, and the documented bound of what a lost batch may cost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.base.errors import StepError
from pipeline.providers.anthropic_batch import AnthropicBatchProvider
from pipeline.providers.protocol import Ambiguous, JobState, submit
from tests.servers.harness import ServerProcess
from tests.submissions import Recorder, deliver, request, submission, until_final

pytest.importorskip("anthropic", reason="the package anthropic is not installed")

from tests.anthropic_desk import BATCHES, OTHER, anthropic_server, killed_after_create, provider


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    yield from anthropic_server(tmp_path, monkeypatch)


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


def test_a_process_killed_after_the_create_adopts_its_batch(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the create that was under way makes the next process look, with patience for a list that lags."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # the lag is counted in looks
    server.faults({"kind": "hide", "lists": 3})
    sub = submission(tmp_path, 5)
    recorder = killed_after_create(sub)
    assert len(deliver(provider(look_again_after=(600, 600, 600)), sub, recorder)) == 5
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
    time.sleep(0.01)  # so that the two were not made in the same instant
    other = provider().create(submission(tmp_path, 6, key=OTHER), {}, Recorder())
    (made,) = server.rows(f"SELECT batch FROM batches WHERE id='{other['job']}'")
    recorder({"create_sent_at": datetime.fromisoformat(json.loads(made["batch"])["created_at"].replace("Z", "+00:00")).timestamp()})
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
