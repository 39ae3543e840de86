"""One process per run: `flock` on `.run.lock`. The kernel lets go of it when the holder dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from pipeline.base.errors import Locked
from pipeline.records.clock import now_iso

LOOKERS_TRIES = 50


class RunLock:
    """The lock of a run. The file stays when it is let go; only the lock on it counts."""

    def __init__(self, path: Path) -> None:
        """`path` is `experiments/run_<RUN_ID>/.run.lock`."""
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise Locked (exit 4) naming the holder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take(fd)
        except BaseException:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now_iso()}).encode(), 0)
        self._fd = fd

    def _take(self, fd: int) -> None:
        # A process that only looks (`holder`) shares the lock for an instant: that is no holder, so try again.
        for _ in range(LOOKERS_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if (found := holder(self.path)) is not None:
                    break
                time.sleep(0.01)
        raise Locked(
            f"another process works on this run: {describe(found)}",
            where=str(self.path.parent),
            remedy=f"Wait for it, or stop it: python -m scripts.stop_run --run_id {self.path.parent.name.removeprefix('run_')}",
        )

    def release(self) -> None:
        """Let go of the lock (no-op where it is not held)."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def holder(path: Path) -> dict[str, Any] | None:
    """Who holds the lock at `path` ({pid, host, since}), or None where nobody does. Takes nothing, writes nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            try:
                found = json.loads(os.pread(fd, 4096, 0))
            except ValueError:  # caught between its taking the lock and its writing its name
                found = {}
            return found if isinstance(found, dict) else {}
        return None
    finally:
        os.close(fd)


def describe(found: dict[str, Any] | None) -> str:
    """`pid 12 on host since 2026-...`."""
    found = found or {}
    return f"pid {found.get('pid', 'unknown')} on {found.get('host', 'unknown')} since {found.get('since', 'unknown')}"
