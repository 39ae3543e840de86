"""`run_state.json`: where a run stands. One table of legal transitions; schema-checked and atomic at every write."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.base.schemas import read_document, write_document
from pipeline.records.clock import now_iso
from pipeline.records.repair import fault_of_state

SCHEMA = "run_state"
STEPS = ("prepare", "build", "submit", "poll", "parse", "score", "stats", "costs", "report", "archive")
WITHIN = {"aggregate": "report", "tidy": "report"}
"""Steps over the whole run that belong to the phase of another."""
TRANSITIONS: dict[str, frozenset[str]] = {
    "not_started": frozenset({"in_progress"}),
    "in_progress": frozenset({"completed", "failed", "stopped"}),
    "completed": frozenset({"in_progress"}),
    "failed": frozenset({"in_progress"}),
    "stopped": frozenset({"in_progress"}),
}
INTERRUPTED = "interrupted: the process ended without a word"


class IllegalTransition(ManifestError):
    """A phase was asked to go where the table does not lead."""


class RunState:
    """The state document of one run. Every change is on disk when the method returns."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        """Use `RunState.new` or `RunState.load`."""
        self.path, self.document = path, document
        self._lock = threading.RLock()

    @classmethod
    def new(
        cls,
        path: Path,
        *,
        run_id: str,
        config_path: str,
        provider: str,
        config_hash: str,
        request_hash: str,
        primary_hash: str,
        migrated: bool = False,
    ) -> RunState:
        """A state in which nothing has started. Written at the first `save`."""
        phase = {"status": "not_started", "started_at": None, "updated_at": None, "last_error": None}
        return cls(path, {
            "schema_version": 1,
            "run_id": run_id,
            "config_path": config_path,
            "config_hash": config_hash,
            "request_hash": request_hash,
            "primary_hash": primary_hash,
            "generation": 0,
            "provider": provider,
            "extends": None,
            "locked": None,
            "phases": {step: dict(phase) for step in STEPS},
            "last_checkpoint": None,
            "stop_requested": False,
            "forced": [],
            "migrated": migrated,
            "looks": [],
            "notes": [],
            "receipts": {},
        })  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> RunState:
        """Raises FileNotFoundError, or ManifestError where the file is corrupt, foreign or of a newer version."""
        document = read_document(path, SCHEMA)
        fault = fault_of_state(document)
        if path.parent.name.startswith("run_") and path.parent.name != f"run_{document['run_id']}":
            fault = f"it is the state of run {document['run_id']}"
        if fault:
            raise ManifestError(fault, where=str(path))
        return cls(path, document)

    def __getitem__(self, key: str) -> Any:
        return self.document[key]

    def save(self) -> None:
        """Write the state, whole and valid."""
        with self._lock:
            write_document(self.path, self.document, SCHEMA)

    def update(self, **changes: Any) -> None:
        """Set top-level keys and save."""
        with self._lock:
            self.document.update(changes)
            self.save()

    def status(self, step: str) -> str:
        """The status of a phase."""
        status: str = self.document["phases"][step]["status"]
        return status

    def move(self, step: str, status: str, error: str | None = None) -> None:
        """Move a phase. Raises IllegalTransition where the table does not allow it; staying where it is changes nothing."""
        with self._lock:
            phase = self.document["phases"][step]
            if status == phase["status"]:
                return
            if status not in TRANSITIONS[phase["status"]]:
                raise IllegalTransition(f"phase {step!r} cannot go from {phase['status']!r} to {status!r}", where=str(self.path))
            at = now_iso()
            if status == "in_progress":
                phase["started_at"] = at
            phase.update(status=status, updated_at=at, last_error=error)
            self.save()

    def checkpoint(self, step: str, resume_key: str, trial_slug: str | None = None) -> None:
        """Note the action that was just completed: where work stood, should the process die now."""
        self.update(last_checkpoint={"phase": step, "trial_slug": trial_slug, "resume_key": resume_key, "timestamp": now_iso()})

    def recognise_interruption(self) -> list[str]:
        """Phases that a dead process left in progress become `stopped`. Call under the lock. Returns them."""
        found = [s for s in STEPS if self.status(s) == "in_progress"]
        for step in found:
            self.move(step, "stopped", INTERRUPTED)
        return found

    def force(self, what: str, was: str | None, now: str | None, **changes: Any) -> None:
        """Record that `--force` (or `--fresh`) overrode something, together with the `changes` of top-level keys that it made."""
        self.update(forced=[*self.document["forced"], {"at": now_iso(), "what": what, "was": was, "now": now}], **changes)
