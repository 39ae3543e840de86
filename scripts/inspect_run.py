"""What must hold of a finished run, whatever happened on the way: the one inspection behind the smoke and the kill storm."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from pipeline.base.errors import AbidingError
from pipeline.base.files import TEMP_MARK
from pipeline.base.rows import RequestRow, ResultRow, read_rows
from pipeline.base.schemas import read_document

DETERMINISTIC = (
    "predictions.csv",
    "per_item_scores.csv",
    "significance.json",
    "costs.json",
    "report.md",
    "report.html",
    "aggregate_report.md",
    "results.jsonl",
    "results.csv",
    "results.parquet",
)
LEFTOVERS = ("collected.jsonl", "journal.jsonl", "rows.jsonl", "STOP_REQUESTED")


def result_files(run: Path) -> dict[str, bytes]:
    """The files of a run that must be the same bytes however often it was interrupted."""
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file() and p.name in DETERMINISTIC}


def the_run(project: Path) -> Path:
    """The one run folder of a project."""
    (found,) = sorted((project / "experiments").glob("run_*"))
    return found


def problems_of(project: Path, reference: dict[str, bytes], *, billed: bool = True) -> list[str]:
    """Everything that is wrong with the finished run of `project`, a line each; empty when all is well."""
    run = the_run(project)
    return [*_records(run), *_requests(run), *(_bill(project, run) if billed else []), *_bytes(run, reference), *_litter(project)]


def _records(run: Path) -> list[str]:
    found = []
    try:
        state = read_document(run / "run_state.json", "run_state")
        found += [f"phase {step} is {phase['status']}" for step, phase in state["phases"].items() if phase["status"] != "completed"]
        manifests = sorted(run.glob("*/results/trial_manifest.json"))
        if not manifests:
            found.append("no trial manifest")
        for path in manifests:
            manifest = read_document(path, "trial_manifest.v2")
            found += [
                f"stage {name} is {stage['status']}" for name, stage in manifest["stage_status"].items() if stage["status"] != "completed"
            ]
            found += [f"job {key} is {status}" for key, status in manifest["job_status"].items() if status != "downloaded"]
    except (AbidingError, OSError) as e:
        found.append(f"record: {e}")
    return found


def _requests(run: Path) -> list[str]:
    """No custom_id missing, twice or foreign, in any shard's answers or in predictions.csv."""
    found = []
    asked: Counter[str] = Counter()
    for shard in sorted(run.glob("batch_inputs/*/*.jsonl")):
        ids = [row.custom_id for row in read_rows(shard, RequestRow)]
        asked.update(ids)
        results = run / "answers" / shard.parent.name / shard.stem / "results.jsonl"
        try:
            answered = [row.custom_id for row in read_rows(results, ResultRow)]
        except (AbidingError, OSError) as e:
            found.append(f"answers: {e}")
            continue
        if answered != ids:
            found.append(f"{shard.parent.name}/{shard.stem}: {len(ids)} asked, {len(answered)} answered, {len({*ids} ^ {*answered})} amiss")
    found += [f"custom_id {c} stands {n} times in the shards" for c, n in asked.items() if n > 1]
    for path in sorted(run.glob("*/results/predictions.csv")):
        if not (path.parent / "trial_manifest.json").exists():
            found.append(f"{path.parent.parent.name}: no trial manifest")
            continue
        with open(path, newline="", encoding="utf-8") as f:
            parsed = Counter(row["custom_id"] for row in csv.DictReader(f))
        units = json.loads((path.parent / "trial_manifest.json").read_bytes())["trial"]["units"].values()
        wanted = {
            row.custom_id for unit in units for shard in run.glob(f"batch_inputs/{unit}/*.jsonl") for row in read_rows(shard, RequestRow)
        }
        found += [f"predictions.csv: {c} stands {n} times" for c, n in parsed.items() if n > 1]
        if set(parsed) != wanted:
            found.append(f"predictions.csv: {len(wanted - set(parsed))} missing, {len(set(parsed) - wanted)} foreign")
    return found


def bill_of(project: Path) -> Counter[str]:
    """How often each custom_id was billed by the simulated remote."""
    remote = project / "experiments" / "simulated_remote.db"
    if not remote.exists():
        return Counter()
    with closing(sqlite3.connect(remote)) as db:
        return Counter(dict(db.execute("select custom_id, count(*) from bill group by custom_id").fetchall()))


def _bill(project: Path, run: Path) -> list[str]:
    bill = bill_of(project)
    asked = {row.custom_id for shard in run.glob("batch_inputs/*/*.jsonl") for row in read_rows(shard, RequestRow)}
    if not bill:
        return ["nothing was billed: the check sees no remote at work"]
    twice = [c for c, n in bill.items() if n > 1]
    found = [f"{len(twice)} requests were billed more than once ({sum(bill.values())} bills for {len(bill)} requests)"] if twice else []
    if set(bill) != asked:
        found.append(f"bill: {len(asked - set(bill))} requests never billed, {len(set(bill) - asked)} billed that nobody asked")
    return found


def _bytes(run: Path, reference: dict[str, bytes]) -> list[str]:
    found = result_files(run)
    wrong = [name for name in reference if found.get(name) != reference[name]]
    return [f"{name} differs from the uninterrupted run's" if name in found else f"{name} is missing" for name in wrong] + [
        f"{name} is there, in the uninterrupted run it is not" for name in found if name not in reference
    ]


def _litter(project: Path) -> list[str]:
    return [
        f"left behind: {p.relative_to(project)}" for p in project.rglob("*") if p.is_file() and (TEMP_MARK in p.name or p.name in LEFTOVERS)
    ]
