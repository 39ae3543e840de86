"""What the tests of Fireworks share: a server in this process, requests, the way of a submission, the bill."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.base.rows import Place, RequestRow, encode
from pipeline.providers.fireworks import FireworksProvider
from pipeline.providers.protocol import Ambiguous, NoRoomNow, Submission, submit
from tests.servers.common import serve
from tests.servers.fireworks import Fireworks

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


def use_key(monkeypatch):
    """Set the key, and nothing else that the SDK or firectl would find on this machine."""
    monkeypatch.setenv("FIREWORKS_API_KEY", KEY)
    monkeypatch.delenv("FIREWORKS_BASE_URL", raising=False)
    monkeypatch.delenv("FIREWORKS_ACCOUNT_ID", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")  # a firectl of this machine must not step in


def served(tmp_path):
    """The body of a fixture: a server in this process."""
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
