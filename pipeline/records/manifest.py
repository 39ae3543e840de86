"""`trial_manifest.json`, version 2: what a trial is and how far it has come. Schema-checked and atomic at every write."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError
from pipeline.base.files import put_aside, read_file
from pipeline.base.schemas import parse_json, read_document, write_document
from pipeline.records.clock import now_iso

SCHEMA = "trial_manifest.v2"
STAGES = ("downloaded", "parsed", "scored", "stats", "costs", "report", "archived")
STAGE_OF_STEP = {
    "poll": "downloaded",
    "parse": "parsed",
    "score": "scored",
    "stats": "stats",
    "costs": "costs",
    "report": "report",
    "archive": "archived",
}


class TrialManifest:
    """The manifest of one trial. Every change is on disk when the method returns."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        """Use `open`."""
        self.path, self.document = path, document
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, facts: Mapping[str, Any], *, readonly: bool = False) -> tuple[TrialManifest, Path | None]:
        """The manifest at `path`, or a new one made of `facts` (run_id, trial, temps, samples_per_item, prompts).

        A predecessor's is upgraded. A corrupt one, or one of another trial, goes aside to `*.corrupt.<ts>`, whose path is
        returned beside; a version this code does not know is refused.
        """
        slug = facts["trial"]["slug"]
        try:
            document = read_document(path, SCHEMA)
            if document["trial"].get("slug") != slug:
                raise ManifestError(f"is about trial {document['trial'].get('slug')}", where=str(path))
            return cls(path, document), None
        except FileNotFoundError:
            return cls(path, new_document(facts)), None
        except ManifestError:
            refuse_newer(path)
            if (document := _from_predecessor(path, readonly=readonly)) is not None:
                return cls(path, document), None
            if readonly:
                return cls(path, new_document(facts)), None
            return cls(path, new_document(facts)), put_aside(path)

    def stage(self, name: str) -> dict[str, Any]:
        """`{status, updated_at, inputs_digest, artifacts}` of a stage."""
        found: dict[str, Any] = self.document["stage_status"][name]
        return found

    def set_stage(self, name: str, status: str, *, receipt: Mapping[str, Any] | None = None, save: bool = True) -> bool:
        """Set a stage's status; with `receipt` its inputs_digest and artifacts too. Returns whether anything changed."""
        with self._lock:
            stage = self.stage(name)
            wanted = {"status": status, "inputs_digest": stage["inputs_digest"], "artifacts": stage["artifacts"]}
            if receipt is not None:
                wanted |= {"inputs_digest": receipt["inputs_digest"], "artifacts": receipt["artifacts"]}
            if all(stage[key] == value for key, value in wanted.items()):
                return False
            stage.update(wanted, updated_at=now_iso())
            if save:
                self.save()
            return True

    def set_facts(self, **facts: Any) -> bool:
        """Set top-level keys (jobs, job_status ...); saves where something changed."""
        with self._lock:
            if all(self.document.get(key) == value for key, value in facts.items()) and self.path.exists():
                return False
            self.document.update(facts)
            self.save()
            return True

    def save(self) -> None:
        """Write the manifest, whole and valid."""
        with self._lock:
            self.document["timestamps"]["updated_at"] = now_iso()
            write_document(self.path, self.document, SCHEMA)


def new_document(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest in which nothing has been done."""
    at = now_iso()
    pending: dict[str, Any] = {"status": "pending", "updated_at": None, "inputs_digest": None, "artifacts": {}}
    return {
        "schema_version": 2,
        "timestamps": {"created_at": at, "updated_at": at},
        "datasets": {},
        "jobs": {},
        "job_status": {},
        **facts,
        "stage_status": {stage: dict(pending, artifacts={}) for stage in STAGES},
    }


def _from_predecessor(path: Path, *, readonly: bool) -> dict[str, Any] | None:
    """Version 2 of a predecessor's manifest (on disk too, with a backup beside, unless `readonly`); None where it is none of those."""
    from pipeline.records import upgrade, upgrade_files

    try:
        document = parse_json(read_file(path))
    except (ValueError, ManifestError):
        return None
    if not upgrade.is_predecessors(document):
        return None
    if readonly:
        return upgrade_files.translated(document, path)[0]
    upgrade_files.upgrade_file(path)
    found: dict[str, Any] = read_document(path, SCHEMA)
    return found


def refuse_newer(path: Path) -> None:
    """Raise ManifestError where the file says that it is of a version this code does not know."""
    try:
        document = parse_json(read_file(path))
    except (ValueError, ManifestError):
        return
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version > 2:
        raise ManifestError(
            f"schema_version {version} is newer than this abiding knows (2)", where=str(path), remedy="Use the abiding that wrote it."
        )
