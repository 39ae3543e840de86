"""The smoke: strike a run at every checkpoint in every way, run it again, and see that nothing was lost, doubled or changed.

Every case has a project folder and a remote of its own. The child announces checkpoints and waits; this script strikes at that
very point. After the strike the folder is copied, so that one copy goes on with --resume and the other without.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.base.errors import UsageError
from scripts.edge import Parser, command
from scripts.inspect_run import problems_of, result_files, the_run
from scripts.strikes import kill, make_project, run_child, terminate, warm_up

POINTS = {
    "post-build": ("post-build", 2),
    "mid-submission": ("submit:created", 2),
    "mid-polling": ("poll:kept", 2),
    "pre-parse": ("pre-parse", 1),
}
"""Stop point -> the checkpoint at which it is struck, and at which announcement of it."""
HOWS = ("SIGKILL", "SIGTERM", "STOP")
EXIT = {"SIGKILL": -9, "SIGTERM": 3, "STOP": 3}


@dataclass
class Case:
    """One strike and one way on."""

    stop_point: str
    how: str
    resume: bool
    struck: bool = False
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The case in one line."""
        name = f"{self.stop_point:<15} {self.how:<8} {'--resume' if self.resume else 'plain   '}"
        return f"{'ok  ' if not self.problems else 'FAIL'} {name} {self.seconds:5.1f} s" + "".join(
            f"\n       {p}" for p in self.problems[:6]
        )


def striker(how: str, project: Path) -> Callable[[int], None]:
    """What a strike does to the child."""
    if how == "SIGKILL":
        return kill
    if how == "SIGTERM":
        return terminate

    def ask(_pid: int) -> None:
        (the_run(project) / "STOP_REQUESTED").touch()

    return ask


def strike_and_rerun(
    folder: Path, point: str, how: str, words: list[str], reference: dict[str, bytes], fork: bool, billed: bool
) -> list[Case]:
    """Both ways on after one strike."""
    project = make_project(folder / f"{point}-{how}-plain")
    name, nth = POINTS[point]
    cases = [Case(point, how, False), Case(point, how, True)]
    start = time.monotonic()
    ended = run_child(project, words, lambda n, count: n == name and count == nth, striker(how, project), fork=fork)
    problems = []
    if ended.struck_at is None:
        problems.append(f"the checkpoint {name!r} never came (exit {ended.code}): {ended.last_words}")
    elif ended.code != EXIT[how]:
        problems.append(f"struck: exit {ended.code}, expected {EXIT[how]}: {ended.last_words}")
    twin = folder / f"{point}-{how}-resume"
    shutil.copytree(project, twin)
    for case, place in zip(cases, (project, twin), strict=True):
        case.struck = ended.struck_at is not None
        again = run_child(place, [*words, "--resume"] if case.resume else words, fork=fork)
        case.problems += problems
        if again.code != 0:
            case.problems.append(f"rerun: exit {again.code}, expected 0: {again.last_words}")
        else:
            case.problems += problems_of(place, reference, billed=billed)
        case.seconds = time.monotonic() - start
        start = time.monotonic()
    return cases


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases; exit 1 if any fails."""
    parser = Parser(prog="python -m scripts.smoke_orchestration", description=__doc__)
    parser.add_argument("--n", type=int, default=3, help="shards per unit [default: 3]")
    parser.add_argument("--items", type=int, default=12, help="items per source [default: 12]")
    parser.add_argument("--prompt_set", default="operational_only", help="prompt set to run [default: operational_only]")
    parser.add_argument("--config", default="config/eval_config.yaml", help="config [default: config/eval_config.yaml]")
    parser.add_argument("--dry_run", action="store_true", help="ask the simulated provider (else the configured one)")
    parser.add_argument("--stop_point", action="append", choices=tuple(POINTS), help="only this stop point; may be repeated")
    parser.add_argument("--how", action="append", choices=HOWS, help="only this way to die; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all cases")
    args = parser.parse_args(argv)
    if args.n < 1 or args.items < 1:
        raise UsageError("give 1 or more", where="--n, --items")
    words = [
        "--config",
        args.config,
        "--prompt_sets",
        args.prompt_set,
        "--parts_per_dataset",
        str(args.n),
        "--limit_items",
        str(args.items),
        "--quiet",
    ]
    words += ["--dry_run"] if args.dry_run else []
    folder = Path(tempfile.mkdtemp(prefix="abiding-smoke-"))
    if args.dry_run:
        warm_up()
    cases: list[Case] = []
    try:
        whole = make_project(folder / "reference")
        ended = run_child(whole, words, fork=args.dry_run)
        if ended.code != 0:
            raise UsageError(f"the uninterrupted run fails (exit {ended.code}): {ended.last_words}", remedy="Mend that first.")
        reference = result_files(the_run(whole))
        if not args.json:
            print(f"reference: {len(reference)} result files")
        for problem in problems_of(whole, reference, billed=args.dry_run):
            raise UsageError(f"the uninterrupted run is not sound: {problem}")
        strikes = [(point, how) for point in args.stop_point or POINTS for how in args.how or HOWS]
        # Side by side as the machine allows; a local model wants the machine for itself.
        with ProcessPoolExecutor(
            min(4, os.cpu_count() or 1) if args.dry_run else 1, mp_context=multiprocessing.get_context("fork")
        ) as pool:
            futures = [
                pool.submit(strike_and_rerun, folder, point, how, words, reference, args.dry_run, args.dry_run) for point, how in strikes
            ]
            for future in futures:
                for case in future.result():
                    cases.append(case)
                    if not args.json:
                        print(case.line, flush=True)
    finally:
        if args.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    failed = sum(bool(c.problems) for c in cases)
    if args.json:
        print(json.dumps({"cases": [asdict(c) for c in cases], "passed": len(cases) - failed, "failed": failed}, indent=2))
    else:
        print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
