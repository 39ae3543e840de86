"""Pack a run into one reproducible tar.gz for sharing: unpacked in an empty clone it re-runs from parse, offline, to the same bytes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import UsageError
from pipeline.base.schemas import read_document
from pipeline.layout import RunPaths, find_root
from pipeline.records import tarball
from scripts.edge import Parser, command

NEXT = """unpack and re-run it: tar xzf {name} && doit run --run_id {run_id} --resume --from_step parse"""


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    p = Parser(prog="python -m scripts.archive", description=__doc__)
    p.add_argument("run_id", metavar="RUN_ID")
    p.add_argument("--experiments_dir", default="experiments")
    p.add_argument("--redact", action="store_true", help="drop all texts (prompts, items, answers, reports), keep scores and statistics")
    p.add_argument("--incomplete", action="store_true", help="pack a run that is not finished")
    p.add_argument("--out", type=Path, help="the file to write [default: <RUN_ID>.tar.gz, or <RUN_ID>.redacted.tar.gz]")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when it is written; 2 for wrong usage or an unfinished run."""
    args = parser().parse_args(argv)
    root = find_root()
    print(pack(root, RunPaths(root / args.experiments_dir, args.run_id), redact=args.redact, incomplete=args.incomplete, out=args.out))
    return 0


def pack(root: Path, paths: RunPaths, *, redact: bool, incomplete: bool, out: Path | None) -> str:
    """Write the tarball; returns what to tell the person. Raises UsageError for a run that is not there, or not finished."""
    try:
        state = read_document(paths.state, "run_state")
    except FileNotFoundError:
        raise UsageError(f"there is no run {paths.run_id}", where=str(paths.folder), remedy="See python -m scripts.list_runs.") from None
    owed = [step for step, phase in state["phases"].items() if phase["status"] != "completed" and step != "archive"]
    if owed and not incomplete:
        raise UsageError(
            f"step {owed[0]} is not completed",
            where=str(paths.folder),
            remedy=f"Finish it (doit run --run_id {paths.run_id} --resume), or say --incomplete.",
        )
    target = out or Path(f"{paths.run_id}{'.redacted' if redact else ''}.tar.gz")
    if target.is_dir():
        raise UsageError("is a folder", where=str(target), remedy=f"Name a file: --out {target / f'{paths.run_id}.tar.gz'}")
    facts = {
        "run_id": paths.run_id,
        "request_hash": state["request_hash"],
        "config_hash": state["config_hash"],
        "redacted": redact,
        "complete": not owed,
    }
    try:
        found = tarball.members(paths, root, redact=redact)
    except FileNotFoundError as e:
        remedy = f"Repair the run (doit run --run_id {paths.run_id} --resume --verify), then pack it."
        raise UsageError("is missing", where=str(e.filename), remedy=remedy) from None
    tarball.write_tarball(target, found, tarball.manifest_of(found, facts), f"experiments/{paths.folder.name}")
    said = f"{target}: {len(found)} files, {target.stat().st_size} bytes"
    return said if redact else f"{said}\n{NEXT.format(name=target.name, run_id=paths.run_id)}"


if __name__ == "__main__":
    raise SystemExit(main())
