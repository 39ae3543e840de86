"""Fireworks against a server on 127.0.0.1: whatever goes wrong on the way, every request is billed once and every answer arrives."""

from __future__ import annotations

import json
import logging
import re
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.base.errors import ConfigError, StepError
from pipeline.base.rows import Place, RequestRow, encode
from pipeline.providers.fireworks import FireworksProvider
from pipeline.providers.http import download
from pipeline.providers.protocol import Ambiguous, Barred, JobState, NoRoomNow, Rejected, Submission, submit
from tests.servers.common import App, Request, Response, serve
from tests.servers.fireworks import Fireworks
from tests.servers.harness import ServerProcess

RECORDED = Path(__file__).parent / "examples" / "fireworks"
MODEL = "accounts/fireworks/models/gpt-oss-20b"
KEY = "fw_3ZtopSecretKey"
BRISK = {"look_seconds": 0.01, "retry_seconds": 5, "retry_attempts": 8, "retry_wait_seconds": 0.01}
CALLS = {
    "create dataset": "POST /v1/accounts/acme/datasets$",
    "upload": "POST .*:upload",
    "look at dataset": "GET .*-in$",
    "create job": "POST .*/batchInferenceJobs$",
    "look at job": "GET .*/batchInferenceJobs/",
    "ask where to download": "GET .*:getDownloadEndpoint",
    "download": "GET /dataset/.*jsonl",
}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", KEY)
    monkeypatch.delenv("FIREWORKS_BASE_URL", raising=False)
    monkeypatch.delenv("FIREWORKS_ACCOUNT_ID", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")  # a firectl of this machine must not step in


@pytest.fixture
def server(tmp_path):
    app = Fireworks(tmp_path / "server.db")
    servers = serve(app)
    yield app
    for each in servers:
        each.shutdown()
        each.server_close()


def provider(url, **options):
    settings = {"base_url": url, "account_id": "acme", "timeout_seconds": 5, "options": {**BRISK, **options}}
    made = FireworksProvider(settings)
    made.look_again_after = (0.0,)
    return made


def rows(count=8, **body):
    place = Place(dataset="d", item_id="i", type="open", temp=0.0, sample_index=0)
    messages = [{"role": "system", "content": "Be brief."}]
    return [
        RequestRow(
            custom_id=f"{n:032x}", answer_key=str(n), place=place,
            body={"messages": [*messages, {"role": "user", "content": f"Question: what is number {n}?"}], "max_tokens": 64, **body},
        )
        for n in range(count)
    ]  # fmt: skip


def submission(folder, requests=None, key="ab-0123456789abcdef0123-g0-a0"):
    requests = rows() if requests is None else requests
    path = folder / "answers" / f"{key}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(encode(row) + b"\n" for row in requests))
    return Submission(key, MODEL, path, len(requests), 0.0)


def send(made, sub, ids=None, runs=5):
    """Submit as the queue does: what is ambiguous, or for later, is left to the next run, which has what was recorded."""
    ids = dict(ids or {})
    for _run in range(runs - 1):
        with suppress(Ambiguous, NoRoomNow):
            return submit(made, sub, ids, ids.update, sleep=lambda _: None)
    return submit(made, sub, ids, ids.update, sleep=lambda _: None)


def end_of(made, ids, sub, polls=30):
    for _ in range(polls):
        status = made.poll(ids, sub)
        if status.state.final:
            return status
    raise AssertionError(f"the job does not end: {status}")


def results(made, sub, ids=None):
    """{custom_id: rows} of the whole way, from submission to answers."""
    ids = send(made, sub, ids)
    status = end_of(made, ids, sub)
    found = {}
    for row in made.fetch(status.ids or ids, sub):
        found.setdefault(row.custom_id, []).append(row)
    return found


def bill(server):
    return sorted(row["custom_id"] for row in server.state.rows("SELECT custom_id FROM bill"))


def posts(server, path="/batchInferenceJobs"):
    return len(server.state.rows("SELECT 1 FROM log WHERE method='POST' AND path LIKE ?", f"%{path}"))


def fault(server, kind, on="", **more):
    server.state.add_faults([{"kind": kind, "on": on, **more}])


# --------------------------------------------------------------------------------------------------------- the whole way


def test_every_request_is_answered_and_billed_once(server, tmp_path):
    sub = submission(tmp_path)
    found = results(provider(server.url()), sub)
    assert sorted(found) == bill(server) == [row.custom_id for row in rows()]
    assert all(len(group) == 1 and group[0].outcome == "answered" and group[0].text for group in found.values())
    assert sorted(p.name for p in sub.rows_path.parent.iterdir()) == [sub.rows_path.name]  # nothing is left lying about


def test_the_job_and_its_rows_are_sent_as_the_recordings_show(server, tmp_path, monkeypatch):
    seen = {}
    handle = server.handle

    def spy(request):
        seen.setdefault(f"{request.method} {request.path.rsplit('/', 1)[-1]}", request)
        return handle(request)

    monkeypatch.setattr(server, "handle", spy)
    sub = submission(tmp_path, rows(3))
    send(provider(server.url(), job={"maxJobDuration": "86400s"}), sub)
    shape = json.loads((RECORDED / "create_dataset_request.json").read_bytes())
    assert seen["POST datasets"].json() == {**shape, "datasetId": f"{sub.key}-in"}
    assert seen["POST batchInferenceJobs"].query == {"batchInferenceJobId": sub.key}
    assert seen["POST batchInferenceJobs"].json() == {
        "model": MODEL,
        "inputDatasetId": f"accounts/acme/datasets/{sub.key}-in",
        "outputDatasetId": f"accounts/acme/datasets/{sub.key}-out",
        "displayName": sub.key,
        "maxJobDuration": "86400s",
    }
    name, content = seen[f"POST {sub.key}-in:upload"].file()
    assert name.endswith(".jsonl")
    assert [json.loads(line) for line in content.splitlines()] == [{"custom_id": r.custom_id, "body": r.body} for r in rows(3)]


def test_recorded_answers_lead_the_adapter_through_a_whole_job(tmp_path):
    """Here the server's answers are recordings of the real one, so adapter and test server cannot merely agree with each other."""

    class Replay(App):
        origins = ("api", "storage")
        finished = False

        def handle(self, request: Request) -> Response:
            raw = lambda name, status=200: Response((RECORDED / name).read_bytes(), status)  # noqa: E731
            if request.origin == "storage":
                return Response((RECORDED / "success_row.jsonl").read_bytes() if "BIJOutputSet" in request.path else b"")
            if request.method == "GET" and ":" in request.path:
                urls = json.loads((RECORDED / "download_endpoint_reply.json").read_bytes())
                moved = {
                    k: v.replace("https://storage.googleapis.com", self.url("storage")) for k, v in urls["filenameToSignedUrls"].items()
                }
                return Response({"filenameToSignedUrls": moved})
            if request.path.endswith(":upload"):
                self.uploaded = True
                return raw("upload_reply.json")
            if "/batchInferenceJobs" in request.path:
                if request.method == "POST":
                    self.created = True
                elif not hasattr(self, "created"):
                    return raw("not_found_404.json", 404)
                reply = (RECORDED / "job_reply.json").read_bytes()
                return Response(reply.replace(b"VALIDATING", b"COMPLETED") if self.finished else reply)
            if hasattr(self, "uploaded"):
                return Response({"name": "accounts/A/datasets/in", "state": "READY"})
            return raw("not_found_404.json", 404) if request.method == "GET" else Response({"state": "UPLOADING"})

    app = Replay(tmp_path / "server.db")
    servers = serve(app)
    made = provider(app.url())
    made._account = "A"
    sub = Submission("j1", "m", submission(tmp_path, rows(1)).rows_path, 1, 0.0)
    ids = send(made, sub, {"input_dataset": "in"})
    assert ids == {"account": "A", "job": "j1", "input_dataset": "in", "output_dataset": "bij-n1729dlh"}
    status = made.poll(ids, sub)
    assert status.state is JobState.WAITING and status.now is not None
    app.finished = True
    assert made.poll(ids, sub).state is JobState.ENDED
    (row,) = made.fetch(ids, sub)
    assert (row.custom_id, row.text) == ("r2", "4")
    for each in servers:
        each.shutdown()
        each.server_close()


def test_the_test_servers_answers_have_the_recorded_shape(server, tmp_path):
    made = provider(server.url())
    ids = send(made, submission(tmp_path))
    job, _now = made._api.job("acme", ids["job"])
    real = json.loads((RECORDED / "job_reply.json").read_bytes())
    assert set(real) <= set(job)
    assert re.fullmatch(r"accounts/acme/batchInferenceJobs/[\w-]+", job["name"]) and job["jobProgress"] is None
    end_of(made, ids, submission(tmp_path))
    real_urls = json.loads((RECORDED / "download_endpoint_reply.json").read_bytes())["filenameToSignedUrls"]
    assert sorted(n.rsplit("/", 1)[1] for n in made._api.download_urls("acme", ids["output_dataset"])) == sorted(
        n.rsplit("/", 1)[1] for n in real_urls
    )


def test_the_official_sdk_alone_can_run_a_job_on_the_test_server(server, tmp_path, monkeypatch):
    import fireworks

    monkeypatch.setenv("FIREWORKS_BASE_URL", server.url())
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
    client = fireworks.Fireworks()
    client.datasets.create(dataset_id="in", dataset={"userUploaded": {}, "exampleCount": "1"})
    line = json.dumps({"custom_id": "r1", "body": rows(1)[0].body}).encode()
    assert client.datasets.upload("in", file=("in.jsonl", line)).model_dump()["bytes"] == len(line)
    while client.datasets.get("in").state != "READY":
        pass
    job = client.batch_inference_jobs.create(batch_inference_job_id="j1", model=MODEL, input_dataset_id="accounts/acme/datasets/in")
    states = [job.state]
    while states[-1] != "JOB_STATE_COMPLETED":
        states.append(client.batch_inference_jobs.get("j1").state)
    assert states == [f"JOB_STATE_{s}" for s in ("VALIDATING", "PENDING", "RUNNING", "COMPLETED")]
    assert [j.name for j in client.batch_inference_jobs.list()] == [job.name]
    output = client.batch_inference_jobs.get("j1").output_dataset_id.rsplit("/", 1)[-1]
    assert len(client.datasets.get_download_endpoint(output).filename_to_signed_urls) == 2
    with pytest.raises(fireworks.ConflictError):
        client.batch_inference_jobs.create(batch_inference_job_id="j1", model=MODEL, input_dataset_id="accounts/acme/datasets/in")
    assert posts(server) == 4  # the SDK by itself sends a refused create three times: why its retries are off in the adapter


# ------------------------------------------------------------------------------------------------- faults of the transport


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["status", "reset", "drop_reply", "reply_status", "html", "garbage", "truncate", "slow", "invalid_utf8"])
def test_a_fault_on_any_call_costs_nothing_and_loses_nothing(server, tmp_path, call, kind):
    fault(server, kind, CALLS[call], delay=0.02)
    found = results(provider(server.url()), submission(tmp_path))
    assert sorted(found) == bill(server) == [row.custom_id for row in rows()]
    assert all(len(group) == 1 and group[0].outcome == "answered" and group[0].raw is None for group in found.values())
    assert server.state.one("SELECT 1 FROM faults WHERE left != 0") is None, "the fault was never met"


