"""A shard whose files are lost or damaged, or whose process dies at any point: nothing is paid again, no answer is lost."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.base.rows import Failure, RequestRow, ResultRow
from tests.desk import Scripted, answer, finish, office
from tests.submissions import request

OUTCOMES = "outcome"


def texts(rows: Iterable[ResultRow]) -> list[str]:
    return [r.text for r in rows]


def failed(row: RequestRow) -> ResultRow:
    return ResultRow(custom_id=row.custom_id, outcome="failed", error=Failure(code="server_error", message="oops"))


def _job_1_forgets_some(desk) -> None:  # type: ignore[no-untyped-def]
    desk.provider.rows_of = lambda job, rows: [answer(r) for r in rows if job != "job-1" or int(r.place.item_id) < 4]


@pytest.mark.parametrize("twin", [True, False])
@pytest.mark.parametrize("damage", ["{", None])
@pytest.mark.parametrize("moment", ["flying", "follow-up flying", "published"])
def test_lost_submission_record_bills_nothing_again(tmp_path: Path, damage: str | None, moment: str, twin: bool) -> None:
    """With its twin nothing at all is lost; without, the history of attempts is, and the jobs are found by their names."""
    desk = office(tmp_path)
    _job_1_forgets_some(desk)
    queue = desk.queue(u=6)
    queue.submit("u/t0_p00")
    if moment == "follow-up flying":
        desk.provider.needed = 1
        queue.look_once()
        desk.provider.needed = 2
        queue.submit("u/t0_p00")
        assert len(desk.remote.jobs) == 2
    if moment == "published":
        queue.wait("u/t0_p00")
    queue.close()
    path, before = desk.paths("u").submission, json.loads(desk.paths("u").submission.read_text())
    path.write_text(damage) if damage else path.unlink()
    if not twin:
        desk.paths("u").submission_twin.unlink()
    later = desk.again()
    restored = later.queue(u=6)
    if twin:
        assert json.loads(path.read_text()) == before
    finish(restored)
    assert desk.remote.asked() == {"0": 1, "1": 1, "2": 1, "3": 1, "4": 2, "5": 2}
    assert texts(later.results("u")) == [f"to {n}" for n in range(6)]
    assert bool(damage) == any("submission.json was corrupt" in n for n in later.notices)
    assert bool(damage) == bool(list(path.parent.glob("submission.json.corrupt.*")))


def test_lost_record_and_lost_answer_store_leave_the_published_answers(tmp_path: Path) -> None:
    """A provider that forgets its jobs after a while (or a local model) has nothing to look for: results.jsonl must do."""
    desk = office(tmp_path, max_attempts=1)
    desk.provider.rows_of = lambda job, rows: [failed(r) if r.place.item_id == "1" else answer(r) for r in rows]
    finish(desk.queue(u=3))
    before = desk.paths("u").results.read_bytes()
    desk.paths("u").submission.unlink()
    for name in ("answers.db", "answers.db-wal", "answers.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    desk.remote.jobs.clear()
    finish(desk.again().queue(u=3))
    assert set(desk.remote.billed.values()) == {1}
    assert desk.paths("u").results.read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "deleted", "foreign"])
def test_damaged_results_are_gathered_again_without_a_bill(tmp_path: Path, damage: str) -> None:
    desk = office(tmp_path)
    finish(desk.queue(u=4))
    path = desk.paths("u").results
    before = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(before[:-20])
    elif damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(before.replace(b"to 1", b"to 9"))
    for with_store in (True, False):
        if not with_store:
            for stale in tmp_path.glob("answers.db*"):
                stale.unlink()
        queue = desk.again().queue(u=4)
        queue.shards["u/t0_p00"].recollect()
        finish(queue)
        assert path.read_bytes() == before
        assert set(desk.remote.billed.values()) == {1}
        path.unlink()


def test_rows_file_left_by_a_lost_record_is_not_taken_for_the_new_attempts(tmp_path: Path) -> None:
    """Attempts have numbers: a stale attempt_00 of other rows must not be sent under the new one's name."""
    desk = office(tmp_path)
    desk.provider.live = True
    stale = desk.paths("u").attempt(0)
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b'{"stale": true}\n')
    finish(desk.queue(u=3))
    assert texts(desk.results("u")) == ["to 0", "to 1", "to 2"]


def test_damaged_collected_rows_go_aside_and_come_back_from_the_store(tmp_path: Path) -> None:
    desk = office(tmp_path)
    _job_1_forgets_some(desk)
    desk.provider.needed = 1
    queue = desk.queue(u=6)
    queue.submit("u/t0_p00")
    queue.look_once()
    queue.close()
    collected = desk.paths("u").collected
    lines = collected.read_bytes().splitlines(keepends=True)
    collected.write_bytes(b"\x00\x00garbage\n" + b"".join(lines[1:]))
    finish(desk.again().queue(u=6))
    assert desk.remote.asked() == {"0": 1, "1": 1, "2": 1, "3": 1, "4": 2, "5": 2}
    assert texts(desk.results("u")) == [f"to {n}" for n in range(6)]


