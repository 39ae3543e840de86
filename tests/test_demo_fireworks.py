"""The Fireworks demonstration: its server lives exactly as long as the run it serves, and its config is a good one."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from pipeline.base.errors import StepError
from scripts.demo_fireworks import CONFIG, start_server

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
    end = time.monotonic() + 10
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
