"""Answers and claims between shards and runs: nobody pays for what another has, or has under way, and nobody waits for the dead."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.base.errors import Stopped
from pipeline.base.rows import RequestRow
from pipeline.records.answers import AnswerStore
from pipeline.records.lock import RunLock, holder
from pipeline.records.submission import SubmissionRecord
from tests.desk import Office, answer, finish, office
from tests.submissions import request

pytestmark = pytest.mark.timeout(30)


def rows(*numbers: int) -> list[RequestRow]:
    return [request(n) for n in numbers]


def other_run(desk: Office, **changes: object) -> Office:
    return desk.again(run_id="r2", **changes)


def test_answers_known_to_another_run_are_reused_with_their_age(tmp_path: Path) -> None:
    desk = office(tmp_path)
    finish(desk.queue(a=rows(1, 2)))
    second = other_run(desk)
    finish(second.queue(z=rows(1, 2, 3)))
    assert desk.remote.asked() == {"1": 1, "2": 1, "3": 1}
    assert [r.text for r in second.results("z")] == ["to 1", "to 2", "to 3"]
    reused = json.loads(second.paths("z").submission.read_text())["reused"]
    assert reused["requests"] == 2 and reused["oldest"] <= reused["newest"]


def test_the_same_content_in_two_shards_is_asked_once(tmp_path: Path) -> None:
    desk = office(tmp_path)
    finish(desk.queue(a=rows(1, 2), b=rows(2, 3)))
    assert desk.remote.asked() == {"1": 1, "2": 1, "3": 1}
    assert [r.text for r in desk.results("b")] == ["to 2", "to 3"]


def test_content_claimed_by_a_sibling_that_is_not_under_way_is_asked_by_who_needs_it(tmp_path: Path) -> None:
    """`--condition control` stopped with rows owed; then `--condition treatment`, which shares them: it must not wait for the sibling."""
    desk = office(tmp_path)
    queue = desk.queue(a=rows(1, 2), b=rows(1, 2))
    queue.shards["a/t0_p00"].sendable()  # claims, and then the process dies
    queue.close()
    again = desk.again().queue(a=rows(1, 2), b=rows(1, 2))
    again.submit("b/t0_p00")
    again.wait("b/t0_p00")
    again.submit("a/t0_p00")
    again.wait("a/t0_p00")
    assert desk.remote.asked() == {"1": 1, "2": 1}


def test_a_second_run_waits_for_a_living_one(tmp_path: Path) -> None:
    desk = office(tmp_path)
    first = desk.queue(a=rows(1, 2))
    first.submit("a/t0_p00")
    lock = RunLock(tmp_path / "run_r1" / ".run.lock")
    lock.acquire()
    second = other_run(desk)
    waiting = threading.Thread(target=finish, args=(second.queue(z=rows(1, 2)),))
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive() and len(desk.remote.jobs) == 1
    first.wait("a/t0_p00")
    waiting.join(10)
    lock.release()
    assert not waiting.is_alive()
    assert desk.remote.asked() == {"1": 1, "2": 1}
    assert [r.text for r in second.results("z")] == ["to 1", "to 2"]


def test_an_answer_that_comes_between_look_and_claim_is_not_paid_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other run answers, and lets go of its claim, just after this one saw no answer and just before it claims."""
    desk = office(tmp_path)
    first = desk.queue(a=rows(1, 2))
    first.submit("a/t0_p00")
    claim = AnswerStore.claim

    def late(self: AnswerStore, keys: Iterable[str], generation: int, owner: str) -> dict[str, str]:
        if owner.startswith("r2/"):
            first.wait("a/t0_p00")
        return claim(self, keys, generation, owner)

    monkeypatch.setattr(AnswerStore, "claim", late)
    second = other_run(desk)
    finish(second.queue(z=rows(2, 1, 3)))
    assert desk.remote.asked() == {"1": 1, "2": 1, "3": 1}
    assert [r.text for r in second.results("z")] == ["to 2", "to 1", "to 3"]


def test_a_dead_run_with_a_job_under_way_is_named(tmp_path: Path) -> None:
    desk = office(tmp_path)
    first = desk.queue(a=rows(1))
    first.submit("a/t0_p00")
    first.close()
    with pytest.raises(Stopped, match=r"run r1 has sent some.*--run_id r1 --resume"):
        finish(other_run(desk).queue(z=rows(1)))
    finish(desk.again().queue(a=rows(1)))
    finish(other_run(desk).queue(z=rows(1)))
    assert desk.remote.asked() == {"1": 1}


def test_claims_of_a_dead_run_that_sent_nothing_are_taken_over(tmp_path: Path) -> None:
    """A run that stopped at its money cap, or whose folder was deleted, must not keep others out for ever."""
    desk = office(tmp_path, cap=0.0)
    with pytest.raises(Stopped, match="money cap"):
        finish(desk.queue(a=rows(1)))
    finish(other_run(desk, cap=None).queue(z=rows(1)))
    assert desk.remote.asked() == {"1": 1}


def test_claims_are_freed_under_the_lock_of_their_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that came to life between the look and the release would send what is then sent again."""
    desk = office(tmp_path, cap=0.0)
    with pytest.raises(Stopped, match="money cap"):
        finish(desk.queue(a=rows(1)))
    held, release = [], AnswerStore.release

    def watched(self: AnswerStore, owner: str) -> None:
        held.append((owner, holder(tmp_path / "run_r1" / ".run.lock") is not None))
        release(self, owner)

    monkeypatch.setattr(AnswerStore, "release", watched)
    finish(other_run(desk, cap=None).queue(z=rows(1)))
    assert held[0] == ("r1/a/t0_p00", True)
    assert holder(tmp_path / "run_r1" / ".run.lock") is None


def test_a_deleted_run_is_not_made_anew_to_look_at_it(tmp_path: Path) -> None:
    desk = office(tmp_path, cap=0.0)
    with pytest.raises(Stopped, match="money cap"):
        finish(desk.queue(a=rows(1)))
    shutil.rmtree(tmp_path / "run_r1")
    finish(other_run(desk, cap=None).queue(z=rows(1)))
    assert desk.remote.asked() == {"1": 1} and not (tmp_path / "run_r1").exists()


def test_a_dead_run_that_lost_its_record_is_still_not_paid_for_again(tmp_path: Path) -> None:
    """Its submission.json was deleted while its job was under way: the twin says so."""
    desk = office(tmp_path)
    first = desk.queue(a=rows(1))
    first.submit("a/t0_p00")
    first.close()
    desk.paths("a").submission.unlink()
    with pytest.raises(Stopped, match="run r1 has sent some"):
        finish(other_run(desk).queue(z=rows(1)))
    assert desk.remote.asked() == {"1": 1}


def test_a_finished_run_leaves_no_claims_wherever_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Death right after `published`: what was given up must not stay claimed by a run that never comes back to it."""
    desk = office(tmp_path, max_attempts=1)
    desk.provider.rows_of = lambda job, listed: []
    publish = SubmissionRecord.publish

    class Killed(BaseException):
        pass

    def publish_and_die(self: SubmissionRecord, results: dict[str, object]) -> None:
        publish(self, results)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SubmissionRecord, "publish", publish_and_die)
        with pytest.raises(Killed):
            finish(desk.queue(a=rows(1)))
    desk.provider.rows_of = lambda job, listed: map(answer, listed)
    second = other_run(desk)
    finish(second.queue(z=rows(1)))
    assert [r.outcome for r in second.results("z")] == ["answered"]
