"""Rechecking a run: every document by its schema, every checksum, every count. Reads only; says what is damaged, in words."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.digests import sha256_file
from pipeline.base.errors import AbidingError, ManifestError
from pipeline.base.rows import Item, RequestRow, ResultRow, read_rows
from pipeline.base.schemas import problems, read_document
from pipeline.config import read_yaml
from pipeline.layout import RunPaths, prepared_folder
from pipeline.records.events import fault_of_log
from pipeline.records.repair import fault_of_build, fault_of_prepared
from pipeline.records.run_state import RunState
from pipeline.records.submission import fault_of_twin, read_submission
from pipeline.records.tarball import TRAVELLING


@dataclass
class Findings:
    """What was checked, and what is wrong: file (as shown) -> reasons."""

    damage: dict[str, list[str]] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    rows: int = 0

    def wrong(self, path: Path | str, reason: str) -> None:
        """Note damage, once."""
        reasons = self.damage.setdefault(str(path), [])
        if reason not in reasons:
            reasons.append(reason)


class Verification:
    """The checks of one run folder."""

    def __init__(self, paths: RunPaths, root: Path, *, packed: bool = False) -> None:
        """`root` is the folder of `dodo.py`; or (`packed`) of an unpacked archive, which holds no trial manifests."""
        self.paths, self.root, self.packed, self.found = paths, root, packed, Findings()

    def run(self) -> Findings:
        """All checks."""
        state = self._document(self.paths.state, lambda p: RunState.load(p).document, required=True)
        self._config()
        self._events(state)
        build = self._document(self.paths.build_manifest, lambda p: _checked(p, "build_manifest", fault_of_build), required=False)
        if build is not None:
            self._prepared(build["prepared"])
            for slug, unit in build["units"].items():
                for key, shard in unit["shards"].items():
                    self._shard(slug, key, shard)
            counts = {slug: sum(s["requests"] for s in unit["shards"].values()) for slug, unit in build["units"].items()}
            for results in sorted(p for p in self.paths.folder.glob("*/results") if p.is_dir()):
                self._trial(results / "trial_manifest.json", counts)
        for step, receipt in state["receipts"].items() if state else ():
            self._artifacts(receipt["artifacts"], f"run_state.json, {step}")
        self._archive()
        return self.found

    # --- single files -----------------------------------------------------------------------------------------------------

    def _document(self, path: Path, load: Callable[[Path], Any], *, required: bool) -> Any:
        self.found.files.add(path)
        try:
            return load(path)
        except FileNotFoundError:
            if required:
                self.found.wrong(path, "is missing")
        except AbidingError as e:
            self.found.wrong(path, e.fact)
        return None

    def _bytes(self, path: Path, size: int, sha256: str, says: str) -> bool:
        self.found.files.add(path)
        if not path.is_file():
            self.found.wrong(path, f"is missing ({says})")
        elif path.stat().st_size != size:
            self.found.wrong(path, f"has {path.stat().st_size} bytes, {size} are expected ({says})")
        elif sha256_file(path) != sha256:
            self.found.wrong(path, f"has other bytes than its checksum ({says})")
        else:
            return True
        return False

    def _artifacts(self, artifacts: Mapping[str, Any], says: str) -> None:
        for artifact in artifacts.values():
            self._bytes(self._place(artifact["path"]), artifact["size"], artifact["sha256"], says)

    def _place(self, name: str) -> Path:
        """Where an artifact lies: below the root; in a moved or unpacked run below its folder."""
        path = self.root / name
        mark = f"/{self.paths.folder.name}/"
        if not path.exists() and mark in f"/{name}":
            return self.paths.folder / f"/{name}".partition(mark)[2]
        return path

    def _config(self) -> None:
        def load(path: Path) -> Any:
            data = read_yaml(path)[0] if path.exists() else read_document(path, "eval_config")
            if faults := problems(data, "eval_config"):
                raise ManifestError(faults[0])
            return data

        self._document(self.paths.effective_config, load, required=True)

    def _events(self, state: Mapping[str, Any] | None) -> None:
        path = self.paths.events
        self.found.files.add(path)
        if fault := fault_of_log(path, state.get("events") if state else None):
            self.found.wrong(path, fault)
        elif path.is_file() and (data := path.read_bytes()) and not data.endswith(b"\n"):
            self.found.wrong(path, "its last line is torn")

    # --- items, shards, trials ----------------------------------------------------------------------------------------------

    def _prepared(self, prepared_id: str) -> None:
        folder = prepared_folder(self.root, prepared_id)
        document = self._document(
            folder / "prepared_manifest.json", lambda p: _checked(p, "prepared_manifest", fault_of_prepared), required=True
        )
        if document is None:
            return
        for name, artifact in document["files"].items():
            path = folder / name
            if self._bytes(path, artifact["size"], artifact["sha256"], "prepared_manifest.json"):
                counted, said = self._count(read_rows(path, Item), path), document["counts"][name.partition("_")[0]]["items"]
                if counted != said:
                    self.found.wrong(path, f"holds {counted} items, prepared_manifest.json says {said}")

    def _count(self, rows: Iterator[Any], path: Path) -> int:
        count = 0
        try:
            for _row in rows:
                count += 1
        except ManifestError as e:
            self.found.wrong(path, str(e))
        self.found.rows += count
        return count

    def _shard(self, unit: str, key: str, shard: Mapping[str, Any]) -> None:
        paths = self.paths.shard(unit, key)
        whole = self._bytes(paths.rows, shard["bytes"], shard["sha256"], "build_manifest.json")
        record = self._document(paths.submission, read_submission, required=False)
        if record is None or record["results"] is None:
            return
        if fault := fault_of_twin(paths):
            self.found.wrong(paths.submission_twin, fault)
        if record["shard"]["sha256"] != shard["sha256"]:
            self.found.wrong(paths.submission, "is about other requests than build_manifest.json names")
        if self._bytes(paths.results, record["results"]["size"], record["results"]["sha256"], "submission.json") and whole:
            self._answers(paths.rows, paths.results, shard["requests"])

    def _answers(self, rows: Path, results: Path, requests: int) -> None:
        try:
            asked = [row.custom_id for row in read_rows(rows, RequestRow)]
            got = [row.custom_id for row in read_rows(results, ResultRow)]
        except ManifestError as e:
            self.found.wrong(results, str(e))
            return
        self.found.rows += len(asked) + len(got)
        if len(asked) != requests:
            self.found.wrong(rows, f"holds {len(asked)} requests, build_manifest.json says {requests}")
        if asked != got:
            self.found.wrong(results, "answers and requests do not match one to one")

    def _trial(self, path: Path, counts: Mapping[str, int]) -> None:
        manifest = self._document(path, lambda p: read_document(p, "trial_manifest.v2"), required=not self.packed)
        results = path.parent
        for name in ("significance", "costs", "provenance"):
            self._document(results / f"{name}.json", lambda p, name=name: read_document(p, name), required=False)  # type: ignore[misc]
        if manifest is None:
            return
        if manifest["trial"].get("slug") != results.parent.name:
            self.found.wrong(path, f"is about trial {manifest['trial'].get('slug')}")
        for stage, said in manifest["stage_status"].items():
            if said["status"] == "completed":
                self._artifacts(said["artifacts"], f"trial_manifest.json, {stage}")
        units = manifest["trial"].get("units")
        if isinstance(units, dict) and manifest["stage_status"]["parsed"]["status"] == "completed":
            self._tables(results, sum(counts.get(slug, 0) for slug in units.values()), manifest)

    def _tables(self, results: Path, requests: int, manifest: Mapping[str, Any]) -> None:
        predictions, scores = _rows(results / "predictions.csv"), _rows(results / "per_item_scores.csv")
        if predictions is None or scores is None:
            return  # missing or torn: their checksums have told
        self.found.rows += len(predictions) + len(scores)
        if len(predictions) != requests and len(manifest["temps"]) * 2 == len({(p["condition"], p["temp"]) for p in predictions}):
            self.found.wrong(results / "predictions.csv", f"holds {len(predictions)} rows for {requests} requests")
        places = {(f"{p['dataset']}|{p['item_id']}", p["type"], p["condition"], p["temp"]) for p in predictions}
        if places != {(s["item_key"], s["type"], s["condition"], s["temp"]) for s in scores}:
            self.found.wrong(
                results / "per_item_scores.csv", "does not hold one row per item, condition and temperature of predictions.csv"
            )

    # --- the run --------------------------------------------------------------------------------------------------------------

    def _archive(self) -> None:
        manifest = self._document(self.paths.archive_manifest, lambda p: read_document(p, "archive_manifest"), required=False)
        for name, said in manifest["files"].items() if manifest else ():
            path = self.root / name if name.startswith(("experiments/", "data/")) else self.paths.folder / name
            if Path(name).name not in TRAVELLING:
                self._bytes(path, said["size"], said["sha256"], "archive_manifest.json")


def _checked(path: Path, name: str, fault_of: Callable[[Mapping[str, Any]], str | None]) -> Any:
    document = read_document(path, name)
    if fault := fault_of(document):
        raise ManifestError(fault, where=str(path))
    return document


def _rows(path: Path) -> list[dict[str, str]] | None:
    csv.field_size_limit(sys.maxsize)
    try:
        with open(path, encoding="utf-8", newline="") as f:
            return list(csv.DictReader(f, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None


def verify_archive(manifest: Mapping[str, Any], folder: Path) -> Findings:
    """The checks of an archive unpacked below `folder`: each file against the archive's own manifest, and the run in it unless redacted."""
    run_folder = next(iter(sorted((folder / "experiments").glob("run_*"))), folder)
    paths = RunPaths(folder / "experiments", run_folder.name.removeprefix("run_"))
    check = Verification(paths, folder, packed=True)
    for name, said in manifest["files"].items():
        check._bytes(folder / name, said["size"], said["sha256"], "archive_manifest.json")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != "archive_manifest.json"}
    for name in sorted(present - set(manifest["files"])):
        check.found.wrong(folder / name, "is not in archive_manifest.json")
    findings = check.found if manifest["redacted"] else check.run()
    return Findings(
        {str(Path(k).relative_to(folder)) if Path(k).is_relative_to(folder) else k: v for k, v in findings.damage.items()},
        findings.files,
        findings.rows,
    )
