"""A run as one reproducible tar.gz: the same run gives the same bytes. Unpacked in an empty clone it re-runs from parse, offline.

Left out is what goes on changing by its own doing (events, lock, doit's cache) and what only damage left behind. The run's state goes in
a settled form, without times of phases, so that archiving, which is itself a phase, does not change what it archives.
"""

from __future__ import annotations

import copy
import csv
import gzip
import io
import re
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.base.digests import sha256_bytes, sha256_file
from pipeline.base.errors import ManifestError
from pipeline.base.files import TEMP_MARK, atomic_writer, json_bytes
from pipeline.base.schemas import parse_json, read_document, validate
from pipeline.layout import RunPaths, prepared_folder

NAME = "archive.tar.gz"
MANIFEST = "archive_manifest.json"
TRAVELLING = ("run_state.json", "events.jsonl", MANIFEST, NAME, "local_model.log", "STOP_REQUESTED", "trial_manifest.json")
"""Files that go on changing after the archive step, by its own doing."""
LEFTOVERS = re.compile(r"\.(corrupt|superseded)\.\d{8}T")
SCORES_ONLY = ("per_item_scores.csv", "significance.json", "costs.json", "aggregate_report.md", "build_manifest.json")
"""What a redacted archive keeps as it is; predictions.csv it keeps without texts."""
TEXT_COLUMNS = ("response_text", "tool_calls", "error")


@dataclass(frozen=True)
class Member:
    """One file of an archive: a file on disk, or bytes made for it."""

    name: str
    """Relative to the project's folder, with `/`."""
    path: Path | None = None
    data: bytes | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data) if self.data is not None else self._path.stat().st_size

    @property
    def sha256(self) -> str:
        """Of its bytes."""
        return sha256_bytes(self.data) if self.data is not None else sha256_file(self._path)

    @property
    def _path(self) -> Path:
        assert self.path is not None
        return self.path


def archived_files(folder: Path) -> list[Path]:
    """The files of a run that belong into its archive, sorted: not hidden, not travelling, not left by damage."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or TEMP_MARK in part for part in parts)
        if path.is_file() and not hidden and not any(part in TRAVELLING or LEFTOVERS.search(part) for part in parts):
            found.append(path)
    return sorted(found)


def settled_state(paths: RunPaths) -> dict[str, Any]:
    """The run's state as an archive holds it: identity, registration and history; phases from parse on are to do again."""
    document: dict[str, Any] = copy.deepcopy(read_document(paths.state, "run_state"))
    for step, phase in document["phases"].items():
        asked = step in ("prepare", "build", "submit", "poll") and phase["status"] == "completed"
        phase.update(status="completed" if asked else "not_started", started_at=None, updated_at=None, last_error=None)
    document.update(
        last_checkpoint=None,
        stop_requested=False,
        receipts={},
        config_path=f"experiments/{paths.folder.name}/{paths.effective_config.name}",
    )
    document.pop("events", None)  # the log does not travel
    return document


def members(paths: RunPaths, root: Path, *, redact: bool) -> list[Member]:
    """The files of the archive, by name. Raises FileNotFoundError or ManifestError where the run's own documents are missing or corrupt."""
    top = f"experiments/{paths.folder.name}"
    files = archived_files(paths.folder)
    if redact:
        return sorted(_redacted(files, paths, top), key=lambda m: m.name)
    found = [Member(f"{top}/{path.relative_to(paths.folder).as_posix()}", path) for path in files]
    found.append(Member(f"{top}/run_state.json", data=json_bytes(settled_state(paths))))
    prepared = prepared_folder(root, read_document(paths.build_manifest, "build_manifest")["prepared"])
    found += [
        Member(f"data/prepared/{prepared.name}/{p.name}", p) for p in prepared.iterdir() if p.is_file() and not LEFTOVERS.search(p.name)
    ]
    return sorted(found, key=lambda m: m.name)


def _redacted(files: Iterable[Path], paths: RunPaths, top: str) -> Iterator[Member]:
    for path in files:
        name = f"{top}/{path.relative_to(paths.folder).as_posix()}"
        if path.name in SCORES_ONLY:
            yield Member(name, path)
        elif path.name == "predictions.csv":
            yield Member(name, data=without_texts(path))


def without_texts(predictions: Path) -> bytes:
    """predictions.csv with empty cells where texts were; an error keeps its code."""
    csv.field_size_limit(sys.maxsize)
    out = io.StringIO()
    with open(predictions, encoding="utf-8", newline="") as f:
        reader = csv.DictReader(f)
        writer = csv.DictWriter(out, reader.fieldnames or [], lineterminator="\n")
        writer.writeheader()
        for row in reader:
            kept = {"error": row["error"].partition(":")[0]} if row.get("error") else {}
            writer.writerow({**row, **{c: "" for c in TEXT_COLUMNS if c in row}, **kept})
    return out.getvalue().encode()


def manifest_of(found: Iterable[Member], facts: Mapping[str, Any]) -> dict[str, Any]:
    """`archive_manifest.json` of these members (by their names relative to the project's folder). `facts` are run_id, hashes, flags."""
    files = {m.name: {"size": m.size, "sha256": m.sha256} for m in found}
    return {"schema_version": 1, **facts, "files": files, "total_bytes": sum(f["size"] for f in files.values())}


def write_tarball(target: Path, found: list[Member], manifest: Mapping[str, Any], top: str) -> None:
    """Write members and manifest, sorted, owned by nobody, of no time."""
    validate(manifest, "archive_manifest", target)
    everything = sorted([*found, Member(f"{top}/{MANIFEST}", data=json_bytes(manifest))], key=lambda m: m.name)
    with (
        atomic_writer(target) as f,
        gzip.GzipFile(filename="", mode="wb", fileobj=f, compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for member in everything:
            info = tarfile.TarInfo(member.name)
            info.size, info.mode = member.size, 0o644
            with open(member.path, "rb") if member.path else io.BytesIO(member.data or b"") as source:
                tar.addfile(info, source)


def unpack(tarball: Path, folder: Path) -> dict[str, Any]:
    """Unpack an archive below `folder` and return its manifest. Raises ManifestError for one that is damaged or not ours."""
    manifest: dict[str, Any] | None = None
    try:
        with gzip.open(tarball) as packed, tarfile.open(fileobj=packed, mode="r:") as tar:
            for info in tar:
                name = PurePosixPath(info.name)
                if not info.isfile() or name.is_absolute() or ".." in name.parts:
                    raise ManifestError(f"holds {info.name}, which no archive of ours holds", where=str(tarball))
                source = tar.extractfile(info)
                assert source is not None
                with atomic_writer(folder / name) as f:
                    while block := source.read(1 << 20):
                        f.write(block)
                if name.name == MANIFEST:
                    manifest = parse_json((folder / name).read_bytes())
            while packed.read(1 << 20):  # to the very end, where the checksum of the whole stands
                pass
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as e:
        raise ManifestError(
            f"not readable as an archive: {e}", where=str(tarball), remedy="Copy it again, or archive the run again."
        ) from e
    if manifest is None:
        raise ManifestError(f"holds no {MANIFEST}", where=str(tarball), remedy="Copy it again, or archive the run again.")
    validate(manifest, "archive_manifest", f"{tarball}:{MANIFEST}")
    return manifest
