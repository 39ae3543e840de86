"""`events.jsonl`: what happened, one JSON object a line, for people and tools. Never read back to decide anything."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pipeline.base.digests import canonical_json
from pipeline.base.files import Journal
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
