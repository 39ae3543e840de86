"""`vllm run-batch` by hand: the file it needs, the command, its output however far it came, and a new file for what is owed."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.rows import RequestRow
from pipeline.providers.protocol import JobState, submit
from pipeline.providers.vllm_file import VllmFileProvider
from tests.servers.answers import completion
from tests.submissions import Recorder, request, submission


def provider(tmp_path: Path, said: list[str] | None = None, **settings: Any) -> VllmFileProvider:
    return VllmFileProvider(tmp_path / "vllm", notice=(said if said is not None else []).append, **settings)


def run_batch(command: str, rows: int | None = None, tail: bytes = b"") -> Path:
    """What `vllm run-batch` does, up to `rows` rows and then the bytes `tail`; refuses to be called otherwise. Returns the output."""
    words = shlex.split(command)
    assert words[:3] == ["vllm", "run-batch", "-i"] and words[4] == "-o" and words[6] == "--model"
    lines = Path(words[3]).read_text().splitlines()
    asked = [json.loads(line) for line in lines]
    assert all(set(row) == {"custom_id", "method", "url", "body"} and row["body"]["model"] == words[7] for row in asked)
    output = Path(words[5])
    assert not output.exists(), "vLLM truncates its output file"
    output.write_bytes(b"".join(wire(row) for row in asked[:rows]) + tail)
    return output


def wire(row: dict[str, Any]) -> bytes:
    """A row of vLLM's output."""
    response = {"status_code": 200, "request_id": "vllm-batch-0", "body": completion(row["body"], row["body"]["model"])}
    return json.dumps({"id": "vllm-0", "custom_id": row["custom_id"], "response": response, "error": None}).encode() + b"\n"


def ids_of(rows: Iterable[RequestRow]) -> list[str]:
    return [row.custom_id for row in rows]


def test_the_command_is_said_and_its_output_collected(tmp_path: Path) -> None:
    """Submitting writes the file and names the command with its engine flags; waiting until it was run; then all rows are there."""
    said: list[str] = []
    with_this, sub = provider(tmp_path, said, arguments=["--max-model-len", "8192"]), submission(tmp_path, 7)
    ids = submit(with_this, sub, {}, Recorder())
    command = said[0].splitlines()[1].strip()
    assert command.endswith("--model m --max-model-len 8192")
    status = with_this.poll(ids, sub)
    assert status.state is JobState.WAITING and command in status.message
    run_batch(command)
    status = with_this.poll(ids, sub)
    assert (status.state, status.done, status.total) == (JobState.ENDED, 7, 7)
    rows = list(with_this.fetch(ids, sub))
    assert ids_of(rows) == ids_of(sub.rows())
    assert all(row.outcome == "answered" and row.usage.prompt_tokens for row in rows)


