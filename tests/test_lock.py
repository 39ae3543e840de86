"""One process per run: the lock is the kernel's, so that it dies with its holder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.base.errors import Locked
from pipeline.records.lock import RunLock, holder

HOLDER = """
import sys, time
from pathlib import Path
from pipeline.records.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def held(tmp_path: Path):  # type: ignore[no-untyped-def]
    path = tmp_path / "run_x" / ".run.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.wait()


def test_contention_names_pid_host_and_since(held) -> None:  # type: ignore[no-untyped-def]
    path, process = held
    with pytest.raises(Locked) as raised:
        RunLock(path).acquire()
    assert raised.value.exit_code == 4
    assert f"pid {process.pid} on {socket.gethostname()} since 20" in str(raised.value)
    assert "python -m scripts.stop_run --run_id x" in str(raised.value)
    assert holder(path)["pid"] == process.pid  # type: ignore[index]


def test_after_sigkill_nobody_holds_it(held) -> None:  # type: ignore[no-untyped-def]
    path, process = held
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert holder(path) is None
    lock = RunLock(path)
    lock.acquire()
    assert holder(path)["pid"] == os.getpid()  # type: ignore[index]
    lock.release()
    assert holder(path) is None
    assert path.exists()


def test_a_program_started_meanwhile_does_not_inherit_it(tmp_path: Path) -> None:
    path = tmp_path / ".run.lock"
    lock = RunLock(path)
    lock.acquire()
    program = subprocess.Popen(
        [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=subprocess.PIPE, close_fds=False
    )
    try:
        assert program.stdout is not None and program.stdout.readline()
        lock.release()
        assert holder(path) is None
    finally:
        program.kill()
        program.wait()


def test_a_process_that_only_looks_does_not_keep_others_out(tmp_path: Path) -> None:
    """`stop_run`, a plan or a waiting run ask who holds the lock: that must not make a start fail."""
    path = tmp_path / ".run.lock"
    path.touch()
    done = threading.Event()

    def looks() -> None:
        while not done.is_set():
            holder(path)

    lookers = [threading.Thread(target=looks) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(200):
            lock = RunLock(path)
            lock.acquire()
            lock.release()
    finally:
        done.set()
        for looker in lookers:
            looker.join()


def test_nobody_holds_a_lock_that_was_never_made(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
