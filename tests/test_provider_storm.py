"""Kill storms on OpenAI, Anthropic and live servers: client and server killed amid faults; one bill, no answer lost, the same bytes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.base.files import write_atomic
from pipeline.base.rows import ResultRow, encode, read_rows
from tests.servers.harness import ROOT, ServerProcess
from tests.submissions import request

pytest.importorskip("openai", reason="the package openai is not installed")
pytest.importorskip("anthropic", reason="the package anthropic is not installed")
pytest.importorskip("httpx", reason="the package httpx is not installed")

SHARDS, ROWS, KILLS = 4, 12, 6
SERVER = {"openai": "openai", "anthropic": "anthropic", "openai_compatible": "openai_chat"}
CREATE = {"openai": "POST /v1/batches$", "anthropic": "POST /v1/messages/batches$", "openai_compatible": "POST /v1/chat/completions$"}
JOBS = {
    "openai": [{"kind": "expire", "share": 0.5}, {"kind": "rows", "failed": 2, "duplicated": 1, "foreign": 1}, {"kind": "token_limit"}],
    "anthropic": [{"kind": "expire", "share": 0.5}, {"kind": "rows", "errored": 2, "duplicated": 1, "foreign": 1}],
    "openai_compatible": [],
}
KEYS = {"OPENAI_API_KEY": "sk-storm-0123456789", "ANTHROPIC_API_KEY": "sk-ant-storm-0123456789"}


def lay_out(folder: Path) -> list[str]:
    """Shards of unequal numbers of requests; returns their custom_ids."""
    ids: list[str] = []
    for shard in range(SHARDS):
        rows = [request(len(ids) + n) for n in range(ROWS + shard)]
        write_atomic(folder / "rows" / f"t0_p{shard:02d}.jsonl", b"".join(encode(row) + b"\n" for row in rows))
        ids += [row.custom_id for row in rows]
    return ids


def start(name: str, folder: Path, url: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.provider_run", name, str(folder), url, *more]
    with open(folder / "stderr.txt", "ab") as errors:
        return subprocess.Popen(command, env={**os.environ, **KEYS}, cwd=ROOT, stderr=errors)


def storm(name: str, folder: Path, server: ServerProcess, kills: int, *more: str) -> int:
    """Run the client, killing it after every few calls and every second time right after a create; returns how many kills landed."""
    chance, landed, runs = random.Random(7), 0, 0
    create, sql = (
        CREATE[name].removesuffix("$").replace("POST ", "POST api:"),
        "SELECT COUNT(*) AS n FROM log WHERE method || ' ' || path LIKE",
    )
    while True:
        client, runs = start(name, folder, server.url, *more), runs + 1
        seen = f"{sql} '{create if landed % 2 == 0 else '%'}'"
        end = server.rows(seen)[0]["n"] + (1 if landed % 2 == 0 else chance.randint(2, 9))
        while landed < kills and client.poll() is None and server.rows(seen)[0]["n"] < end:
            time.sleep(0.004)
        if landed < kills and client.poll() is None:
            client.kill()
            landed += client.wait() < 0
            if landed % 3 == 0:
                server.kill()
                server.start()
        elif client.wait(120) == 0:
            return landed
        assert runs < 4 * kills + 4, (folder / "stderr.txt").read_text()[-3000:]


def results(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((folder / "answers").glob("*/results.jsonl")))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SERVER))
def test_a_storm_ends_in_the_same_bytes_and_one_bill(tmp_path: Path, name: str) -> None:
    """Killed again and again amid faults: every request answered, results as without, and nothing billed twice.

    A live server has no jobs: there a kill may cost the requests in flight, and each lost reply its request.
    """
    calm, folder = tmp_path / "calm", tmp_path / "storm"
    asked = lay_out(calm)
    with ServerProcess(SERVER[name], tmp_path / "calm_server") as server:
        assert start(name, calm, server.url).wait(120) == 0
        assert server.admin("summary") == {"billed": len(asked), "requests": len(asked), "duplicates": 0}
    lay_out(folder)
    with ServerProcess(SERVER[name], tmp_path / "server") as server:
        server.options(chaos=0.08)
        server.faults(
            {"kind": "drop_reply", "on": CREATE[name], "skip": 2},
            {"kind": "slow", "on": CREATE[name], "delay": 0.12, "times": 12},
            *JOBS[name],
        )
        landed = storm(name, folder, server, KILLS)
        assert landed >= KILLS - 2
        rows = [row for path in sorted((folder / "answers").glob("*/results.jsonl")) for row in read_rows(path, ResultRow)]
        assert [row.custom_id for row in rows] == asked and {row.outcome for row in rows} == {"answered"}
        assert results(folder) == results(calm)
        billed = server.admin("bill")
        spent, answered = [row["custom_id"] for row in billed], len({row["custom_id"] for row in billed})
        if name == "openai_compatible":
            lost = sum(row["fault"] in ("drop_reply", "reply_status", "html", "truncate") for row in server.admin("log"))
            assert len(spent) - answered <= 3 * landed + lost
        else:
            assert len(spent) == answered == len(asked)
        assert not server.rows("SELECT kind FROM faults WHERE left > 0 AND kind NOT IN ('slow')")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_storm_on_a_client_that_does_not_look_shows_a_double_bill(tmp_path: Path, name: str) -> None:
    """The mutation: without the look before the create, the same storm must be seen to cost more, or it proves nothing."""
    folder = tmp_path / "storm"
    asked = lay_out(folder)
    with ServerProcess(SERVER[name], tmp_path / "server") as server:
        server.faults({"kind": "slow", "on": CREATE[name], "delay": 0.2, "times": -1})
        assert storm(name, folder, server, 3, "--careless") == 3
        assert len(server.admin("bill")) > len(asked)
