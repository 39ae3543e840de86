"""The queue: slots, tokens, ambiguous creates, stops. Nothing waits for ever, nothing is paid twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pipeline.base.errors import StepError, Stopped
from pipeline.base.rows import RequestRow
from pipeline.providers.money import token_bounds, worst_usd
from pipeline.providers.protocol import Ambiguous, JobState, JobStatus, Limits, NoRoomNow, Submission
from tests.desk import PRICE, Remote, Scripted, answer, finish, office
from tests.submissions import request

pytestmark = pytest.mark.timeout(30)


def rows(*numbers: int) -> list[RequestRow]:
    return [request(n) for n in numbers]


def most_in_flight(remote: Remote, provider: Scripted, weigh=lambda rows: 1) -> list[int]:  # type: ignore[no-untyped-def]
    """Watches what is in flight after each create: a job counts until it was polled to its end."""
    seen: list[int] = []

    def watch(_submission: Submission) -> None:
        seen.append(sum(weigh(listed) for job, (_key, listed) in remote.jobs.items() if remote.polls[job] < provider.needed))

    provider.after_create = watch
    return seen


# --- slots and tokens -----------------------------------------------------------------------------------------------


def test_never_more_jobs_in_flight_than_slots(tmp_path: Path) -> None:
    desk = office(tmp_path, slots=2)
    seen = most_in_flight(desk.remote, desk.provider)
    finish(desk.queue(a=rows(1), b=rows(2), c=rows(3), d=rows(4), e=rows(5)))
    assert max(seen) == 2
    assert set(desk.remote.billed.values()) == {1}


def test_never_more_tokens_enqueued_than_the_account_may_hold(tmp_path: Path) -> None:
    each = token_bounds(request(1).body)[0]
    desk = office(tmp_path, limits=Limits(max_enqueued_tokens=3 * each + 1))
    seen = most_in_flight(desk.remote, desk.provider, lambda listed: sum(token_bounds(r.body)[0] for r in listed))
    finish(desk.queue(a=rows(1, 2, 3, 4, 5), b=rows(6, 7)))
    assert max(seen) <= 3 * each + 1
    assert set(desk.remote.billed.values()) == {1} and len(desk.remote.billed) == 7


def test_one_request_above_the_token_limit_is_an_error_not_a_wait(tmp_path: Path) -> None:
    desk = office(tmp_path, limits=Limits(max_enqueued_tokens=1))
    with pytest.raises(StepError, match="alone exceeds 1 tokens"):
        finish(desk.queue(a=rows(1)))
    assert not desk.remote.billed


def test_shards_larger_than_a_job_become_several_jobs(tmp_path: Path) -> None:
    desk = office(tmp_path, limits=Limits(max_rows=2))
    finish(desk.queue(a=rows(1, 2, 3, 4, 5)))
    assert [len(listed) for _key, listed in desk.remote.jobs.values()] == [2, 2, 1]
    assert set(desk.remote.billed.values()) == {1}


@pytest.mark.parametrize("what", ["slot", "money"])
def test_a_promise_of_a_killed_process_does_not_hold_its_place_for_ever(tmp_path: Path, what: str) -> None:
    """Shard b was promised, then the process died. The next one works on a first, which waits for what b holds: b must be launched."""
    need = sum(worst_usd(r, PRICE) for r in rows(1, 2))
    desk = office(tmp_path, **({"slots": 1} if what == "slot" else {"cap": need * 1.5}))
    queue = desk.queue(a=rows(1, 2), b=rows(3, 4))
    queue.shards["b/t0_p00"].promise([0, 1])
    queue.close()
    again = desk.again().queue(a=rows(1, 2), b=rows(3, 4))
    finish(again)
    assert set(desk.remote.billed.values()) == {1} and len(desk.remote.billed) == 4


def test_poll_alone_launches_what_was_promised(tmp_path: Path) -> None:
    """`doit run --from_step poll` after a kill between promise and create."""
    desk = office(tmp_path)
    queue = desk.queue(a=rows(1))
    queue.shards["a/t0_p00"].promise([0])
    queue.close()
    again = desk.again().queue(a=rows(1))
    again.wait("a/t0_p00")
    assert desk.remote.asked() == {"1": 1}


# --- uncertain outcomes -----------------------------------------------------------------------------------------------


def test_ambiguous_create_that_did_happen_is_adopted(tmp_path: Path) -> None:
    desk = office(tmp_path)

    def times_out(_submission: Submission) -> None:
        if len(desk.remote.jobs) == 1:
            raise Ambiguous("time-out after sending")

    desk.provider.after_create = times_out
    finish(desk.queue(a=rows(1, 2)))
    assert desk.remote.asked() == {"1": 1, "2": 1}


def test_ambiguous_create_that_did_not_happen_is_repeated_after_a_look(tmp_path: Path) -> None:
    desk, tries = office(tmp_path), []

    def refused(_submission: Submission) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise Ambiguous("connection reset")

    desk.provider.before_create = refused
    finish(desk.queue(a=rows(1)))
    assert desk.remote.asked() == {"1": 1}


def test_endless_ambiguity_stops_resumably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = office(tmp_path)

    def reset(_submission: Submission) -> None:
        raise Ambiguous("connection reset")

    desk.provider.before_create = reset
    monkeypatch.setattr(desk.stop, "sleep", lambda seconds: None)
    with pytest.raises(Stopped, match="could not be learned") as raised:
        finish(desk.queue(a=rows(1)))
    assert raised.value.exit_code == 3
    desk.provider.before_create = lambda submission: None
    finish(desk.again().queue(a=rows(1)))
    assert desk.remote.asked() == {"1": 1}


def test_no_room_now_collects_others_meanwhile_and_then_sends(tmp_path: Path) -> None:
    desk = office(tmp_path)
    refused = []

    def full(_submission: Submission) -> None:
        if any(desk.remote.polls[job] < desk.provider.needed for job in desk.remote.jobs):
            refused.append(1)
            raise NoRoomNow("enqueued tokens", retry_after=0.0)

    desk.provider.before_create = full
    finish(desk.queue(a=rows(1), b=rows(2)))
    assert refused and desk.remote.asked() == {"1": 1, "2": 1}


def test_a_wait_that_nobody_would_sit_out_stops_resumably(tmp_path: Path) -> None:
    desk = office(tmp_path)

    def come_back_in_a_week(_submission: Submission) -> None:
        raise NoRoomNow("429", retry_after=604800.0)

    desk.provider.before_create = come_back_in_a_week
    with pytest.raises(Stopped, match=r"asks to wait 604800 s.*Run again later"):
        finish(desk.queue(a=rows(1)))
    desk.provider.before_create = lambda submission: None
    finish(desk.again().queue(a=rows(1)))
    assert desk.remote.asked() == {"1": 1}


def test_finished_jobs_are_collected_while_the_provider_asks_to_wait(tmp_path: Path) -> None:
    desk = office(tmp_path)
    queue = desk.queue(a=rows(1), b=rows(2))
    queue.submit("a/t0_p00")
    published: list[bool] = []

    def busy_once(_submission: Submission) -> None:
        published.append(queue.shards["a/t0_p00"].published)
        if len(published) == 1:
            raise NoRoomNow("429", retry_after=0.3)

    desk.provider.before_create = busy_once
    queue.submit("b/t0_p00")
    assert published == [False, True]


def test_a_stop_while_there_is_no_room_is_heard(tmp_path: Path) -> None:
    desk = office(tmp_path)

    def full(_submission: Submission) -> None:
        desk.stop.stop("SIGTERM")
        raise NoRoomNow("full", retry_after=60.0)

    desk.provider.before_create = full
    began = time.monotonic()
    with pytest.raises(Stopped):
        finish(desk.queue(a=rows(1)))
    assert time.monotonic() - began < 5


def test_a_job_that_never_starts_is_cancelled_by_the_providers_clock(tmp_path: Path) -> None:
    desk = office(tmp_path)
    cancelled: list[str] = []
    desk.provider.cancel = lambda ids: cancelled.append(ids["job"])  # type: ignore[method-assign]

    def state(job: str, _rows: list[RequestRow]) -> JobStatus:
        if job != "job-1":
            return JobStatus(JobState.ENDED)
        return JobStatus(JobState.CANCELLED) if cancelled else JobStatus(JobState.WAITING, created_at=0.0, now=3601.0)

    desk.provider.state_of = state
    desk.provider.rows_of = lambda job, listed: [] if job == "job-1" else map(answer, listed)
    finish(desk.queue(a=rows(1)))
    assert cancelled == ["job-1"] and len(desk.remote.jobs) == 2
    assert any("has not started for 1 h" in n for n in desk.notices)


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_a_stop_between_shards_sends_nothing_more(tmp_path: Path) -> None:
    desk = office(tmp_path)
    desk.provider.after_create = lambda submission: desk.stop.stop("SIGINT")
    with pytest.raises(Stopped, match="SIGINT"):
        finish(desk.queue(a=rows(1), b=rows(2)))
    assert desk.remote.asked() == {"1": 1}
    desk.provider.after_create = lambda submission: None
    finish(desk.again().queue(a=rows(1), b=rows(2)))
    assert desk.remote.asked() == {"1": 1, "2": 1}


def test_looking_once_publishes_what_is_ready_and_sends_nothing(tmp_path: Path) -> None:
    desk = office(tmp_path)
    queue = desk.queue(a=rows(1), b=rows(2))
    queue.submit("a/t0_p00")
    queue.look_once()
    assert not queue.shards["a/t0_p00"].published
    queue.look_once()
    assert queue.shards["a/t0_p00"].published
    assert desk.remote.asked() == {"1": 1}


def test_two_threads_on_one_queue_do_not_double_anything(tmp_path: Path) -> None:
    """`doit run -n 2`: two tasks at once, one queue."""
    desk = office(tmp_path, slots=2)
    units = {f"u{n}": rows(10 * n, 10 * n + 1, 5) for n in range(1, 7)}
    queue = desk.queue(**units)
    names = list(queue.shards)

    def work(mine: list[str]) -> None:
        for name in mine:
            queue.submit(name)
        for name in mine:
            queue.wait(name)

    threads = [threading.Thread(target=work, args=(names[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(s.published for s in queue.shards.values())
    assert set(desk.remote.billed.values()) == {1}
