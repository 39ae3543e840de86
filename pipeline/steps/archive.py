"""archive: turns a finished run into `archive_manifest.json`, the checksums of its files, and `archive.tar.gz`, which re-runs elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.base.schemas import write_document
from pipeline.experiment import TYPES
from pipeline.records import snapshot, tarball
from pipeline.steps import aggregate, tidy
from pipeline.steps.context import Context, Run

SETTINGS = ("archive",)
CODE = ("pipeline/steps/archive.py", "pipeline/records/tarball.py")


def inputs(ctx: Context) -> list[Path]:
    """All that the run's folder holds for good, and the items. With `archive.incomplete` only what is there."""
    this = ctx.run
    found: list[Path] = []
    for slug in this.experiment.trials:
        paths = this.paths.trial(slug)
        found += [paths.predictions, paths.scores, paths.significance, paths.costs, paths.provenance]
        found += [paths.report_md, paths.report_html, paths.provenance_html]
    shards = [this.shard_paths(ref) for refs in this.layout.values() for ref in refs]
    found += [path for s in shards for path in (s.rows, s.results, s.submission)]
    found += [*aggregate.targets(ctx), *tidy.targets(ctx), *(this.item_file(kind) for kind in TYPES)]
    # Written when the run is opened, not by a step: missing only before its first `doit run`.
    texts = (this.paths.inputs / snapshot.text_name(name, this.root) for name in snapshot.texts_of(this.experiment))
    own = [this.paths.effective_config, this.paths.build_manifest, *sorted(texts)]
    found += [path for path in own if path.is_file()]
    return [path for path in found if path.exists()] if _settings(this).get("incomplete") else found


def targets(ctx: Context) -> list[Path]:
    """The manifest and the tarball."""
    return [ctx.run.paths.archive_manifest, ctx.run.paths.folder / tarball.NAME]


def run(ctx: Context) -> dict[str, Any]:
    """Write both. With `archive.redact` the tarball drops all texts and keeps scores."""
    this = ctx.run
    folder, exp = this.paths.folder, this.experiment
    redact = bool(_settings(this).get("redact"))
    facts = {
        "run_id": this.paths.run_id,
        "request_hash": exp.request_hash,
        "config_hash": exp.config_hash,
        "redacted": redact,
        "complete": complete(this),
    }
    found = tarball.members(this.paths, this.root, redact=redact)
    tarball.write_tarball(folder / tarball.NAME, found, tarball.manifest_of(found, facts), f"experiments/{folder.name}")
    files: dict[str, dict[str, Any]] = {
        p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": this.cache.sha256(p)} for p in tarball.archived_files(folder)
    }
    document = {"schema_version": 1, **facts, "redacted": False, "files": files, "total_bytes": sum(f["size"] for f in files.values())}
    write_document(this.paths.archive_manifest, document, "archive_manifest")
    return {"files": len(files), "bytes": document["total_bytes"], "tarball": (folder / tarball.NAME).stat().st_size}


def complete(this: Run) -> bool:
    """True where every trial has its report."""
    return all(this.paths.trial(slug).report_md.exists() for slug in this.experiment.trials)


def _settings(this: Run) -> dict[str, Any]:
    found: dict[str, Any] = this.experiment.config.get("archive") or {}
    return found