@pytest.mark.parametrize("seed", range(6))
def test_in_chaos_the_results_are_the_same_and_billed_once(tmp_path, seed):
    def run(chaos):
        folder = tmp_path / f"chaos{chaos}"
        folder.mkdir()
        app = Fireworks(folder / "server.db", seed=seed)
        servers = serve(app)
        app.state.set_options({"chaos": chaos})
        try:
            found = results(provider(app.url(), retry_attempts=20), submission(folder))
        finally:
            for each in servers:
                each.shutdown()
                each.server_close()
        assert bill(app) == [row.custom_id for row in rows()]
        met = len(app.state.rows("SELECT 1 FROM log WHERE fault != ''"))
        return {c: [encode(row) for row in group] for c, group in found.items()}, met

    calm, none = run(0)
    wild, met = run(0.3)
    assert wild == calm and none == 0 and met >= 3


def test_no_more_than_one_create_is_ever_sent_without_a_look_between(server, tmp_path):
    fault(server, "reset", CALLS["create job"], times=3)
    send(provider(server.url()), submission(tmp_path))
    calls = [
        (r["method"], r["path"])
        for r in server.state.rows("SELECT method, path FROM log WHERE path LIKE '%/batchInferenceJobs%' ORDER BY id")
    ]
    creates = [number for number, (method, _path) in enumerate(calls) if method == "POST"]
    assert len(creates) == 4 and all(calls[number - 1][0] == "GET" for number in creates)