def test_the_input_line_says_every_sampling_field(tmp_path: Path) -> None:
    """vLLM's defaults come from the model's own files; none is left to them unless they are meant."""
    said: list[str] = []
    sub = submission(tmp_path, [request(0), request(1, temperature=None, top_p=None)])
    submit(provider(tmp_path, said), sub, {}, Recorder())
    first, second = (json.loads(line) for line in Path(shlex.split(said[0].splitlines()[1])[3]).read_text().splitlines())
    settings = {"max_tokens": 32, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    neutral = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert first["url"] == "/v1/chat/completions" and first["method"] == "POST"
    assert first["body"] == {"model": "m", "messages": request(0).body["messages"]} | settings | neutral
    assert second["body"] == {"model": "m", "messages": request(1).body["messages"], "max_tokens": 32, "seed": 1}


def test_submitting_again_writes_nothing_and_says_nothing_new(tmp_path: Path) -> None:
    """A killed process's job is adopted: the file a person may be running is not touched."""
    said: list[str] = []
    sub = submission(tmp_path, 3)
    submit(provider(tmp_path, said), sub, {}, Recorder())
    path = Path(shlex.split(said[0].splitlines()[1])[3])
    before = path.stat()
    assert submit(provider(tmp_path, said), sub, {}, Recorder()) == {"job": sub.key}
    assert path.stat() == before and len(said) == 1


@pytest.mark.parametrize("tail", [b"", b'{"id":"vllm-1","custom_id":"', b'{"id":"vllm-1","custom_id":"' + b"0" * 31 + b'4","respo'])
def test_a_killed_run_leaves_a_prefix_and_the_rest_goes_into_a_new_file(tmp_path: Path, tail: bytes) -> None:
    """While it grows it is running; once quiet it is over, its whole lines count, a torn one does not; a follow-up has its own files."""
    said: list[str] = []
    with_this, sub = provider(tmp_path, said, stale_seconds=600), submission(tmp_path, 7)
    ids = submit(with_this, sub, {}, Recorder())
    output = run_batch(said[0].splitlines()[1], 4, tail)
    assert with_this.poll(ids, sub).state is JobState.RUNNING
    os.utime(output, (time.time() - 700, time.time() - 700))
    status = with_this.poll(ids, sub)
    assert (status.state, status.done) == (JobState.EXPIRED, 4) and "has not grown for 12 minutes" in status.message
    assert ids_of(with_this.fetch(ids, sub)) == ids_of(sub.rows())[:4]
    owed = submission(tmp_path, [request(n) for n in range(4, 7)], key="ab-0123456789abcdef0123-g0-a2")
    again = submit(with_this, owed, {}, Recorder())
    second = run_batch(said[1].splitlines()[1])
    assert second != output
    assert with_this.poll(again, owed).state is JobState.ENDED
    assert ids_of(with_this.fetch(again, owed)) == ids_of(owed.rows())


def test_a_last_line_without_newline_counts_when_it_is_whole(tmp_path: Path) -> None:
    """Older releases end the file without one."""
    said: list[str] = []
    with_this, sub = provider(tmp_path, said), submission(tmp_path, 3)
    ids = submit(with_this, sub, {}, Recorder())
    output = run_batch(said[0].splitlines()[1])
    output.write_bytes(output.read_bytes()[:-1])
    assert with_this.poll(ids, sub).state is JobState.ENDED


def test_rows_of_another_file_do_not_complete_a_job(tmp_path: Path) -> None:
    """A file that holds as many rows, but others, is not taken for ours."""
    with_this, sub = provider(tmp_path), submission(tmp_path, 2)
    ids = submit(with_this, sub, {}, Recorder())
    output = tmp_path / "vllm" / f"{sub.key}.out.jsonl"
    body = request(0).body | {"model": "m"}
    output.write_bytes(b"".join(wire({"custom_id": name, "body": body}) for name in ("x", "y")))
    assert with_this.poll(ids, sub).done == 0


RECORDED = (
    b'{"id":"vllm-<hex>","custom_id":"r1","response":{"status_code":200,"request_id":"vllm-batch-<hex>","body":{"id":"c","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"length"}]}},"error":null}\n'
    b'{"id":"vllm-<hex>","custom_id":"r2","response":{"status_code":400,"request_id":"vllm-batch-<hex>","body":null},'
    b'"error":{"error":{"message":"..","type":"..","param":null,"code":400}}}\n'
    b'{"id":"vllm-<hex>","custom_id":"r3","response":null,"error":"URL /v1/completions was used. Supported endpoints: ..."}\n'
)


def test_recorded_lines_are_read(tmp_path: Path) -> None:
    """Success, an error object and a plain-text error, as vLLM 0.33.0 writes them."""
    with_this, sub = provider(tmp_path), submission(tmp_path, 3)
    ids = submit(with_this, sub, {}, Recorder())
    (tmp_path / "vllm" / f"{sub.key}.out.jsonl").write_bytes(RECORDED)
    first, second, third = with_this.fetch(ids, sub)
    assert (first.custom_id, first.outcome, first.text) == ("r1", "truncated", "x")
    assert second.error is not None and third.error is not None
    assert (second.custom_id, second.outcome, second.error.code, second.error.message) == ("r2", "failed", "..", "..")
    assert (third.custom_id, third.outcome) == ("r3", "failed") and third.error.message.startswith("URL /v1/completions")


def test_cancel_ends_the_waiting(tmp_path: Path) -> None:
    """A cancelled job is final; what it has can still be read."""
    with_this, sub = provider(tmp_path), submission(tmp_path, 2)
    ids = submit(with_this, sub, {}, Recorder())
    with_this.cancel(ids)
    assert with_this.poll(ids, sub).state is JobState.CANCELLED
    assert list(with_this.fetch(ids, sub)) == []


def test_faults_that_would_abort_the_whole_file_are_found_first(tmp_path: Path) -> None:
    """vLLM validates the whole file before it loads the model; so do we."""
    assert provider(tmp_path).check(iter([request(0), request(0), request(1, max_tokens=0)])) == [
        f"{request(0).custom_id}: stands twice in the shard",
        f"{request(1).custom_id}: max_tokens is 0, not a whole number from 1",
    ]
