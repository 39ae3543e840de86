"""The demonstration under SIGKILL: `make demo-fireworks`, killed again and again, ends in one bill and in the bytes of a calm run.

Each kill strikes the run at a random announcement, or a random moment after it; its server dies with it and comes back with it. A run that
ends before all kills have landed is inspected, and a new one takes the rest. Afterwards the same experiment under another run id must
bill nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pipeline.base.errors import UsageError
from pipeline.layout import find_root
from scripts.demo_fireworks import CONFIG
from scripts.edge import Parser, command
from scripts.inspect_run import problems_of, result_files
from scripts.strikes import Decide, Ended, kill, make_project, run_child

DEMO = ("-m", "scripts.demo_fireworks")
AT_A_MOMENT = 0.3
"""Share of the kills that strike a moment after an announcement, wherever the run is by then."""


def demo_project(folder: Path, port: int) -> Path:
    """A project folder of its own, whose demonstration listens on `port`."""
    project = make_project(folder)
    path = project / CONFIG
    path.write_text(path.read_text("utf-8").replace(":8765", f":{port}"), "utf-8")
    return project


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def nth(number: int) -> Decide:
    """Strike at the `number`-th announcement, whatever its name."""
    counted = itertools.count(1)
    return lambda _name, _count: next(counted) == number


def run_demo(project: Path, words: Sequence[str] = (), decide: Decide | None = None, delay: float = 0.0) -> Ended:
    """The demonstration in `project`, killed where `decide` says so, or `delay` seconds later."""
    environment = {"PYTHONPATH": os.pathsep.join([str(find_root()), *filter(None, [os.environ.get("PYTHONPATH")])])}
    return run_child(project, ["--quiet", *words], decide, kill, command=DEMO, environment=environment, delay=delay)


def bill(project: Path) -> tuple[int, int]:
    """(rows billed, requests among them) by the server's own count, from its memory."""
    with closing(sqlite3.connect(project / "experiments" / "demo_fireworks_server.db")) as db:
        billed, requests = db.execute("select count(*), count(distinct custom_id) from bill").fetchone()
    return int(billed), int(requests)


def faults_of(project: Path, reference: dict[str, bytes], requests: int) -> list[str]:
    """What is wrong with a finished demonstration, a line each."""
    found = problems_of(project, reference, billed=False)
    if bill(project) != (requests, requests):
        found.append("{} rows billed for {} requests, the calm run had {}".format(*bill(project), requests))
    return found


def under_another_id(project: Path, reference: dict[str, bytes], requests: int) -> list[str]:
    """What is wrong with the same experiment under another run id, which must take every answer from the store."""
    again = run_demo(project, ["--run_id", "again"])
    if again.code:
        return [f"--run_id again: exit {again.code}: {again.last_words}"]
    found = result_files(project / "experiments" / "run_again")
    wrong = [f"--run_id again: {name} differs" for name in reference if found.get(name) != reference[name]]
    if bill(project) != (requests, requests):
        wrong.append("--run_id again: {} rows billed for {} requests".format(*bill(project)))
    return wrong


def storm(folder: Path, port: int, kills: int, rng: random.Random) -> tuple[int, int, int, list[str]]:
    """(kills that landed, runs, requests of a run, problems)."""
    calm = demo_project(folder / "calm", port)
    ended = run_demo(calm)
    if ended.code:
        raise UsageError(f"the calm run fails (exit {ended.code}): {ended.last_words}", remedy="Mend that first.")
    experiments = calm / "experiments"
    (run,) = experiments.glob("run_*")
    reference, (billed, requests) = result_files(run), bill(calm)
    problems = [f"the calm run was billed {billed} rows for {requests} requests"] if billed != requests else []
    landed, runs, stride = 0, 1, max(1, 2 * len(ended.announced) // kills)
    project = demo_project(folder / "run-1", port)
    while len(problems) < 20:
        if landed == kills:
            ended = run_demo(project)
        else:
            delay = rng.uniform(0.01, 1.0) if rng.random() < AT_A_MOMENT else 0.0
            ended = run_demo(project, decide=nth(rng.randint(1, stride)), delay=delay)
        landed += ended.code == -9
        if ended.code == 0:
            problems += [f"run {runs}: {fault}" for fault in faults_of(project, reference, requests)]
            if landed >= kills:
                break
            runs += 1
            project = demo_project(folder / f"run-{runs}", port)
        elif ended.code != -9:
            problems.append(f"run {runs}: exit {ended.code}: {ended.last_words}")
    return landed, runs, requests, problems + under_another_id(project, reference, requests)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the storm; exit 1 where anything was lost, billed twice or changed."""
    parser = Parser(prog="python -m scripts.fireworks_storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="kills that must land [default: 10]")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments [default: 1]")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    args = parser.parse_args(argv)
    if args.kills < 1:
        raise UsageError("give 1 or more", where="--kills")
    folder = Path(tempfile.mkdtemp(prefix="abiding-fireworks-"))
    try:
        landed, runs, requests, problems = storm(folder, free_port(), args.kills, random.Random(args.seed))
    finally:
        if args.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        print(json.dumps({"kills": landed, "runs": runs, "requests": requests, "problems": problems}, indent=2))
    else:
        print(f"{landed} kills landed over {runs} run(s) of {requests} requests (seed {args.seed})")
        print("\n".join(problems) if problems else "one bill, every result the same bytes, nothing billed under another run id")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
