"""Upgrading and rebuilding manifests on disk: backup first, one atomic replacement, nothing lost, idempotent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError, UsageError
from pipeline.base.files import file_stamp, put_aside, read_file, write_atomic
from pipeline.base.schemas import parse_json, problems, write_document
from pipeline.records import upgrade, upgrade_evidence
from pipeline.records.clock import now_iso

NAME = "trial_manifest.json"
SCHEMA = "trial_manifest.v2"
KEPT = "multi_trial_manifest.json"
"""A list of trials that the predecessor wrote at the end of a run: each trial's own manifest says more, so it stays as it is."""


@dataclass
class Outcome:
    """What was (or, with a dry run, would be) done with one file."""

    path: Path
    action: str
    """`current` (nothing to do), `upgraded`, `rebuilt` (it was corrupt), `refused` (newer), `kept` (not a trial manifest)."""
    reason: str = ""
    beside: Path | None = None
    """The backup, or where the corrupt original went."""
    unknown: list[str] = field(default_factory=list)
    """Stages of which the files prove nothing, with the reason."""


def find(paths: Iterable[Path]) -> Iterator[Path]:
    """The manifests named by `paths`: a file itself, a folder's trial manifests. Raises UsageError where a path is not there."""
    for path in paths:
        if path.is_dir():
            yield from (p for p in sorted(path.rglob("*.json")) if p.name in (NAME, KEPT))
        elif path.exists():
            yield path
        else:
            raise UsageError(
                "there is no such file or folder", where=str(path), remedy="Name a trial_manifest.json, a run's folder, or experiments."
            )


def upgrade_file(path: Path, *, dry_run: bool = False) -> Outcome:
    """Bring one manifest to version 2. Whoever is killed here leaves the old file or the new one, and the old one beside."""
    if path.name == KEPT:
        return Outcome(path, "kept", "lists trials; their own manifests are upgraded")
    try:
        document = parse_json(data := read_file(path))
    except ManifestError as e:
        return _rebuild(path, e.fact, dry_run)
    except ValueError as e:
        return _rebuild(path, f"not readable as JSON: {e}", dry_run)
    version = upgrade.version_of(document)
    if version is not None and version > upgrade.VERSION:
        return Outcome(
            path,
            "refused",
            f"schema_version {version:g} is newer than this abiding knows ({upgrade.VERSION}); use the abiding that wrote it",
        )
    faults = problems(document, SCHEMA)
    if not faults:
        return Outcome(path, "current", "is version 2")
    if not upgrade.is_predecessors(document):
        return _rebuild(path, faults[0], dry_run)
    new, unknown = translated(document, path)
    if dry_run:
        return Outcome(path, "upgraded", _from(version), unknown=unknown)
    backup = keep_backup(path, data)
    write_document(path, new, SCHEMA)
    return Outcome(path, "upgraded", _from(version), backup, unknown)


def _from(version: float | None) -> str:
    return f"from version {1 if version is None else version:g}"


def keep_backup(path: Path, data: bytes) -> Path:
    """`<stem>.backup.<ts><suffix>` with these bytes; the one that an interrupted upgrade left, where there is one."""
    for known in sorted(path.parent.glob(f"{path.stem}.backup.*{path.suffix}")):
        if known.read_bytes() == data:
            return known
    backup = path.with_name(f"{path.stem}.backup.{file_stamp()}{path.suffix}")
    write_atomic(backup, data)
    return backup


