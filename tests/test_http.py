"""HTTP helpers: transient faults are outlasted within a deadline, downloads are whole or not at all, keys never show."""

from __future__ import annotations

import base64
import hashlib
import time
from email.utils import formatdate

import pytest

from pipeline.base.errors import StepError
from pipeline.providers import http
from pipeline.providers.http import HttpFault, Patience, patiently
from tests.servers.common import App, Request, Response, serve

BRISK = Patience(deadline=5, attempts=6, initial=0.01, longest=0.05)
DATA = b'{"n":1}\n' * 5000


class Files(App):
    """Serves DATA, with headers of its own choosing."""

    extra: dict[str, str] = {}  # noqa: RUF012 - set per test on the instance

    def handle(self, request: Request) -> Response:
        if request.method == "PUT":
            self.got = (request.body, dict(request.headers))
            return Response(b"", content_type="text/plain")
        if request.path == "/moved":
            return Response(b"", 302, {"Location": self.url() + "/file"})
        return Response(DATA, headers=self.extra, content_type="application/octet-stream")


@pytest.fixture
def files(tmp_path):
    app = Files(tmp_path / "state.db")
    servers = serve(app)
    yield app
    for server in servers:
        server.shutdown()
        server.server_close()


def failing(times, *, then="done", **fault):
    """A call that fails `times` times, and the list of when it was called."""
    calls = []

    def call():
        calls.append(time.monotonic())
        if len(calls) <= times:
            raise HttpFault("no", **fault)
        return then

    return call, calls


# ------------------------------------------------------------------------------------------------------------ patience


@pytest.mark.parametrize(
    "fault", [{"status": None}, {"status": 408}, {"status": 429}, {"status": 503}, {"status": 520}, {"garbled": True, "status": 200}]
)
def test_transient_faults_are_outlasted(fault):
    call, calls = failing(3, **fault)
    assert patiently(call, BRISK) == "done" and len(calls) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_plain_refusals_are_raised_at_once_unless_asked_for(status):
    call, calls = failing(1, status=status)
    with pytest.raises(HttpFault):
        patiently(call, BRISK)
    assert len(calls) == 1
    assert patiently(failing(1, status=status)[0], BRISK, also=[status]) == "done"


def test_attempts_and_deadline_bound_the_patience():
    call, calls = failing(99, status=503)
    with pytest.raises(HttpFault):
        patiently(call, BRISK)
    assert len(calls) == 6
    start = time.monotonic()
    with pytest.raises(HttpFault):
        patiently(failing(99, status=503)[0], Patience(deadline=0.3, attempts=1000, initial=0.05, longest=0.05))
    assert time.monotonic() - start < 2


def test_retry_after_is_obeyed_within_the_deadline():
    call, calls = failing(1, status=429, retry_after=0.4)
    assert patiently(call, BRISK) == "done"
    assert calls[1] - calls[0] >= 0.4


def test_a_retry_after_beyond_the_deadline_is_not_waited_for():
    start = time.monotonic()
    with pytest.raises(HttpFault) as caught:
        patiently(failing(1, status=429, retry_after=3600)[0], BRISK)
    assert caught.value.retry_after == 3600 and time.monotonic() - start < 1


def test_other_errors_are_not_swallowed():
    def call():
        raise KeyError("ours")

    with pytest.raises(KeyError):
        patiently(call, BRISK)


@pytest.mark.parametrize(
    ("status", "ambiguous"), [(None, True), (408, True), (500, True), (503, True), (409, False), (400, False), (429, False)]
)
def test_what_may_have_been_done_is_ambiguous(status, ambiguous):
    assert HttpFault("x", status=status).ambiguous is ambiguous


# ------------------------------------------------------------------------------------------------------------- headers


def test_retry_after_is_read_in_all_its_forms():
    assert http.retry_after({"retry-after": "7"}) == 7
    assert http.retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    dates = {"date": formatdate(1_000_000, usegmt=True), "retry-after": formatdate(1_000_030, usegmt=True)}
    assert http.retry_after(dates) == 30
    assert http.retry_after({"retry-after": "-3"}) == 0
    assert http.retry_after({"retry-after": "soon"}) is None and http.retry_after({}) is None


