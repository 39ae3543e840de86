"""List the runs of an experiments folder: phases at a glance, progress, money, and what is unfinished. Writes nothing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import ManifestError, UsageError
from pipeline.base.schemas import read_document
from pipeline.layout import RunPaths, find_root
from pipeline.records import legacy, lock
from pipeline.records.run_state import INTERRUPTED, STEPS, RunState
from pipeline.records.submission import SubmissionRecord
from scripts.edge import Parser, command

LETTERS = {"completed": "#", "in_progress": "~", "stopped": "!", "failed": "x", "not_started": "."}


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    legend = ", ".join(f"{letter} {status}" for status, letter in LETTERS.items())
    p = Parser(prog="python -m scripts.list_runs", description=__doc__, epilog=f"phases, in the order {' '.join(STEPS)}: {legend}")
    p.add_argument("--experiments_dir", default="experiments")
    p.add_argument("--json", action="store_true", help="print everything as JSON")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0; 2 for wrong usage."""
    args = parser().parse_args(argv)
    experiments = find_root() / args.experiments_dir
    if experiments.exists() and not experiments.is_dir():
        raise UsageError("not a folder", where=str(experiments), remedy="Runs lie in a folder: name one with --experiments_dir.")
    runs = list_runs(experiments)
    if args.json:
        print(json.dumps(runs, indent=2))
    elif not runs:
        print(f"no runs in {args.experiments_dir}: doit run begins one")
    else:
        print_table(runs)
    return 0


def list_runs(experiments: Path) -> list[dict[str, Any]]:
    """What is known of every run folder below `experiments`, newest last. A damaged run is listed with its fault."""
    found = [describe(RunPaths(experiments, folder.name.removeprefix("run_"))) for folder in experiments.glob("run_*") if folder.is_dir()]
    return sorted(found, key=lambda run: (run["updated_at"] or "", run["run_id"]))


def describe(paths: RunPaths) -> dict[str, Any]:
    """One run: status, phases, answers, money."""
    run: dict[str, Any] = {
        "run_id": paths.run_id,
        "status": "",
        "provider": None,
        "migrated": False,
        "phases": {},
        "updated_at": None,
        "fault": None,
    }
    run |= progress(paths)
    try:
        state = RunState.load(paths.state)
    except FileNotFoundError:
        return run | {"status": "predecessor's" if legacy.unadopted(paths) else "no state"}
    except ManifestError as e:
        return run | {"status": "damaged", "fault": e.fact}
    phases = {step: phase["status"] for step, phase in state["phases"].items()}
    times = [phase["updated_at"] for phase in state["phases"].values() if phase["updated_at"]]
    return run | {
        "provider": state["provider"],
        "migrated": state["migrated"],
        "phases": phases,
        "updated_at": max(times, default=None),
        "status": _status(paths, state, phases),
        "fault": next((p["last_error"] for p in state["phases"].values() if p["status"] in ("failed", "stopped")), None),
    }


def _status(paths: RunPaths, state: RunState, phases: dict[str, str]) -> str:
    if lock.holder(paths.lock) is not None:
        return "running"
    if "failed" in phases.values():
        return "failed"
    if "in_progress" in phases.values() or any(
        p["last_error"] == INTERRUPTED for p in state["phases"].values() if p["status"] == "stopped"
    ):
        return "interrupted"
    if "stopped" in phases.values() or state["stop_requested"]:
        return "stopped"
    return "finished" if all(phases[step] == "completed" for step in STEPS if step != "archive") else "unfinished"


def progress(paths: RunPaths) -> dict[str, Any]:
    """Requests built and answered, requests given up, and dollars: billed, and reserved for jobs whose bill is not known yet."""
    asked = answered = failed = 0
    billed = reserved = 0.0
    try:
        units = read_document(paths.build_manifest, "build_manifest")["units"]
    except (FileNotFoundError, ManifestError):
        units = {}
    for slug, unit in units.items():
        for key, shard in unit["shards"].items():
            asked += shard["requests"]
            try:
                record = SubmissionRecord.load(paths.shard(slug, key))
            except (FileNotFoundError, ManifestError):
                continue
            answered += record.answered
            failed += len(record["failed"])
            billed += record.billed_usd
            reserved += sum(a["reserved_usd"] or 0.0 for a in record["attempts"] if a["billed_usd"] is None)
    return {"requests": asked, "answered": answered, "failed": failed, "billed_usd": round(billed, 9), "reserved_usd": round(reserved, 9)}


def print_table(runs: Sequence[dict[str, Any]]) -> None:
    """One line a run; faults below it."""
    head = ("run", "status", "phases", "answered", "billed", "provider", "updated")
    rows = [
        (
            run["run_id"],
            run["status"] + (" (adopted)" if run["migrated"] else ""),
            "".join(LETTERS[run["phases"].get(step, "not_started")] for step in STEPS),
            f"{run['answered']}/{run['requests']}" + (f" ({run['failed']} failed)" if run["failed"] else ""),
            f"${run['billed_usd']:.2f}" + (f" (+{run['reserved_usd']:.2f} reserved)" if run["reserved_usd"] else ""),
            run["provider"] or "",
            (run["updated_at"] or "")[:16].replace("T", " "),
        )
        for run in runs
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row, run in zip((head, *rows), ({}, *runs), strict=True):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if run.get("fault"):
            print(f"    {run['fault']}")
    print(f"phases: {' '.join(STEPS)};  " + "  ".join(f"{letter} {status}" for status, letter in LETTERS.items()))


if __name__ == "__main__":
    raise SystemExit(main())