def test_a_retry_after_on_the_create_is_handed_up(server, tmp_path):
    fault(server, "status", CALLS["create job"], status=429, retry_after=17, times=5)
    with pytest.raises(NoRoomNow) as caught:
        send(provider(server.url()), submission(tmp_path))
    assert caught.value.retry_after == 17 and bill(server) == []


def test_a_page_that_says_404_is_not_a_lost_job(server, tmp_path):
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    fault(server, "status", CALLS["look at job"], status=404, body="<html>not here</html>", times=3)
    assert made.poll(ids, sub).state is not JobState.LOST


def test_a_server_that_stays_away_is_an_error_that_says_so(server, tmp_path):
    fault(server, "reset", times=-1)
    with pytest.raises(StepError, match="no answer"):
        send(provider(server.url(), retry_attempts=2), submission(tmp_path))


# ------------------------------------------------------------------------------------------------------- never pay twice


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


# ------------------------------------------------------------------------------------------------------------- datasets


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


# ------------------------------------------------------------------------------------------------------- ends of jobs


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


# ------------------------------------------------------------------------------------------------------------- results


def test_a_download_cut_between_two_lines_is_fetched_again(server, tmp_path, monkeypatch):
    """Without a length nothing shows that it was cut; the job's own count does. Taken for missing, rows would be paid for again."""
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    whole, cuts = download, []

    def cut(url, target, **more):
        digest = whole(url, target, **more)
        if "jsonl" in url and len(cuts) < 1:
            lines = target.read_bytes().splitlines(keepends=True)
            target.write_bytes(b"".join(lines[:3]))
            cuts.append(len(lines))
        return digest

    monkeypatch.setattr("pipeline.providers.fireworks.download", cut)
    assert len(list(made.fetch(ids, sub))) == 8 and cuts == [8]
    server.state.do("UPDATE datasets SET content=substr(content, 1, instr(content, char(10))) WHERE id LIKE '%-out'")
    assert len(list(made.fetch(ids, sub))) == 1  # the same twice: so it is