def translated(document: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """Version 2 of a predecessor's manifest at `path`, and the stages that stay unknown. Writes nothing.

    Raises ManifestError where the result would not be valid (a defect of ours: every predecessor's manifest has a version 2).
    """
    statuses = document.get("job_status")
    found = upgrade_evidence.stages(path.parent, statuses if isinstance(statuses, dict) else {})
    base = run_folder(path) or path.parent
    stage_status = {name: stage.stage(base) for name, stage in found.items()}
    new = upgrade.upgraded(document, slug=slug_of(path), run_id=run_id_of(path), at=now_iso(), stage_status=stage_status)
    if faults := problems(new, SCHEMA):
        raise ManifestError(
            f"the upgraded manifest would not be valid: {faults[0]}", where=str(path), remedy="The original was left as it is."
        )
    return new, [f"{name}: {stage.reason}" for name, stage in found.items() if stage.status == "unknown"]


def _rebuild(path: Path, reason: str, dry_run: bool) -> Outcome:
    """What cannot be read goes aside; a new manifest says what the files beside it prove, and `unknown` for the rest.

    Raises UsageError for a file of another name: it may be anything.
    """
    if path.name != NAME:
        raise UsageError(f"not a trial manifest: {reason}", where=str(path), remedy=f"Name a {NAME}, or a folder that holds some.")
    new, unknown = translated(from_artifacts(path.parent), path)
    if dry_run:
        return Outcome(path, "rebuilt", reason, unknown=unknown)
    if path.is_file():
        aside = path.with_name(f"{path.name}.corrupt.{file_stamp()}")
        write_atomic(aside, path.read_bytes())
    else:
        aside = put_aside(path)
    write_document(path, new, SCHEMA)
    return Outcome(path, "rebuilt", reason, aside, unknown)


def from_artifacts(results: Path) -> dict[str, Any]:
    """What the part folders and breadcrumbs of a trial's result folder say, in the predecessor's form."""
    jobs: dict[str, str] = {}
    datasets: dict[str, str] = {}
    statuses: dict[str, str] = dict.fromkeys(upgrade_evidence.part_folders(results), "completed")
    for key, said in breadcrumbs(results).items():
        if said.get("name"):
            jobs[key] = said["name"]
        if said.get("output_dataset"):
            datasets[key] = said["output_dataset"]
        if "state" in said:
            statuses.setdefault(key, said["state"])
    temps = sorted({t for key in statuses if (t := _temp_of(key)) is not None})
    return {"trial": {}, "temps": temps, "jobs": jobs, "output_datasets": datasets, "job_status": statuses}


def breadcrumbs(results: Path) -> dict[str, dict[str, str]]:
    """What `<part>_job.json` and `<part>_OUTPUT_DATASET_ID.txt` say, by part: name, state, output_dataset. A torn one says nothing."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(results.glob("*_job.json")) if results.is_dir() else []:
        said = _readable(path)
        if isinstance(said, dict):
            name = said.get("name")
            found[path.name.removesuffix("_job.json")] = {"state": str(said.get("state", "unknown"))} | (
                {"name": name} if isinstance(name, str) else {}
            )
    for path in sorted(results.glob("*_OUTPUT_DATASET_ID.txt")) if results.is_dir() else []:
        with suppress(ManifestError):
            name = read_file(path).decode("utf-8", "replace").strip()
            found.setdefault(path.name.removesuffix("_OUTPUT_DATASET_ID.txt"), {})["output_dataset"] = name
    return {key: said for key, said in found.items() if upgrade_evidence.PART.match(key)}


def _readable(path: Path) -> Any:
    try:
        return parse_json(read_file(path))
    except (ValueError, ManifestError):
        return None


def _temp_of(key: str) -> float | None:
    match = upgrade_evidence.PART.match(key)
    try:
        return float(match[1][1:].replace("p", ".")) if match else None
    except ValueError:
        return None


def run_folder(path: Path) -> Path | None:
    """The nearest folder `run_<ID>` above `path`."""
    return next((p for p in path.resolve().parents if p.name.startswith("run_") and p.name != "run_"), None)


def run_id_of(path: Path) -> str | None:
    """The run's id by its folder, where the manifest lies in one."""
    folder = run_folder(path)
    return folder.name.removeprefix("run_") if folder else None


def slug_of(path: Path) -> str:
    """The trial's slug: the folder that holds `results/`."""
    return path.resolve().parents[1].name or "trial"
