"""The Fireworks demonstration: its server lives exactly as long as the run it serves, and its config is a good one."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from pipeline.base.errors import StepError
from scripts import fireworks_storm
from scripts.demo_fireworks import CONFIG, start_server
from scripts.fireworks_storm import bill, demo_project, run_demo

ROOT = Path(__file__).parents[1]


def config(port):
    loaded = yaml.safe_load((ROOT / CONFIG).read_text())
    return {**loaded, "provider": {**loaded["provider"], "base_url": f"http://127.0.0.1:{port}"}}


@pytest.fixture
def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/_admin/summary", timeout=5).close()
    except OSError:
        return False
    return True


def test_the_server_ends_with_the_process_that_holds_its_pipe_and_can_be_followed_at_once(tmp_path, port, capfd):
    for _ in range(2):
        pipe = start_server(ROOT, config(port), tmp_path / "memory.db")
        assert listening(port)
        os.close(pipe)
    end = time.monotonic() + 120
    while listening(port) and time.monotonic() < end:
        time.sleep(0.05)
    assert not listening(port)
    assert "0 rows billed for 0 requests" in capfd.readouterr().err


def test_a_taken_port_is_an_error_in_one_line(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(StepError, match="Is port"):
            start_server(ROOT, config(s.getsockname()[1]), tmp_path / "memory.db")


@pytest.mark.slow
def test_killed_at_random_the_demonstration_ends_in_one_bill_and_the_same_bytes(capsys):
    """Two strikes; `python -m scripts.fireworks_storm` lands ten. Also: the same experiment under another run id bills nothing."""
    assert fireworks_storm.main(["--kills", "2", "--seed", "4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["kills"], said["requests"], said["problems"]) == (2, 270, [])


@pytest.mark.slow
def test_the_money_cap_stops_below_the_expected_cost_and_not_between_it_and_the_worst(tmp_path, port):
    """Three units of 90 requests, the control of both contrasts among them once: 270 rows, not 360."""
    project = demo_project(tmp_path / "p", port)
    plan = run_demo(project, ["--plan_only", "--json"])
    cost = json.loads(plan.output[plan.output.index("{") : plan.output.rindex("}") + 1])["total"]
    low = run_demo(project, ["--max_usd", f"{cost['expected_usd'] * 0.5:.6f}"])
    assert low.code == 3 and "the money cap is reached" in low.output and "raise --max_usd" in low.output
    assert 0 < bill(project)[0] < 270
    between = (cost["expected_usd"] + cost["worst_usd"]) / 2
    assert cost["expected_usd"] < between < cost["worst_usd"]
    done = run_demo(project, ["--max_usd", f"{between:.6f}"])
    assert done.code == 0, done.output
    assert bill(project) == (270, 270)
