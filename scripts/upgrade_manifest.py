"""Upgrade trial manifests of the predecessor to version 2, with a backup beside each; corrupt ones are rebuilt from their files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.records.upgrade_files import Outcome, find, upgrade_file
from scripts.edge import Parser, command

WORDS = {"current": "is version 2 already", "kept": "stays as it is", "refused": "refused"}


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    p = Parser(prog="python -m scripts.upgrade_manifest", description=__doc__)
    p.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a trial_manifest.json, or a folder to search (a run, experiments)")
    p.add_argument("--dry_run", action="store_true", help="say what would be done, write nothing")
    p.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0: all are version 2 now. 2: wrong usage, or one was refused because it is newer."""
    args = parser().parse_args(argv)
    outcomes = [upgrade_file(path, dry_run=args.dry_run) for path in find(args.paths)]
    if args.json:
        print(json.dumps({"dry_run": args.dry_run, "manifests": [_plain(o) for o in outcomes]}, indent=2))
    else:
        for outcome in outcomes:
            _tell(outcome, args.dry_run)
        if not outcomes:
            print("no trial manifest there")
    return 2 if any(o.action == "refused" for o in outcomes) else 0


def _plain(o: Outcome) -> dict[str, object]:
    return {
        "path": str(o.path),
        "action": o.action,
        "reason": o.reason,
        "beside": str(o.beside) if o.beside else None,
        "unknown": o.unknown,
    }


def _tell(o: Outcome, dry_run: bool) -> None:
    said = WORDS.get(o.action) or (f"would be {o.action}" if dry_run else o.action)
    beside = f"; the original is beside as {o.beside.name}" if o.beside else ""
    print(f"{o.path}: {said}{f' ({o.reason})' if o.reason and o.action != 'current' else ''}{beside}")
    for line in o.unknown:
        print(f"  unknown: {line}; doit run --resume --from_step parse makes it anew from the answers")


if __name__ == "__main__":
    raise SystemExit(main())
