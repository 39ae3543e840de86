"""`events.jsonl`: what happened, one JSON object a line, for people and tools. Never read back to decide anything.

At the end of every `doit run` its size and sha256 go into the run's state (`seal`): what was logged until then cannot change unseen.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.digests import canonical_json, sha256_bytes
from pipeline.base.errors import ManifestError
from pipeline.base.files import Journal, read_file
from pipeline.base.schemas import parse_json, problems
from pipeline.records.clock import now_iso


class Events:
    """The run's event log. Opened at the first event, so that looking at a run writes nothing."""

    def __init__(self, path: Path) -> None:
        """`path` is `experiments/run_<RUN_ID>/events.jsonl`."""
        self._path = path
        self._journal: Journal | None = None
        self._lock = threading.Lock()

    def add(self, event: str, **facts: Any) -> None:
        """Log `event` with its facts (plain JSON; no secrets, by the callers' care)."""
        with self._lock:
            if self._journal is None:
                self._journal = Journal(self._path)
            self._journal.append(canonical_json({"at": now_iso(), "event": event, **facts}))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None


def seal(path: Path) -> dict[str, Any]:
    """Size and sha256 of a log as it is."""
    data = read_file(path)
    return {"size": len(data), "sha256": sha256_bytes(data)}


def fault_of_log(path: Path, sealed: Mapping[str, Any] | None) -> str | None:
    """Why the log is not the one that was written, or None. `sealed` is what `seal` said at the end of the last run.

    A last line without its newline is no fault: whoever appends cuts it.
    """
    try:
        data = read_file(path)
    except FileNotFoundError:
        return "is missing" if sealed else None
    except ManifestError as e:
        return e.fact
    if sealed and sha256_bytes(data[: sealed["size"]]) != sealed["sha256"]:
        return f"its first {sealed['size']} bytes are not those of the last run's end (run_state.json)"
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            faults = problems(parse_json(line), "event")
        except ValueError as e:
            faults = [str(e)]
        if faults:
            return f"line {number}: {faults[0]}"
    return None
