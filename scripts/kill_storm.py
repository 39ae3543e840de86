"""The kill storm: SIGKILL over as many fresh runs as it takes, until so many kills have landed, as many in every phase.

Half of the kills strike inside the atomic writer, the commit of doit's database or a transaction of the remote or the answer store, a
quarter at any checkpoint, a quarter at a random moment between two. Every finished run is inspected like in the smoke.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import UsageError
from scripts.edge import Parser, command
from scripts.inspect_run import problems_of, result_files, the_run
from scripts.storm_plan import INSIDE, PHASES, Aim, Map, Strike, plan
from scripts.strikes import MOMENT, kill, make_project, run_child, warm_up

GIVE_UP = 3  # runs in a row in which one strike did not come due: something is wrong


@dataclass
class Toll:
    """Kills that landed, by phase and by place; runs that finished; and what was wrong with them."""

    phases: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Toll) -> None:
        """Count another's too."""
        self.phases += other.phases
        self.places += other.places
        self.runs += other.runs
        self.problems += other.problems


def strike_all(folder: Path, words: list[str], reference: dict[str, bytes], strikes: list[Strike]) -> Toll:
    """Strike one run so often, in the order given, and inspect it when it is finished.

    Where a strike does not come due (what it aims at was done before an earlier one), the run finishes, and a fresh one takes its place.
    """
    toll, left, missed = Toll(), list(strikes), 0
    project = make_project(folder / "0")
    while True:
        strike = left[0] if left else None
        delay = strike.delay if strike else 0.0
        ended = run_child(project, words, Aim(strike) if strike else None, kill, delay=delay)
        if strike and ended.code == -9:
            toll.phases[strike.phase] += 1
            toll.places[strike.name] += 1
            left.pop(0)
            missed = 0
            continue
        name = f"run {folder.name}/{toll.runs}"
        found = problems_of(project, reference) if ended.code == 0 else [f"exit {ended.code}: {ended.last_words}"]
        toll.problems += [f"{name}: {p}" for p in found]
        toll.runs += 1
        if not found:
            shutil.rmtree(project)
        if not strike:
            return toll
        missed += 1
        if found or missed == GIVE_UP:
            toll.problems.append(f"{name}: gave up, {strike} did not come due" if not found else f"{name}: gave up")
            return toll
        project = make_project(folder / str(toll.runs))


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the storm; exit 1 where anything was lost, doubled or changed."""
    parser = Parser(prog="python -m scripts.kill_storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills that must land, at least one in every phase [default: 200]")
    parser.add_argument("--seed", type=int, default=1, help="of the places and moments [default: 1]")
    parser.add_argument("--items", type=int, default=4, help="items per source [default: 4]")
    parser.add_argument("--parts", type=int, default=2, help="shards per unit [default: 2]")
    parser.add_argument("--config", default="config/eval_config.yaml", help="config [default: config/eval_config.yaml]")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--keep", action="store_true", help="keep the folders of runs with problems")
    args = parser.parse_args(argv)
    if args.kills < 1:
        raise UsageError("give 1 or more", where="--kills")
    words = ["--dry_run", "--config", args.config, "--parts_per_dataset", str(args.parts), "--limit_items", str(args.items), "--quiet"]
    folder = Path(tempfile.mkdtemp(prefix="abiding-storm-"))
    warm_up()
    begun, toll = time.monotonic(), Toll()
    try:
        whole = make_project(folder / "reference")
        ended = run_child(whole, words)
        if ended.code != 0:
            raise UsageError(f"the uninterrupted run fails (exit {ended.code}): {ended.last_words}", remedy="Mend that first.")
        reference = result_files(the_run(whole))
        runs = plan(Map(ended.announced, ended.at), args.kills, args.seed)
        with ProcessPoolExecutor(min(4, os.cpu_count() or 1), mp_context=multiprocessing.get_context("fork")) as pool:
            futures = [pool.submit(strike_all, folder / str(n), words, reference, strikes) for n, strikes in enumerate(runs)]
            for future in futures:
                toll.add(future.result())
                if not args.json and sys.stdout.isatty():
                    print(f"\rrun {toll.runs}: {toll.phases.total()} kills landed, {len(toll.problems)} problems", end="", flush=True)
    finally:
        if args.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    facts = {
        "kills": toll.phases.total(),
        "runs": toll.runs,
        "seconds": round(time.monotonic() - begun, 1),
        "by_phase": {p: toll.phases[p] for p in PHASES},
        "by_place": dict(toll.places.most_common()),
        "problems": toll.problems,
    }
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        print(f"\n{facts['kills']} kills landed over {toll.runs} runs in {facts['seconds']} s (seed {args.seed})")
        print("phase    kills")
        print("\n".join(f"{p:<8} {toll.phases[p]:5d}" for p in PHASES))
        print("inside   " + ", ".join(f"{name} {toll.places[name]}" for name in INSIDE) + f"; at a random moment {toll.places[MOMENT]}")
        print("\n".join(toll.problems) if toll.problems else "nothing lost, nothing billed twice, every result the same bytes")
    return 1 if toll.problems else 0


if __name__ == "__main__":
    sys.exit(main())
