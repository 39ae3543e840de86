"""archive: turns a finished run into a list of its files with their checksums, `archive_manifest.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.base.schemas import write_document
from pipeline.steps import tidy
from pipeline.steps.context import Context

SETTINGS = ("archive",)
CODE = ("pipeline/steps/archive.py",)
TRAVELLING = (
    "run_state.json",
    "events.jsonl",
    "archive_manifest.json",
    "local_model.log",
)  # go on changing after the archive step, by its own doing


def inputs(ctx: Context) -> list[Path]:
    """The reports and result files of every trial, the answers, the shards."""
    this = ctx.run
    found: list[Path] = []
    for slug in this.experiment.trials:
        paths = this.paths.trial(slug)
        found += [paths.predictions, paths.scores, paths.significance, paths.costs, paths.report_md, paths.report_html]
    shards = [this.shard_paths(ref) for refs in this.layout.values() for ref in refs]
    found += [path for s in shards for path in (s.rows, s.results)]
    return [*found, this.paths.aggregate_md, this.paths.aggregate_html, *tidy.targets(ctx)]


def targets(ctx: Context) -> list[Path]:
    """`archive_manifest.json`."""
    return [ctx.run.paths.archive_manifest]


def run(ctx: Context) -> dict[str, Any]:
    """Write the manifest of everything in the run's folder that will not change any more."""
    this = ctx.run
    files = {}
    for path in sorted(archived_files(this.paths.folder)):
        name = path.relative_to(this.paths.folder).as_posix()
        files[name] = {"size": path.stat().st_size, "sha256": this.cache.sha256(path)}
    document = {
        "schema_version": 1,
        "run_id": this.paths.run_id,
        "request_hash": this.experiment.request_hash,
        "config_hash": this.experiment.config_hash,
        "redacted": False,
        "complete": True,
        "files": files,
        "total_bytes": sum(f["size"] for f in files.values()),
    }
    write_document(targets(ctx)[0], document, "archive_manifest")
    return {"files": len(files), "bytes": document["total_bytes"]}


def archived_files(folder: Path) -> list[Path]:
    """The files of a run that belong into its archive: no hidden ones, no manifests that steps go on writing."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.name not in TRAVELLING
        and path.name != "trial_manifest.json"
    ]
