"""One shard against a remote side that fails, forgets and lies: every request is asked once, every answer kept, every failure named."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.base.errors import StepError
from pipeline.base.rows import Failure, RequestRow, ResultRow
from pipeline.providers.protocol import Ambiguous, Barred, Ids, JobState, JobStatus, Rejected, Submission
from pipeline.providers.shard import HOPELESS
from tests.desk import answer, finish, office
from tests.submissions import request

OUTCOMES = "outcome"


def texts(rows: Iterable[ResultRow]) -> list[str]:
    return [r.text for r in rows]


def failed(row: RequestRow) -> ResultRow:
    return ResultRow(custom_id=row.custom_id, outcome="failed", error=Failure(code="server_error", message="oops"))


def test_every_request_is_asked_once_and_answered_in_order(tmp_path: Path) -> None:
    desk = office(tmp_path)
    desk.provider.rows_of = lambda job, rows: [answer(r) for r in reversed(rows)]
    finish(desk.queue(u=5))
    assert texts(desk.results("u")) == [f"to {n}" for n in range(5)]
    assert set(desk.remote.billed.values()) == {1}
    assert not list(desk.paths("u").folder.glob("attempt_*")) and not desk.paths("u").collected.exists()


def test_missing_rows_are_asked_again_alone(tmp_path: Path) -> None:
    desk = office(tmp_path)
    desk.provider.rows_of = lambda job, rows: [answer(r) for r in rows if job != "job-1" or int(r.place.item_id) % 2]
    finish(desk.queue(u=6))
    assert desk.remote.asked() == {"0": 2, "1": 1, "2": 2, "3": 1, "4": 2, "5": 1}
    assert texts(desk.results("u")) == [f"to {n}" for n in range(6)]
    record = json.loads(desk.paths("u").submission.read_text())
    assert [a["missing"] for a in record["attempts"]] == [3, 0]
    assert record["attempts"][1]["rows"] == [[0, 0], [2, 2], [4, 4]]


def test_expired_job_gives_what_it_has_and_owes_the_rest(tmp_path: Path) -> None:
    desk = office(tmp_path)
    desk.provider.state_of = lambda job, rows: JobStatus(JobState.EXPIRED if job == "job-1" else JobState.ENDED)
    desk.provider.rows_of = lambda job, rows: [answer(r) for r in (rows[:2] if job == "job-1" else rows)]
    finish(desk.queue(u=5))
    assert [len(rows) for _key, rows in desk.remote.jobs.values()] == [5, 3]
    assert all(r.outcome == "answered" for r in desk.results("u"))


def test_failing_rows_are_tried_so_often_and_then_named(tmp_path: Path) -> None:
    desk = office(tmp_path, max_attempts=2)
    desk.provider.rows_of = lambda job, rows: [failed(r) if r.place.item_id == "2" else answer(r) for r in rows]
    finish(desk.queue(u=4))
    assert desk.remote.asked() == {"0": 1, "1": 1, "2": 2, "3": 1}
    bad = desk.results("u")[2]
    assert (bad.outcome, bad.error) == ("failed", Failure(code="server_error", message="oops"))
    assert any("1 of 4 requests have no answer" in n and "--retry_failed" in n for n in desk.notices)


def test_retry_failed_asks_only_what_was_given_up(tmp_path: Path) -> None:
    desk = office(tmp_path, max_attempts=1)
    desk.provider.rows_of = lambda job, rows: [failed(r) if r.place.item_id == "2" else answer(r) for r in rows]
    finish(desk.queue(u=4))
    desk.provider.rows_of = lambda job, rows: [answer(r, text="at last") for r in rows]
    queue = desk.again().queue(u=4)
    queue.shards["u/t0_p00"].retry_failed()
    finish(queue)
    assert desk.remote.asked() == {"0": 1, "1": 1, "2": 2, "3": 1}
    assert texts(desk.results("u")) == ["to 0", "to 1", "at last", "to 3"]


@pytest.mark.parametrize("damage", ["cut", "torn", "deleted"])
def test_retry_failed_after_results_and_store_were_lost_asks_only_what_was_given_up(tmp_path: Path, damage: str) -> None:
    """What results.jsonl no longer says, the finished jobs do."""
    desk = office(tmp_path, max_attempts=1)
    desk.provider.rows_of = lambda job, rows: [failed(r) if r.place.item_id == "2" else answer(r) for r in rows]
    finish(desk.queue(u=4))
    path, lines = desk.paths("u").results, desk.paths("u").results.read_bytes().splitlines(keepends=True)
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(lines[0] + (lines[1][:20] if damage == "torn" else b""))
    for stale in tmp_path.glob("answers.db*"):
        stale.unlink()
    kept, first = desk.provider.rows_of, next(iter(desk.remote.jobs))
    desk.provider.rows_of = lambda job, rows: kept(job, rows) if job == first else [answer(r, text="at last") for r in rows]
    queue = desk.again().queue(u=4)
    queue.shards["u/t0_p00"].retry_failed()
    finish(queue)
    assert desk.remote.asked() == {"0": 1, "1": 1, "2": 2, "3": 1}
    assert texts(desk.results("u")) == ["to 0", "to 1", "at last", "to 3"]


def test_duplicated_rows_count_once_and_the_choice_does_not_depend_on_their_order(tmp_path: Path) -> None:
    chosen = []
    for turn in (1, -1):
        desk = office(tmp_path / str(turn))
        desk.provider.rows_of = lambda job, rows, turn=turn: [
            r for q in rows for r in [failed(q), answer(q, text="b"), answer(q, text="a")][::turn]
        ]  # type: ignore[misc]
        finish(desk.queue(u=3))
        chosen.append(texts(desk.results("u")))
        desk.paths("u").results.unlink()
        for stale in desk.folder.glob("answers.db*"):
            stale.unlink()
        again = desk.again().queue(u=3)
        again.shards["u/t0_p00"].recollect()
        finish(again)
        chosen.append(texts(desk.results("u")))
        assert json.loads(desk.paths("u").submission.read_text())["attempts"][0]["duplicates"] == 6
    assert chosen == [["a"] * 3] * 4


def test_foreign_rows_are_counted_and_thrown_away(tmp_path: Path) -> None:
    desk = office(tmp_path)
    desk.provider.rows_of = lambda job, rows: [answer(request(77), text="not asked"), *map(answer, rows)]
    finish(desk.queue(u=2))
    assert texts(desk.results("u")) == ["to 0", "to 1"]
    assert json.loads(desk.paths("u").submission.read_text())["attempts"][0]["foreign"] == 1


def test_whole_job_failure_with_named_rows_drops_just_these(tmp_path: Path) -> None:
    desk = office(tmp_path)

    def state(job: str, rows: list[RequestRow]) -> JobStatus:
        bad = tuple(r.custom_id for r in rows if r.place.item_id in ("1", "4"))
        return JobStatus(JobState.FAILED, message="bad rows", bad_custom_ids=bad) if bad else JobStatus(JobState.ENDED)

    desk.provider.state_of = state
    finish(desk.queue(u=6))
    assert [r.outcome == "failed" for r in desk.results("u")] == [False, True, False, False, True, False]
    assert len(desk.remote.jobs) == 2
    assert desk.results("u")[1].error == Failure(code="rejected", message="bad rows")


@pytest.mark.parametrize("bad", [0, 5, 11])
def test_whole_job_failure_without_names_is_isolated_by_halving(tmp_path: Path, bad: int) -> None:
    desk = office(tmp_path)
    desk.provider.state_of = lambda job, rows: JobStatus(
        JobState.FAILED if any(r.place.item_id == str(bad) for r in rows) else JobState.ENDED
    )
    finish(desk.queue(u=12))
    assert [n for n, r in enumerate(desk.results("u")) if r.outcome == "failed"] == [bad]
    assert all(n == 1 for n in desk.remote.billed.values() if n)
    assert len(desk.remote.jobs) <= 12


def test_when_every_job_fails_the_cause_is_not_sought_in_the_rows(tmp_path: Path) -> None:
    """A wrong setting must end in one error, not in thousands of jobs of one row each; and no row is given up for it."""
    desk = office(tmp_path)
    desk.provider.state_of = lambda job, rows: JobStatus(JobState.FAILED, message="no such deployment")
    queue = desk.queue(u=64)
    with pytest.raises(StepError, match="no such deployment"):
        finish(queue)
    assert len(desk.remote.jobs) <= HOPELESS * 8
    assert not json.loads(desk.paths("u").submission.read_text())["failed"]
    desk.provider.state_of = lambda job, rows: JobStatus(JobState.ENDED)
    finish(desk.again().queue(u=64))
    assert all(r.outcome == "answered" for r in desk.results("u"))


def test_refusal_that_is_nobodys_fault_stops_at_once(tmp_path: Path) -> None:
    desk = office(tmp_path)

    def refuse(submission: Submission) -> None:
        raise Rejected("unknown model")

    desk.provider.before_create = refuse
    with pytest.raises(StepError, match=r"refuses u/t0_p00: unknown model.*Nothing of it ran or was billed"):
        finish(desk.queue(u=3))
    desk.provider.before_create = lambda submission: None
    finish(desk.again().queue(u=3))
    assert set(desk.remote.billed.values()) == {1}
    assert [len(rows) for _key, rows in desk.remote.jobs.values()] == [3], "nothing was at fault in the rows: they are not split"


@pytest.mark.parametrize("refusal", [Rejected("that id holds other work"), Barred("401: bad key")])
def test_a_refused_look_settles_nothing(tmp_path: Path, refusal: StepError) -> None:
    """The job was made and its reply lost; then the key is refused. Settling the attempt here would forget a job that is paid for."""
    desk = office(tmp_path)
    find = desk.provider.find
    answers: list[StepError | None] = [None, refusal]

    def look(submission: Submission, ids: Ids) -> Ids | None:
        if answers and (fault := answers.pop(0)) is not None:
            raise fault
        return find(submission, ids)

    def lose_the_reply(_submission: Submission) -> None:
        raise Ambiguous("reset")

    desk.provider.find = look  # type: ignore[method-assign]
    desk.provider.after_create = lose_the_reply
    with pytest.raises(StepError, match=refusal.fact):
        finish(desk.queue(u=3))
    finish(desk.again().queue(u=3))
    assert desk.remote.asked() == {"0": 1, "1": 1, "2": 1}


def test_an_account_turned_away_keeps_the_promise(tmp_path: Path) -> None:
    desk = office(tmp_path)

    def no_credit(_submission: Submission) -> None:
        raise Barred("402: no credit")

    desk.provider.before_create = no_credit
    for _ in range(3):
        with pytest.raises(StepError, match="no credit"):
            finish(desk.again().queue(u=4))
    desk.provider.before_create = lambda submission: None
    finish(desk.again().queue(u=4))
    assert len(json.loads(desk.paths("u").submission.read_text())["attempts"]) == len(desk.remote.jobs) == 1


def test_lost_job_is_sent_anew(tmp_path: Path) -> None:
    desk = office(tmp_path)
    desk.provider.state_of = lambda job, rows: JobStatus(JobState.LOST if job == "job-1" else JobState.ENDED)

    def rows_of(job: str, rows: list[RequestRow]) -> Iterable[ResultRow]:
        if job == "job-1":
            raise StepError("404: no such job")
        return map(answer, rows)

    desk.provider.rows_of = rows_of
    finish(desk.queue(u=3))
    assert len(desk.remote.jobs) == 2
    assert json.loads(desk.paths("u").submission.read_text())["attempts"][0]["billed_usd"] is None, "nobody knows: the reservation stays"


def test_come_back_later_is_obeyed_and_costs_nothing(tmp_path: Path) -> None:
    desk = office(tmp_path)
    desk.provider.state_of = lambda job, rows: (
        JobStatus(JobState.FAILED, retry_later=True) if job in ("job-1", "job-2") else JobStatus(JobState.ENDED)
    )
    finish(desk.queue(u=3))
    assert set(desk.remote.billed.values()) == {1}
    assert [a[OUTCOMES] for a in json.loads(desk.paths("u").submission.read_text())["attempts"]] == ["retry_later", "retry_later", "ended"]


def test_each_attempt_has_a_key_of_its_own_and_the_same_rows_get_the_same_first_key(tmp_path: Path) -> None:
    keys = []
    for place in ("a", "b"):
        desk = office(tmp_path / place, max_attempts=3)
        desk.provider.rows_of = lambda job, rows: map(failed, rows)
        finish(desk.queue(u=2))
        keys.append([key for key, _rows in desk.remote.jobs.values()])
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3