def test_rows_twice_foreign_or_missing_are_handed_over_as_they_are(server, tmp_path):
    for kind in ("duplicate_rows", "foreign_rows", "missing_rows"):
        fault(server, kind)
    found = results(provider(server.url()), submission(tmp_path))
    assert sorted(map(len, found.values()), reverse=True)[0] == 2
    assert "f0" * 16 in found and len(set(found) - {"f0" * 16}) == 7
    assert set(found) - {"f0" * 16} == set(bill(server))


def test_rows_of_the_error_file_are_failures_with_their_raw_line(server, tmp_path):
    fault(server, "error_rows", count=2)
    found = [group[0] for group in results(provider(server.url()), submission(tmp_path)).values()]
    failed = [row for row in found if row.outcome == "failed"]
    assert len(found) == 8 and len(failed) == 2 and len(bill(server)) == 6
    assert {row.error.code for row in failed} == {"internal"} and all(row.custom_id in row.raw for row in failed)


@pytest.mark.parametrize(("kind", "outcome"), [("refusals", "refused"), ("filtered", "filtered")])
def test_refusals_and_filters_are_outcomes_of_their_own(server, tmp_path, kind, outcome):
    fault(server, kind)
    found = results(provider(server.url()), submission(tmp_path))
    assert {group[0].outcome for group in found.values()} == {outcome}


def test_answers_cut_at_the_limit_are_truncated(server, tmp_path):
    found = results(provider(server.url()), submission(tmp_path, rows(max_tokens=1)))
    ends = {(group[0].finish_reason, group[0].outcome) for group in found.values()}
    assert ends == {("length", "truncated"), ("stop", "answered")}


def test_expired_download_urls_are_asked_for_again(server, tmp_path):
    fault(server, "expired_url", "GET", times=2)
    assert len(results(provider(server.url()), submission(tmp_path))) == 8
    asked = server.state.rows("SELECT 1 FROM log WHERE path LIKE '%:getDownloadEndpoint'")
    assert len(asked) == 3


def test_an_unreadable_line_is_downloaded_again_and_then_left_out(server, tmp_path, caplog):
    fault(server, "bad_line", "jsonl")
    assert len(results(provider(server.url()), submission(tmp_path))) == 8 and "left out" not in caplog.text
    fault(server, "bad_line", "jsonl", times=2)
    assert len(results(provider(server.url()), submission(tmp_path))) == 8 and "left out" in caplog.text


