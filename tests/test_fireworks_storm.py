"""Fireworks through the real queue: killed again and again, the server faulty and killed too. One bill, no answer lost, the same bytes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("fireworks", reason="the extra `fireworks` is not installed")

from pipeline.base.rows import Place, RequestRow, ResultRow, encode, read_rows
from tests.queue_run import run
from tests.servers.harness import ServerProcess

SHARDS, ROWS = 4, 12
AIMED = {0, 1, 2}
"""Kills that strike just after a job was created."""
CREATE = "POST .*/batchInferenceJobs$"
JOB_FAULTS = ("expire", "cancel", "error_rows", "missing_rows", "duplicate_rows", "foreign_rows", "expired_url")


def lay_out(folder: Path, shards: int = SHARDS, role_of: Mapping[int, str] | None = None) -> list[str]:
    """Shards of requests; returns their custom_ids."""
    ids = []
    for shard in range(shards):
        rows = []
        for n in range(ROWS):
            number = shard * ROWS + n
            place = Place(dataset="d", item_id=str(number), type="open", temp=0.0, sample_index=0)
            body = {
                "messages": [{"role": (role_of or {}).get(number, "user"), "content": f"What is the number {number}?"}],
                "max_tokens": 32,
            }
            rows.append(RequestRow(custom_id=f"{number:032x}", answer_key=f"k{number}", place=place, body=body))
        path = folder / "rows" / f"t0_p{shard:02d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(encode(row) + b"\n" for row in rows))
        ids += [row.custom_id for row in rows]
    return ids


def start(folder: Path, url: str, *more: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "FIREWORKS_API_KEY": "fw_storm_key", "PATH": "/nowhere"}
    with open(folder / "stderr.txt", "ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.queue_run", str(folder), url, *more], env=env, cwd=Path(__file__).parents[1], stderr=errors
        )


def results(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((folder / "answers").glob("*/results.jsonl")))


def read_all(folder: Path) -> list[ResultRow]:
    return [row for path in sorted((folder / "answers").glob("*/results.jsonl")) for row in read_rows(path, ResultRow)]


def calm_results(tmp_path: Path) -> bytes:
    with ServerProcess("fireworks", tmp_path / "calm_server") as server:
        lay_out(tmp_path / "calm")
        assert start(tmp_path / "calm", server.url).wait(120) == 0
        assert server.admin("summary") == {"billed": SHARDS * ROWS, "requests": SHARDS * ROWS, "duplicates": 0}
    return results(tmp_path / "calm")


def calls(server: ServerProcess, on: str) -> int:
    return int(server.rows(f"SELECT COUNT(*) AS n FROM log WHERE method || ' ' || path LIKE '{on}'")[0]["n"])


def killed(client: subprocess.Popen[bytes], server: ServerProcess, on: str, after: int) -> bool:
    """SIGKILL the client once the server has seen `after` more such calls; False where it ended before."""
    end = calls(server, on) + after
    while calls(server, on) < end:
        if client.poll() is not None:
            return False
        time.sleep(0.005)
    client.kill()
    client.wait()
    return True


def storm(folder: Path, server: ServerProcess, kills: int, *more: str) -> int:
    """Run the client, killing it `kills` times, until it ends well by itself; returns how many kills landed."""
    chance, landed, runs = random.Random(5), 0, 0
    while True:
        client, runs = start(folder, server.url, *more), runs + 1
        aim = ("POST %/batchInferenceJobs", 1) if landed in AIMED else ("%", chance.randint(1, 9))
        if landed < kills and killed(client, server, *aim):
            landed += 1
            if landed % 3 == 0:
                server.kill()
                server.start()
        elif client.wait(200) == 0:
            return landed
        assert runs < 4 * kills + 4, (folder / "stderr.txt").read_text()[-3000:]


def arm(server: ServerProcess) -> None:
    # Slow replies leave time to kill a client between the job's creation and its news of it.
    server.faults({"kind": "drop_reply", "on": CREATE, "skip": 2}, {"kind": "slow", "on": CREATE, "delay": 0.3, "times": -1})


@pytest.mark.slow
def test_killed_ten_times_the_results_are_the_same_bytes_and_nothing_is_billed_twice(tmp_path):
    calm, folder = calm_results(tmp_path), tmp_path / "storm"
    asked = lay_out(folder)
    with ServerProcess("fireworks", tmp_path / "server") as server:
        server.options(chaos=0.1, running_polls=3)
        server.faults(*({"kind": kind, "count": 2} for kind in JOB_FAULTS))
        arm(server)
        assert storm(folder, server, kills=10) >= 7
        rows = read_all(folder)
        assert [row.custom_id for row in rows] == asked and {row.outcome for row in rows} == {"answered"}
        assert results(folder) == calm
        assert server.admin("summary") == {"billed": len(asked), "requests": len(asked), "duplicates": 0}
        assert set(JOB_FAULTS) <= {row["kind"] for row in server.rows("SELECT kind FROM faults WHERE left = 0")}


@pytest.mark.slow
@pytest.mark.parametrize(("more", "paid_twice"), [([], False), (["--careless"], True)])
def test_on_a_server_that_takes_duplicates_only_the_look_before_the_create_saves_the_money(tmp_path, more, paid_twice):
    """The mutation: a client that creates without looking must be seen to pay twice, or the storm above proves nothing."""
    folder = tmp_path / "storm"
    asked = lay_out(folder)
    with ServerProcess("fireworks", tmp_path / "server") as server:
        server.options(dedupe=False)
        arm(server)
        assert storm(folder, server, 3, *more) == 3
        summary = server.admin("summary")
        assert summary["requests"] == len(asked) and (summary["duplicates"] > 0) is paid_twice


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_storm_key")
    monkeypatch.setenv("PATH", "/nowhere")
    with ServerProcess("fireworks", tmp_path / "server") as running:
        yield running


def test_a_job_that_never_starts_is_given_up_and_its_rows_are_sent_anew(tmp_path, server):
    asked = lay_out(tmp_path, shards=1)
    server.faults({"kind": "stuck"})
    run(tmp_path, server.url, start_timeout=1.0)
    assert len(read_all(tmp_path)) == len(asked) and server.calls("POST", "/v1/accounts/acme/batchInferenceJobs") == 2
    assert server.admin("summary") == {"billed": len(asked), "requests": len(asked), "duplicates": 0}


def test_a_row_that_fails_the_whole_job_is_left_out_and_the_rest_is_answered(tmp_path, server):
    asked = lay_out(tmp_path, shards=1, role_of={3: "wizard"})
    run(tmp_path, server.url, roles=["wizard"])  # so that our own check lets it pass
    outcomes = [row.outcome for row in read_all(tmp_path)]
    assert outcomes.count("answered") == len(asked) - 1 and outcomes[3] == "failed"
    assert server.admin("summary") == {"billed": len(asked) - 1, "requests": len(asked) - 1, "duplicates": 0}


def test_a_shard_beyond_the_byte_limit_is_sent_as_several_jobs(tmp_path, server):
    asked = lay_out(tmp_path, shards=1)
    size = (tmp_path / "rows" / "t0_p00.jsonl").stat().st_size
    run(tmp_path, server.url, settings={"max_bytes": size // 2})
    assert len(read_all(tmp_path)) == len(asked) and server.calls("POST", "/v1/accounts/acme/batchInferenceJobs") >= 2
    assert server.admin("summary") == {"billed": len(asked), "requests": len(asked), "duplicates": 0}
