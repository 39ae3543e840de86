"""The test servers' common ground: answers depend on the request alone, state survives SIGKILL, faults come as ordered."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.servers.answers import ABSTENTION, answer, completion, golds_from
from tests.servers.common import App, Request, Response, State, serve
from tests.servers.harness import ServerProcess


def body(question, system="Be brief.", **more):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": f"Context: x\nQuestion: {question}"}]
    return {"messages": messages, "max_tokens": 50, **more}


GOLDS = {f"What is {n}?": [f"answer {n}"] for n in range(400)}


def share_right(system):
    return sum(answer(body(q, system), GOLDS)[0] == GOLDS[q][0] for q in GOLDS) / len(GOLDS)


def test_the_same_request_has_the_same_answer():
    assert answer(body("What is 1?"), GOLDS) == answer(body("What is 1?"), GOLDS)
    assert len({answer(body("What is 1?", seed=n), GOLDS)[0] for n in range(40)}) > 2
    assert completion(body("x"), "m")["id"] == completion(body("x"), "m")["id"] != completion(body("y"), "m")["id"]


def test_system_prompts_differ_in_how_often_they_are_right():
    shares = sorted(share_right(f"prompt {n}") for n in range(6))
    assert 0.3 < shares[0] < shares[-1] < 0.8 and shares[-1] - shares[0] > 0.1
    assert ABSTENTION in {answer(body(q), GOLDS)[0] for q in GOLDS}


def test_an_unanswerable_question_is_rightly_abstained_from():
    golds = {q: [] for q in GOLDS}
    assert sum(answer(body(q), golds)[0] == ABSTENTION for q in golds) / len(golds) > 0.5


def test_answers_longer_than_the_limit_are_cut():
    text, finish_reason, usage = answer(body("What is 1?", max_tokens=1) | {"max_tokens": 1}, {"What is 1?": ["a long answer"] * 2}, seed=1)
    assert len(text.encode()) <= 4 and (finish_reason == "length") == (usage["completion_tokens"] == 1)


def test_golds_come_from_item_files(tmp_path):
    for n in range(2):
        (tmp_path / f"{n}.jsonl").write_text(json.dumps({"question": f" q{n} ", "answers": ["a"], "id": "1"}) + "\n\n")
    assert golds_from([tmp_path / "0.jsonl", tmp_path / "1.jsonl"]) == {"q0": ["a"], "q1": ["a"]}


def test_the_bill_never_dedupes_and_a_failed_transaction_leaves_nothing(tmp_path):
    state = State(tmp_path / "s.db")
    state.bill("j", [("a", 1), ("a", 1)])
    with pytest.raises(RuntimeError), state:
        state.bill("j", [("b", 1)])
        raise RuntimeError
    assert [row["custom_id"] for row in State(tmp_path / "s.db").rows("SELECT * FROM bill")] == ["a", "a"]


def test_faults_wait_match_and_run_out(tmp_path):
    state = State(tmp_path / "s.db")
    state.add_faults([{"kind": "reset", "on": "POST /a", "times": 2, "skip": 1}, {"kind": "html", "on": "GET", "times": -1}])
    taken = [state.take({"reset"}, what) is not None for what in ["POST /b", "POST /a", "POST /a", "GET /a", "POST /a", "POST /a"]]
    assert taken == [False, False, True, False, True, False]
    assert all(state.take({"html"}, "GET /x") for _ in range(5))


def test_state_options_and_bill_survive_sigkill(tmp_path):
    with ServerProcess("fireworks", tmp_path) as server:
        server.options(upload_polls=7)
        server.faults({"kind": "reset", "on": "nowhere"})
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        assert server.rows("SELECT value FROM options WHERE name='upload_polls'") == [{"value": "7"}]
        assert len(server.admin("faults")) == 1


class Echo(App):
    """Says what it got."""

    def handle(self, request: Request) -> Response:
        """Method, path, query and body."""
        return Response({"method": request.method, "path": request.path, "query": request.query, "body": request.body.decode()})


@pytest.fixture
def echo(tmp_path):
    app = Echo(tmp_path / "s.db")
    servers = serve(app)
    yield app
    for each in servers:
        each.shutdown()
        each.server_close()


def call(app, path="/x?a=1", data=None, headers=None):
    with urllib.request.urlopen(urllib.request.Request(app.url() + path, data=data, headers=headers or {}), timeout=5) as reply:
        return reply.read(), reply


def test_requests_arrive_whole_also_in_chunks(echo):
    assert json.loads(call(echo, data=b"hello")[0]) == {"method": "POST", "path": "/x", "query": {"a": "1"}, "body": "hello"}
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", echo.ports["api"], timeout=5)
    connection.request("PUT", "/y", body=iter([b"he", b"llo"]), encode_chunked=True)
    assert json.loads(connection.getresponse().read())["body"] == "hello"
    connection.close()


@pytest.mark.parametrize("kind", ["reset", "drop_reply"])
def test_a_dropped_reply_is_a_reset_and_differs_in_whether_the_work_was_done(echo, kind):
    echo.state.add_faults([{"kind": kind}])
    with pytest.raises(OSError):
        call(echo)
    assert len(echo.state.rows("SELECT 1 FROM log WHERE fault=?", kind)) == 1
    call(echo)


def test_bodies_are_spoilt_as_ordered(echo):
    whole = call(echo)[0]
    echo.state.add_faults([{"kind": kind} for kind in ("html", "garbage", "invalid_utf8", "status")])
    assert call(echo)[0].startswith(b"<!DOCTYPE html>")
    assert call(echo)[0] == whole[: len(whole) // 2]
    with pytest.raises(UnicodeDecodeError):
        call(echo)[0].decode()
    with pytest.raises(urllib.error.HTTPError, match="503"):
        call(echo)
    assert call(echo)[0] == whole