def test_changed_requests_put_the_old_answers_aside_and_never_mix(tmp_path: Path) -> None:
    desk = office(tmp_path)
    finish(desk.queue(u=3))
    desk.paths("u").rows.unlink()
    finish(desk.again().queue(u=[request(n) for n in (0, 11, 12)]))
    assert texts(desk.results("u")) == ["to 0", "to 11", "to 12"]
    assert desk.remote.asked() == {"0": 1, "1": 1, "2": 1, "11": 1, "12": 1}, "the known answer to 0 is reused"
    assert len(list(desk.paths("u").folder.glob("superseded_*/results.jsonl"))) == 1


def test_requests_that_change_to_and_fro_keep_every_old_record(tmp_path: Path) -> None:
    desk = office(tmp_path)
    for numbers in ([0, 1], [2, 3], [0, 1], [2, 3]):
        desk.paths("u").rows.unlink(missing_ok=True)
        finish(desk.again().queue(u=[request(n) for n in numbers]))
        assert texts(desk.results("u")) == [f"to {n}" for n in numbers]
    assert set(desk.remote.billed.values()) == {1}
    assert len(list(desk.paths("u").folder.glob("superseded_*"))) == 3


def test_fresh_generation_pays_again_and_keeps_what_was(tmp_path: Path) -> None:
    desk = office(tmp_path)
    finish(desk.queue(u=2))
    fresh = desk.again(generation=1)
    finish(fresh.queue(u=2))
    assert desk.remote.asked() == {"0": 2, "1": 2}
    finish(fresh.again().queue(u=2))
    assert desk.remote.asked() == {"0": 2, "1": 2}


# --- crashes ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Plays SIGKILL at a checkpoint: nothing after it runs, not even handlers of Exception."""


POINTS = (
    "submit:intent",
    "remote-commit",
    "submit:created",
    "submit:recorded",
    "poll:looked",
    "poll:fetch",
    "store",
    "poll:kept",
    "write",
    "poll:publish",
)


def _die_at(monkeypatch: pytest.MonkeyPatch, desk, point: str, nth: int) -> None:  # type: ignore[no-untyped-def]
    seen = 0

    def announce(name: str) -> None:
        nonlocal seen
        seen += name == point
        if name == point and seen == nth:
            raise Killed

    for module in ("pipeline.providers.shard", "pipeline.providers.queue", "pipeline.records.answers", "pipeline.base.files"):
        monkeypatch.setattr(f"{module}.announce", announce)
    desk.provider.after_create = lambda submission: announce("remote-commit")


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("point", POINTS)
def test_death_at_any_point_costs_nothing_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, nth: int) -> None:
    desk = office(tmp_path)
    _job_1_forgets_some(desk)
    with monkeypatch.context() as patch:
        _die_at(patch, desk, point, nth)
        with contextlib.suppress(Killed):
            finish(desk.queue(u=6))
    desk.provider.after_create = lambda submission: None
    finish(desk.again().queue(u=6))
    assert desk.remote.asked() == {"0": 1, "1": 1, "2": 1, "3": 1, "4": 2, "5": 2}
    assert texts(desk.results("u")) == [f"to {n}" for n in range(6)]
    assert not desk.paths("u").collected.exists()


def test_a_careless_provider_that_does_not_look_pays_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation: without look-before-create this very test bed sees double billing, so it could see it above."""
    desk = office(tmp_path)
    monkeypatch.setattr(Scripted, "find", lambda self, submission, ids: None)
    with monkeypatch.context() as patch:
        _die_at(patch, desk, "remote-commit", 1)
        with pytest.raises(Killed):
            finish(desk.queue(u=2))
    desk.provider.after_create = lambda submission: None
    finish(desk.again().queue(u=2))
    assert desk.remote.asked() == {"0": 2, "1": 2}


def test_half_an_emoji_in_an_answer_does_not_stop_the_run(tmp_path: Path) -> None:
    """Servers cut answers at a token and some escape each half of a surrogate pair: UTF-8 cannot say one half."""
    desk = office(tmp_path)
    desk.provider.rows_of = lambda job, rows: [answer(r, text="cut \ud83d", error=None, tool_calls=[{"a": "\udc00"}]) for r in rows]
    finish(desk.queue(u=2))
    assert texts(desk.results("u")) == ["cut �"] * 2
