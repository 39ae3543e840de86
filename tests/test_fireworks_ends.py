"""How Fireworks jobs end, or do not: expired, failed, stuck, vanished."""

from __future__ import annotations

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.providers.protocol import JobState, Rejected
from tests.fireworks_desk import CALLS, bill, end_of, fault, posts, provider, results, rows, send, served, submission, use_key


@pytest.fixture(autouse=True)
def key(monkeypatch):
    use_key(monkeypatch)


@pytest.fixture
def server(tmp_path):
    yield from served(tmp_path)


@pytest.mark.parametrize(("kind", "state"), [("expire", JobState.EXPIRED), ("cancel", JobState.CANCELLED), ("early_stop", JobState.ENDED)])
@pytest.mark.parametrize("prefix", [True, False])
def test_a_job_that_ends_halfway_gives_what_it_has_and_the_rest_is_sent_once(server, tmp_path, kind, state, prefix):
    server.state.set_options({"prefix": prefix})
    fault(server, kind)
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    assert end_of(made, ids, sub).state is state
    first = {row.custom_id for row in made.fetch(ids, sub)}
    assert len(first) == 4
    rest = [row for row in rows() if row.custom_id not in first]
    second = results(made, submission(tmp_path, rest, "ab-0123456789abcdef0123-g0-a1"))
    assert sorted(first | set(second)) == bill(server) == [row.custom_id for row in rows()]


def test_the_server_continues_an_expired_job_with_what_it_owes_only(server, tmp_path):
    """What `continuedFromJobName` does; the adapter sends the rest as a dataset of its own instead."""
    fault(server, "expire")
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    made._api.create_job("acme", "next", {"continuedFromJobName": f"accounts/acme/batchInferenceJobs/{ids['job']}"})
    end_of(made, {**ids, "job": "next"}, sub)
    assert bill(server) == [row.custom_id for row in rows()]


def test_a_bad_row_fails_the_whole_job_names_itself_and_bills_nothing(server, tmp_path):
    bad = rows()
    bad[3].body["messages"][1]["role"] = "wizard"
    made, sub = provider(server.url()), submission(tmp_path, bad)
    assert [line.split(":")[0] for line in made.check(iter(bad))] == [bad[3].custom_id]
    status = end_of(made, send(made, sub), sub)
    assert (status.state, status.bad_custom_ids, status.retry_later) == (JobState.FAILED, (bad[3].custom_id,), False)
    assert "invalid role" in status.message and bill(server) == []
    assert list(made.fetch(status.ids, sub)) == []


def test_a_quota_failure_is_for_later(server, tmp_path):
    fault(server, "fail", message="Quota exceeded for this account")
    made, sub = provider(server.url()), submission(tmp_path)
    assert end_of(made, send(made, sub), sub).retry_later


def test_an_unknown_state_is_waited_out_with_a_warning(server, tmp_path, caplog):
    fault(server, "strange_state")
    assert len(results(provider(server.url()), submission(tmp_path))) == 8
    assert "DEFRAGMENTING" in caplog.text


def test_a_job_that_never_starts_can_be_judged_by_fireworks_clock_and_given_up(server, tmp_path):
    fault(server, "stuck")
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    for _ in range(5):
        status = made.poll(ids, sub)
    assert status.state is JobState.WAITING and "capacity" in status.message
    assert status.started_at is None and 0 <= status.now - status.created_at + 1 < 60
    made.cancel(ids)
    assert end_of(made, ids, sub).state is JobState.LOST
    made.cancel(ids)  # over already: no error
    assert bill(server) == [] and list(made.fetch(ids, sub)) == []


def test_a_running_job_is_not_deleted_because_its_rows_are_paid_for(server, tmp_path, caplog):
    server.state.set_options({"running_polls": 5})
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    while made.poll(ids, sub).state is not JobState.RUNNING:
        pass
    made.cancel(ids)
    assert "left to finish" in caplog.text
    assert end_of(made, ids, sub).state is JobState.ENDED and len(list(made.fetch(ids, sub))) == 8


def test_where_fireworks_takes_a_cancel_what_ran_is_kept_and_the_rest_is_owed(server, tmp_path):
    """Other clients post `:cancel`; no documentation has it."""
    server.state.set_options({"cancellable": True, "running_polls": 5})
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    while made.poll(ids, sub).state is not JobState.RUNNING:
        pass
    made.cancel(ids)
    assert end_of(made, ids, sub).state is JobState.CANCELLED
    assert sorted(row.custom_id for row in made.fetch(ids, sub)) == bill(server) and len(bill(server)) == 4


def test_a_lost_job_is_lost_only_after_a_second_look(server, tmp_path):
    made, sub = provider(server.url()), submission(tmp_path)
    status = made.poll({"account": "acme", "job": "nobody", "output_dataset": "nothing"}, sub)
    assert status.state is JobState.LOST and len(server.state.rows("SELECT 1 FROM log WHERE path LIKE '%/nobody'")) == 2
    ids = send(made, sub)
    fault(server, "status", CALLS["look at job"], status=404, body={"code": 5, "message": "resource not found", "details": []})
    assert made.poll(ids, sub).state is JobState.WAITING


def test_with_only_a_breadcrumb_left_the_results_are_fetched(server, tmp_path):
    fault(server, "vanish")
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    assert end_of(made, ids, sub).state is JobState.ENDED
    assert made.poll(ids, sub).state is JobState.ENDED  # by now the record of the job is gone
    assert made._api.job("acme", ids["job"])[0] is None
    crumb = {"output_dataset": ids["output_dataset"]}
    assert sorted(row.custom_id for row in made.fetch(crumb, sub)) == bill(server)


def test_a_job_whose_record_and_ours_are_gone_is_adopted_by_its_output_dataset(server, tmp_path):
    """Fireworks forgot the job, and we the submission: the output dataset under our id holds answers that were paid for."""
    fault(server, "vanish")
    made, sub = provider(server.url()), submission(tmp_path)
    end_of(made, send(made, sub), sub)
    assert made._api.job("acme", sub.key)[0] is None
    found = results(provider(server.url()), sub)
    assert sorted(found) == bill(server) == [row.custom_id for row in rows()]


def test_a_dataset_of_that_name_with_other_rows_is_not_used(server, tmp_path):
    made, sub = provider(server.url()), submission(tmp_path)
    made._api.create_dataset("acme", f"{sub.key}-in", 3)
    with pytest.raises(Rejected, match=r"holds other rows \(3, not 8\).*--fresh"):
        send(made, sub)
    assert posts(server) == 0 and bill(server) == []
