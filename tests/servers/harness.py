"""Start a test server as a process of its own, talk to its back door, kill it, start it again on the same port and state."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class ServerProcess:
    """`python -m tests.servers.<name>` with its state in `folder`. Use as a context manager."""

    def __init__(self, name: str, folder: Path, arguments: Sequence[str] = ()) -> None:
        self.name, self.arguments, self.port, self.url = name, list(arguments), 0, ""
        folder.mkdir(parents=True, exist_ok=True)
        self.state_path = folder / f"{name}_server.db"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> ServerProcess:
        """Start, or start again where it was."""
        command = [
            sys.executable,
            "-m",
            f"tests.servers.{self.name}",
            "--state",
            str(self.state_path),
            "--port",
            str(self.port),
            *self.arguments,
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.url = line.split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])
        return self

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.kill()

    def admin(self, name: str, body: Any = None) -> Any:
        """Call `/_admin/<name>`: POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/_admin/{name}", data=data), timeout=10) as reply:
            return json.load(reply)

    def faults(self, *plans: dict[str, Any]) -> None:
        """Arm faults."""
        self.admin("faults", list(plans))

    def options(self, **values: Any) -> None:
        """Set switches."""
        self.admin("options", values)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Look into the server's state."""
        db = sqlite3.connect(f"file:{self.state_path}?mode=ro", uri=True)
        try:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql)]
        finally:
            db.close()

    def calls(self, method: str, path: str) -> int:
        """How often the log shows this call."""
        return sum(row["method"] == method and row["path"] == f"api:{path}" for row in self.admin("log"))