def test_an_output_that_never_becomes_readable_is_an_error_not_an_empty_result(server, tmp_path):
    fault(server, "html", CALLS["download"], times=-1)
    made, sub = provider(server.url(), retry_attempts=3), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    with pytest.raises(StepError, match=f"firectl dataset download {ids['output_dataset']}"):
        list(made.fetch(ids, sub))


@pytest.mark.parametrize("change", ["DELETE FROM datasets WHERE id LIKE '%-out'", "UPDATE datasets SET content=x'' WHERE id LIKE '%-out'"])
def test_an_answered_job_without_rows_is_an_error_because_sending_again_would_pay_again(server, tmp_path, change):
    made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    server.state.do(change)
    with pytest.raises(StepError, match="firectl"):
        list(made.fetch(ids, sub))


def test_one_look_is_not_enough_to_call_answers_absent(server, tmp_path):
    """An expired job whose progress is unknown may have been billed: its output is looked for twice."""
    fault(server, "stuck")
    made, sub = provider(server.url()), submission(tmp_path)
    ids = send(made, sub)
    server.state.do("UPDATE jobs SET state='EXPIRED'")
    assert end_of(made, ids, sub).state is JobState.EXPIRED
    assert list(made.fetch(ids, sub)) == []
    assert len(server.state.rows("SELECT 1 FROM log WHERE path LIKE '%:getDownloadEndpoint'")) == 2


def test_signed_urls_in_the_clear_are_refused(server, tmp_path, monkeypatch):
    made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    monkeypatch.setattr(made._api, "download_urls", lambda *_: {"x.jsonl": "http://storage.example/x?X-Goog-Signature=beef"})
    with pytest.raises(StepError, match="not https") as caught:
        list(made.fetch(ids, sub))
    assert "beef" not in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- firectl


def fake_firectl(folder, monkeypatch, order):
    """A firectl that knows one order of words, and writes the files where the real one does."""
    folder.mkdir()
    row = (RECORDED / "success_row.jsonl").read_text()
    script = folder / "firectl"
    script.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "{order}" ] || {{ echo "unknown command" >&2; exit 1; }}\n'
        f'echo "$@" >> {folder}/calls\n/bin/mkdir -p "$5/dataset/$3"\n/bin/cat > "$5/dataset/$3/BIJOutputSet.jsonl" <<EOF\n{row}EOF\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder / "calls"


@pytest.mark.parametrize("order", ["dataset download", "download dataset"])
def test_firectl_steps_in_where_it_is_installed(server, tmp_path, monkeypatch, order):
    calls = fake_firectl(tmp_path / "bin", monkeypatch, order)
    fault(server, "status", CALLS["ask where to download"], status=500, times=-1)
    made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    assert [row.custom_id for row in made.fetch(ids, sub)] == ["r2"]
    assert KEY not in calls.read_text() and "api-key" not in calls.read_text()


def test_what_a_person_downloaded_with_the_printed_command_is_read(server, tmp_path, monkeypatch):
    fault(server, "status", CALLS["ask where to download"], status=500, times=-1)
    made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path)
    ids = send(made, sub)
    end_of(made, ids, sub)
    with pytest.raises(StepError) as caught:
        list(made.fetch(ids, sub))
    folder = Path(re.search(r"--output-dir (\S+)", str(caught.value)).group(1))
    target = folder / "dataset" / ids["output_dataset"]
    target.mkdir(parents=True)
    (target / "BIJOutputSet.jsonl").write_bytes((RECORDED / "success_row.jsonl").read_bytes())
    (target / "error-data").write_bytes(b'{"custom_id":"r3","error":{"code":"x","message":"y"}}\n')
    read = [("r2", "answered"), ("r3", "failed")]
    assert [(row.custom_id, row.outcome) for row in made.fetch(ids, sub)] == read
    fault(server, "status", CALLS["look at job"], status=403, times=-1)  # even where Fireworks cannot be asked at all
    assert [(row.custom_id, row.outcome) for row in made.fetch(ids, sub)] == read


# ------------------------------------------------------------------------------------------------- settings and secrets


def test_the_sdks_own_variables_work_and_the_config_overrides_them(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FIREWORKS_BASE_URL", server.url())
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "from-env")
    made = FireworksProvider({"options": BRISK})
    assert send(made, submission(tmp_path))["account"] == "from-env" and posts(server) == 1
    monkeypatch.setenv("FIREWORKS_BASE_URL", "http://127.0.0.1:9")
    assert send(provider(server.url()), submission(tmp_path))["account"] == "acme"


