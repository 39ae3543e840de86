"""Faults on the way to Fireworks: on any call they cost nothing and lose nothing."""

from __future__ import annotations

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.base.errors import StepError
from pipeline.base.rows import encode
from pipeline.providers.protocol import JobState, NoRoomNow
from tests.fireworks_desk import CALLS, bill, fault, provider, results, rows, send, served, submission, use_key
from tests.servers.common import serve
from tests.servers.fireworks import Fireworks


@pytest.fixture(autouse=True)
def key(monkeypatch):
    use_key(monkeypatch)


@pytest.fixture
def server(tmp_path):
    yield from served(tmp_path)


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
