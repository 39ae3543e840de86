"""Fireworks: one job and one bill per submission, and the datasets on the way to it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.base.errors import StepError
from pipeline.providers.fireworks import FireworksProvider
from pipeline.providers.protocol import Ambiguous, NoRoomNow, Rejected
from tests.fireworks_desk import BRISK, CALLS, bill, end_of, fault, posts, provider, results, rows, send, served, submission, use_key
from tests.servers.harness import ServerProcess


@pytest.fixture(autouse=True)
def key(monkeypatch):
    use_key(monkeypatch)


@pytest.fixture
def server(tmp_path):
    yield from served(tmp_path)


def test_a_second_process_adopts_the_job_of_a_killed_one(server, tmp_path):
    sub = submission(tmp_path)
    send(provider(server.url()), sub)  # and this process dies with nothing recorded
    found = results(provider(server.url()), sub)
    assert posts(server) == 1 and bill(server) == sorted(found)


@pytest.mark.parametrize("status", [409, 400])
def test_already_exists_means_look_it_up(server, tmp_path, monkeypatch, status):
    server.state.set_options({"duplicate_status": status})
    sub = submission(tmp_path)
    send(provider(server.url()), sub)
    blind = provider(server.url())
    look, looks = blind.find, []
    monkeypatch.setattr(blind, "find", lambda *a: looks.append(a) or (look(*a) if len(looks) > 1 else None))
    found = results(blind, sub)
    assert posts(server) == 2 and bill(server) == sorted(found)


class Blind(FireworksProvider):
    """The mutation: creates without looking first."""

    def find(self, *_):
        return None


@pytest.mark.parametrize(("kind", "times"), [(FireworksProvider, 1), (Blind, 2)])
def test_looking_before_creating_is_what_keeps_the_bill_single(server, tmp_path, kind, times):
    """On a server that does not refuse duplicates: with the look one bill, without it two."""
    server.state.set_options({"dedupe": False})
    sub = submission(tmp_path)
    settings = {"base_url": server.url(), "account_id": "acme", "options": BRISK}
    for _process in range(2):
        made = kind(settings)
        ids = send(made, sub)
    end_of(made, ids, sub)
    assert bill(server) == sorted([row.custom_id for row in rows()] * times)


def test_without_looks_the_refusal_of_duplicates_still_keeps_the_bill_single(server, tmp_path):
    settings = {"base_url": server.url(), "account_id": "acme", "options": BRISK}
    sub = submission(tmp_path)
    ids = send(Blind(settings), sub)
    with pytest.raises(Ambiguous):
        send(Blind(settings), sub)
    end_of(Blind(settings), ids, sub)
    assert bill(server) == [row.custom_id for row in rows()]


def test_a_job_of_that_name_with_other_work_is_not_adopted(server, tmp_path):
    sub = submission(tmp_path)
    send(provider(server.url()), sub)
    with pytest.raises(StepError, match="holds other work"):
        send(provider(server.url()), replace(sub, model="accounts/fireworks/models/other"))
    with pytest.raises(StepError, match="holds other work"):
        send(provider(server.url()), sub, {"input_dataset": "another"})
    for precision, adopted in (("FP8", False), (None, True)):
        made = provider(server.url(), job={"precision": "BF16"})
        look = made._api.job
        made._api.job = lambda *a, look=look, precision=precision: ({**look(*a)[0], "precision": precision}, None)
        with nullcontext() if adopted else pytest.raises(StepError, match="precision FP8"):
            send(made, sub)
    assert posts(server) == 1


def test_server_and_client_killed_between_any_two_calls_leave_one_bill(tmp_path):
    with ServerProcess("fireworks", tmp_path) as remote:
        sub = submission(tmp_path)
        remote.faults({"kind": "drop_reply", "on": CALLS["create job"]})
        ids: dict = {}
        with pytest.raises(Ambiguous):
            provider(remote.url).create(sub, ids, ids.update)
        found: dict = {}
        for _ in range(12):  # every look comes from a new process, and the server is killed between
            made = provider(remote.url)
            ids = send(made, sub, ids)
            status = made.poll(ids, sub)
            if status.state.final:
                found = {row.custom_id: row for row in made.fetch(ids, sub)}
                break
            remote.kill()
            remote.start()
        assert sorted(found) == [row.custom_id for row in rows()]
        assert remote.admin("summary") == {"billed": 8, "requests": 8, "duplicates": 0}
        assert remote.calls("POST", "/v1/accounts/acme/batchInferenceJobs") == 1


def test_a_dataset_left_half_uploaded_is_uploaded_again(server, tmp_path):
    made, sub = provider(server.url()), submission(tmp_path)
    made._api.create_dataset("acme", f"{sub.key}-in", 8)  # a process that died before the upload
    found = results(made, sub)
    assert len(found) == 8 and posts(server, "/datasets") == 1 and posts(server, ":upload") == 1


def test_a_ready_dataset_is_used_as_it_is(server, tmp_path):
    made, sub = provider(server.url()), submission(tmp_path)
    fault(server, "reset", CALLS["create job"])
    found = results(made, sub)
    assert len(found) == 8 and posts(server, ":upload") == 1


def test_large_files_go_to_a_signed_url_and_are_validated(server, tmp_path):
    found = results(provider(server.url(), upload_bytes=10), submission(tmp_path))
    assert len(found) == 8 and posts(server, ":upload") == 0 and posts(server, ":validateUpload") == 1
    stored = server.state.rows("SELECT method, note FROM log WHERE path LIKE 'storage:%'")
    assert [row["method"] for row in stored] == ["PUT", "GET", "GET"] and {row["note"] for row in stored} == {""}


def test_an_expired_upload_url_is_asked_for_again(server, tmp_path):
    fault(server, "expired_url", "PUT")
    assert len(results(provider(server.url(), upload_bytes=10), submission(tmp_path))) == 8


def test_the_upload_is_waited_for_until_ready(server, tmp_path):
    server.state.set_options({"upload_polls": 4})
    assert len(results(provider(server.url()), submission(tmp_path))) == 8
    server.state.set_options({"upload_polls": 10**6})
    with pytest.raises(NoRoomNow, match="ready"):
        send(provider(server.url(), ready_seconds=0.1), submission(tmp_path, key="ab-00000000000000000000-g0-a1"))
    assert posts(server, ":upload") == 2  # waiting on does not upload again, which might begin the validation anew


def test_a_dataset_that_fireworks_does_not_accept_is_refused_with_its_reason(server, tmp_path):
    server.state.set_options({"dataset_problem": "line 3 is not JSON"})
    with pytest.raises(Rejected, match="line 3 is not JSON") as caught:
        send(provider(server.url()), submission(tmp_path))
    assert caught.value.splittable and posts(server) == 0


def test_where_fireworks_chooses_the_output_dataset_its_id_is_learned(server, tmp_path):
    server.state.set_options({"server_output_id": True})
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    assert ids["output_dataset"].startswith("bij-") and len(results(made, sub, ids)) == 8
    allocated = provider(server.url(), output_dataset="allocated")
    ids = send(allocated, submission(tmp_path, key="ab-00000000000000000000-g0-a1"))
    assert ids["output_dataset"].startswith("bij-")
    assert posts(server) == 3