def test_what_is_missing_or_wrong_in_the_settings_is_said_at_once(monkeypatch):
    good = {"base_url": "http://127.0.0.1:9", "account_id": "a"}
    for settings, said in [
        ({}, "provider.account_id"),
        ({**good, "options": {"speed": 1}}, "unknown: speed"),
        ({**good, "options": {"job": {"inferenceParameters": {}}}}, "inferenceParameters"),
        ({**good, "options": {"roles": "developer"}}, "provider.options.roles: is not a list"),
        ({**good, "options": {"retry_seconds": "long"}}, "provider.options.retry_seconds: is 'long'"),
        ({**good, "options": {"output_dataset": "mine"}}, "chosen nor allocated"),
        ({**good, "base_url": "https://api.fireworks.ai/inference/v1"}, "no path"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(said)):
            FireworksProvider(settings)
    with pytest.raises(StepError, match="not https"):
        FireworksProvider({**good, "base_url": "http://fireworks.example"})
    monkeypatch.delenv("FIREWORKS_API_KEY")
    with pytest.raises(ConfigError, match="FIREWORKS_API_KEY is not set"):
        FireworksProvider(good)


def test_limits_are_the_documented_ones_unless_the_config_says_otherwise():
    base = {"base_url": "http://127.0.0.1:9", "account_id": "a"}
    assert FireworksProvider(base).limits().max_bytes == 500_000_000
    own = FireworksProvider({**base, "max_rows": 7, "max_bytes": 9, "max_concurrent_jobs": 2, "max_enqueued_tokens": 5}).limits()
    assert (own.max_rows, own.max_bytes, own.max_concurrent_jobs, own.max_enqueued_tokens) == (7, 9, 2, 5)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "FIREWORKS_API_KEY"), (402, "payment"), (404, "model's name"), (412, "suspended"), (413, "max_bytes")]
)
def test_a_refusal_says_what_to_do(server, tmp_path, status, said):
    fault(server, "status", CALLS["create job"], status=status, body={"code": 3, "message": "no", "details": []})
    with pytest.raises(Rejected if status in (404, 413) else Barred, match=said) as caught:
        send(provider(server.url()), submission(tmp_path))
    assert getattr(caught.value, "splittable", False) is (status == 413)


def test_a_bad_key_is_a_plain_error(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "bad")
    with pytest.raises(StepError, match="Check FIREWORKS_API_KEY"):
        send(provider(server.url()), submission(tmp_path))


def test_an_unknown_model_is_refused_for_good(server, tmp_path):
    with pytest.raises(Rejected, match="not found"):
        send(provider(server.url()), replace(submission(tmp_path), model="gpt-oss-20b"))


def test_the_key_shows_nowhere(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    said = []
    for number, (name, on) in enumerate(CALLS.items()):
        fault(server, "status", on, status=400, body={"error": {"message": f"bad token {KEY} at {name}, Bearer {KEY}"}}, times=20)
        made, sub = provider(server.url(), retry_attempts=2), submission(tmp_path, key=f"ab-{number:020x}-g0-a0")
        try:
            results(made, sub)
        except (StepError, Ambiguous) as e:
            said += [str(e), repr(e), repr(e.__cause__), repr(e.__context__)]
        server.state.do("DELETE FROM faults")
        said += [repr(made.__dict__), json.dumps(dict(made.provenance()))]
    results(provider(server.url(), upload_bytes=10), submission(tmp_path, key="ab-ffffffffffffffffffff-g0-a0"))
    assert len(said) > 14 and KEY not in "".join(said) + caplog.text
    signatures = [row["token"] for row in server.state.rows("SELECT token FROM signed")]
    assert len(signatures) >= 3 and not any(signature in caplog.text for signature in signatures)
    assert not any(KEY in p.read_text() for p in (tmp_path / "answers").rglob("*") if p.is_file())


def test_provenance_names_sdk_and_endpoint(server):
    import fireworks

    facts = provider(server.url()).provenance()
    assert facts["sdk"] == f"fireworks-ai {fireworks.__version__}" and facts["base_url"] == server.url()


def test_importing_the_package_does_not_import_the_sdk():
    import subprocess
    import sys

    code = (
        "import sys, pipeline.providers.fireworks as f; assert not {'fireworks', 'httpx', 'stamina'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