def test_the_providers_clock_is_its_date_header():
    assert http.provider_clock({"date": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 784111777
    assert http.provider_clock({}) is None and http.provider_clock({"date": "yesterday"}) is None


# -------------------------------------------------------------------------------------------------------------- secrets


def test_keys_and_signatures_are_redacted(monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_3ZtopSecret")
    said = (
        "Bearer abc.def; key fw_3ZtopSecret; {'Authorization': 'Basic xyz123'}; api_key=sk-12345, "
        "https://s.example/f?X-Goog-Credential=me%40x&X-Goog-Signature=deadbeef&alt=media"
    )
    shown = http.redact(said)
    for secret in ("abc.def", "fw_3ZtopSecret", "xyz123", "sk-12345", "deadbeef", "me%40x"):
        assert secret not in shown
    assert "alt=media" in shown and "https://s.example/f" in shown
    fault = HttpFault("failed with fw_3ZtopSecret", body="Bearer fw_3ZtopSecret")
    assert "fw_3Z" not in str(fault) + fault.body + repr(fault) + fault.fact


def test_an_url_in_a_message_has_no_query_and_no_user():
    assert http.bare_url("https://u:p@h.example:8443/a/b?X-Goog-Signature=1#f") == "https://h.example:8443/a/b"


def test_same_origin_compares_scheme_host_and_port():
    assert http.same_origin("https://a.example/x", "https://a.example:443")
    assert not http.same_origin("http://a.example/x", "https://a.example")
    assert not http.same_origin("https://a.example.evil/x", "https://a.example")


@pytest.mark.parametrize("url", ["http://storage.example/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "//host/x"])
def test_only_https_or_this_machine_is_talked_to(url, tmp_path):
    with pytest.raises(StepError, match="not https"):
        http.download(url, tmp_path / "x", what="it")
    http.require_safe_url("https://anywhere.example/x", "it")
    http.require_safe_url("http://127.0.0.1:8080/x", "it")


# ------------------------------------------------------------------------------------------------------------ downloads


def test_a_download_is_the_bytes_and_their_sum(files, tmp_path):
    target = tmp_path / "got.jsonl"
    assert http.download(files.url() + "/file", target, what="it") == hashlib.sha256(DATA).hexdigest()
    assert target.read_bytes() == DATA


def test_no_authorization_goes_to_a_signed_url(files, tmp_path, monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_3ZtopSecret")
    http.download(files.url() + "/file", tmp_path / "x", what="it")
    assert [row["note"] for row in files.state.rows("SELECT note FROM log")] == [""]


@pytest.mark.parametrize("kind", ["truncate", "reset", "status"])
def test_a_torn_download_leaves_no_file(files, tmp_path, kind):
    files.state.add_faults([{"kind": kind}])
    with pytest.raises(HttpFault) as caught:
        http.download(files.url() + "/file?X-Goog-Signature=beef", tmp_path / "x", what="it")
    assert caught.value.transient and "beef" not in str(caught.value)
    assert not [p for p in tmp_path.iterdir() if not p.name.startswith("state.db")]


def test_a_slow_download_is_waited_for(files, tmp_path):
    files.state.add_faults([{"kind": "slow", "delay": 0.05}])
    http.download(files.url() + "/file", tmp_path / "x", what="it", timeout=5)
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_server_that_stops_sending_is_given_up_on(files, tmp_path):
    files.state.add_faults([{"kind": "slow", "delay": 2, "pieces": 2}])
    with pytest.raises(HttpFault, match="no answer"):
        http.download(files.url() + "/file", tmp_path / "x", what="it", timeout=0.2)


def test_the_announced_md5_is_checked(files, tmp_path):
    right = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    files.extra = {"x-goog-hash": f"crc32c=AAAAAA==, md5={right}"}
    http.download(files.url() + "/file", tmp_path / "x", what="it")
    files.state.add_faults([{"kind": "invalid_utf8"}])
    with pytest.raises(HttpFault, match="md5"):
        http.download(files.url() + "/file", tmp_path / "y", what="it")
    assert not (tmp_path / "y").exists()


def test_redirects_are_not_followed(files, tmp_path):
    with pytest.raises(HttpFault, match="302"):
        http.download(files.url() + "/moved", tmp_path / "x", what="it")


def test_a_file_is_put_with_its_length(files, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(DATA)
    http.put_file(files.url() + "/up?sig=1", path, what="it", headers={"x-goog-content-length-range": "1,2"})
    body, headers = files.got
    assert body == DATA and headers["content-length"] == str(len(DATA)) and headers["x-goog-content-length-range"] == "1,2"
    assert "transfer-encoding" not in headers
    files.state.add_faults([{"kind": "status", "status": 403, "body": {"sig": "no"}}])
    with pytest.raises(HttpFault) as caught:
        http.put_file(files.url() + "/up?sig=beef", path, what="it", headers={})
    assert caught.value.status == 403 and "beef" not in str(caught.value)
