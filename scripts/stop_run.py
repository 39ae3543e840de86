"""Ask a running run to stop softly: `python -m scripts.stop_run --run_id R`. An idle run is left as it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import UsageError
from pipeline.base.files import write_atomic
from pipeline.layout import RunPaths, find_root
from pipeline.records.lock import describe, holder
from scripts.edge import Parser, command


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Write STOP_REQUESTED where somebody holds the run's lock; say so where nobody does."""
    parser = Parser(prog="python -m scripts.stop_run", description=__doc__)
    parser.add_argument("--run_id", required=True, help="the run to stop (see python -m scripts.list_runs)")
    parser.add_argument("--experiments_dir", default="experiments", help="folder of runs [default: experiments]")
    args = parser.parse_args(argv)
    paths = RunPaths(Path(find_root(), args.experiments_dir), args.run_id)
    if not paths.folder.is_dir():
        raise UsageError(f"there is no run {args.run_id}", where=args.experiments_dir, remedy="See python -m scripts.list_runs.")
    found = holder(paths.lock)
    if found is None:
        print(f"run {args.run_id} is not running: nothing to stop")
        return 0
    write_atomic(paths.stop_request, "")
    print(f"asked {describe(found)} to stop; it finishes what is in hand and exits 3")
    return 0


if __name__ == "__main__":
    sys.exit(main())
