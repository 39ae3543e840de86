"""Fireworks as it was recorded: the whole way of a job, our bytes and the recorded answers, the official SDK alone."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.providers.protocol import JobState, Submission
from tests.fireworks_desk import KEY, MODEL, RECORDED, bill, end_of, posts, provider, results, rows, send, served, submission, use_key
from tests.servers.common import App, Request, Response, serve


@pytest.fixture(autouse=True)
def key(monkeypatch):
    use_key(monkeypatch)


@pytest.fixture
def server(tmp_path):
    yield from served(tmp_path)


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


def test_the_recorded_create_is_understood_by_the_test_server(server, tmp_path):
    """All fields that the official SDK was seen to send, ours and those that we leave out, byte for byte."""
    api, path = provider(server.url())._api, tmp_path / "in.jsonl"
    path.write_text(json.dumps({"custom_id": "r1", "body": rows(1)[0].body}) + "\n")
    api.create_dataset("A", "in", 1)
    api.upload("A", "in", path)
    while api.dataset("A", "in")["state"] != "READY":
        pass
    recorded = (RECORDED / "create_job_request.json").read_bytes()
    url = f"{server.url()}/v1/accounts/A/batchInferenceJobs?batchInferenceJobId=j1"
    with urllib.request.urlopen(urllib.request.Request(url, recorded, {"Authorization": f"Bearer {KEY}"}), timeout=5) as reply:
        job = json.load(reply)
    sent = json.loads(recorded)
    same = ("inputDatasetId", "outputDatasetId", "displayName", "inferenceParameters")
    assert {name: job[name] for name in same} == {name: sent[name] for name in same}
    assert job["name"] == "accounts/A/batchInferenceJobs/j1" and json.loads(sent["inferenceParameters"]["extraBody"]) == {"seed": 1}
