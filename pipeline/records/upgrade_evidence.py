"""What the files of a trial prove about its stages. Where they prove nothing, the answer is `unknown`, with the reason."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.digests import sha256_file
from pipeline.base.schemas import parse_json

PART = re.compile(r"^(t[\w.]+?)_(control|treatment)(?:_p(\d+))?$")
"""A part's key in the predecessor's manifests and folders: `t0_control_p01`; without a number where there is one part only."""
PREDICTIONS = ("custom_id", "item_id", "condition", "response_text")
SCORES = ("item_key", "condition")


@dataclass(frozen=True)
class Found:
    """What the files say of one stage: `completed`, `pending` (the file is not there) or `unknown`, and why."""

    status: str
    reason: str
    files: tuple[Path, ...] = ()

    def stage(self, base: Path) -> dict[str, Any]:
        """As `stage_status` holds it. Paths are relative to `base`. There is no inputs_digest: nobody saw the stage being made."""
        artifacts = {
            path.name: {"path": path.relative_to(base).as_posix(), "size": path.stat().st_size, "sha256": sha256_file(path)}
            for path in self.files
        }
        return {"status": self.status, "updated_at": None, "inputs_digest": None, "artifacts": artifacts}


def stages(results: Path, job_status: Mapping[str, Any]) -> dict[str, Found]:
    """The stages of the trial whose result folder is `results`. Reads only."""
    reports = results.parent / "reports"
    return {
        "downloaded": _downloaded(results, job_status),
        "parsed": _table(results / "predictions.csv", PREDICTIONS),
        "scored": _table(results / "per_item_scores.csv", SCORES),
        "stats": _numbers(results / "significance.json"),
        "costs": _numbers(results / "costs.json"),
        "report": _text(next((p for p in (reports / "report.md", results / "report.md") if p.exists()), reports / "report.md")),
        "archived": _numbers(results.parents[1] / "archive_manifest.json"),
    }


def part_folders(results: Path) -> dict[str, Path]:
    """Part key -> its folder, for every folder that holds a `results.jsonl`, in the order of names."""
    found = sorted(results.glob("*/results.jsonl")) if results.is_dir() else []
    return {path.parent.name: path.parent for path in found if PART.match(path.parent.name) and path.is_file()}


def combined_files(results: Path) -> list[Path]:
    """The files into which the predecessor joined the parts: `results_combined.jsonl`, here or in a folder of its own."""
    return sorted(p for p in results.rglob("*results_combined.jsonl") if p.is_file())


def _downloaded(results: Path, job_status: Mapping[str, Any]) -> Found:
    folders, combined = part_folders(results), combined_files(results)
    expected = [key for key in job_status if PART.match(key)] or list(folders)
    if not expected and not combined:
        return Found("unknown", "no part is named in the manifest and none lies on disk")
    present = [folders[key] / "results.jsonl" for key in expected if key in folders]
    for path in [*present, *combined]:
        if fault := _fault_of_rows(path):
            return Found("unknown", f"{path.relative_to(results)}: {fault}")
    missing = [key for key in expected if key not in folders]
    if missing and not combined:
        return Found("pending", f"{missing[0]}/results.jsonl is not there")
    return Found("completed", f"{len(present)} parts, {len(combined)} joined files")


def _fault_of_rows(path: Path) -> str | None:
    rows = 0
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                return f"line {number} is not JSON"
            if not isinstance(row, dict) or not isinstance(row.get("custom_id"), str):
                return f"line {number} has no custom_id"
            rows += 1
    return None if rows else "holds no rows"


def _table(path: Path, columns: Iterable[str]) -> Found:
    if not path.is_file():
        return Found("pending", f"{path.name} is not there")
    csv.field_size_limit(sys.maxsize)
    try:
        with open(path, encoding="utf-8", newline="") as f:
            reader = csv.reader(f, strict=True)
            header = next(reader, [])
            lacking = [c for c in columns if c not in header]
            if lacking:
                return Found("unknown", f"{path.name} has no column {lacking[0]}")
            rows = 0
            for row in reader:
                rows += 1
                if len(row) != len(header):
                    return Found("unknown", f"{path.name}:{reader.line_num} has {len(row)} cells, the header {len(header)}")
    except (UnicodeDecodeError, csv.Error) as e:
        return Found("unknown", f"{path.name} is not readable as CSV: {e}")
    return Found("completed", f"{rows} rows", (path,)) if rows else Found("unknown", f"{path.name} holds a header only")


def _numbers(path: Path) -> Found:
    if not path.is_file():
        return Found("pending", f"{path.name} is not there")
    try:
        document = parse_json(path.read_bytes())
    except ValueError as e:
        return Found("unknown", f"{path.name} is not readable as JSON: {e}")
    if isinstance(document, dict) and _has_number({k: v for k, v in document.items() if k != "schema_version"}):
        return Found("completed", "holds numbers", (path,))
    return Found("unknown", f"{path.name} holds no number")


def _has_number(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_number, value.values()))
    if isinstance(value, list):
        return any(map(_has_number, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(path: Path) -> Found:
    if not path.is_file():
        return Found("pending", f"{path.name} is not there")
    return Found("completed", "has text", (path,)) if path.read_bytes().strip() else Found("unknown", f"{path.name} is empty")
