"""Recheck a run or an archive: every schema, every checksum, every count. Names what is damaged and how it is repaired; writes nothing."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import UsageError
from pipeline.layout import RunPaths, find_root
from pipeline.records.tarball import unpack
from pipeline.records.verify import Findings, Verification, verify_archive
from scripts.edge import Parser, command


def parser() -> argparse.ArgumentParser:
    """The command line of this script."""
    p = Parser(prog="python -m scripts.verify_run", description=__doc__)
    p.add_argument("run", metavar="RUN", help="a run's id, its folder, or an archive (.tar.gz)")
    p.add_argument("--experiments_dir", default="experiments")
    p.add_argument("--json", action="store_true", help="print the findings as JSON")
    return p


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0: all is as it was written. 1: something is damaged. 2: wrong usage, or there is no such run."""
    args = parser().parse_args(argv)
    found, remedy = _check(args.run, args.experiments_dir)
    if args.json:
        print(json.dumps({"files": len(found.files), "rows": found.rows, "damage": found.damage}, indent=2))
    else:
        for path, reasons in sorted(found.damage.items()):
            print(f"{path}: {'; '.join(reasons)}")
        verdict = f"{len(found.damage)} damaged" if found.damage else "all as it was written"
        print(f"{len(found.files)} files, {found.rows} rows checked: {verdict}")
        if found.damage:
            print(remedy)
    return 1 if found.damage else 0


def _check(name: str, experiments: str) -> tuple[Findings, str]:
    path = Path(name)
    if path.is_file():
        with tempfile.TemporaryDirectory(prefix="abiding-verify-") as folder:
            found = verify_archive(unpack(path, Path(folder)), Path(folder))
        return found, "Fetch the archive again, or pack the run again: python -m scripts.archive"
    root = find_root()
    if path.is_dir() and path.name.startswith("run_"):
        paths = RunPaths(path.resolve().parent, path.resolve().name.removeprefix("run_"))
    else:
        paths = RunPaths(root / experiments, name)
    if not paths.folder.is_dir():
        known = sorted(p.name.removeprefix("run_") for p in paths.experiments.glob("run_*")) if paths.experiments.is_dir() else []
        raise UsageError(f"there is no run {paths.run_id}", where=str(paths.folder), remedy=f"Runs here: {', '.join(known[:8]) or 'none'}.")
    found = Verification(paths, root).run()
    shown = {str(Path(k).relative_to(root)) if Path(k).is_relative_to(root) else k: v for k, v in found.damage.items()}
    return Findings(shown, found.files, found.rows), f"Repair it: doit run --run_id {paths.run_id} --resume --verify"


if __name__ == "__main__":
    raise SystemExit(main())
