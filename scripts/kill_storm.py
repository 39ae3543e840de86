"""The kill storm: SIGKILL at random moments, over as many fresh runs as it takes, until so many kills have landed in every phase.

Half of the kills strike at a named checkpoint inside the phase (also inside the atomic writer, the database's commit and the
remote's transaction), half at a random instant. Every finished run is inspected like in the smoke.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import UsageError
from pipeline.records.run_state import STEPS, WITHIN
from scripts.edge import Parser, command
from scripts.inspect_run import problems_of, result_files, the_run
from scripts.strikes import Ended, kill, make_project, run_child, warm_up

PHASES = ("open", *STEPS)
INSIDE = ("write", "doit-db", "remote", "store")
GIVE_UP = 400  # children in a row without a kill that landed: something is wrong


def phase_after(announced: list[str], current: str = "open") -> str:
    """The phase in which the process stands after these announcements."""
    for name in announced:
        step = name.removeprefix("pre-").removeprefix("post-")
        step = WITHIN.get(step, step)
        if name.startswith("pre-") and step in STEPS:
            current = step
    return current


class Aim:
    """Strikes at the n-th announcement made inside a phase."""

    def __init__(self, phase: str, nth: int) -> None:
        self.phase, self.nth, self._now, self._seen = phase, nth, "open", 0

    def __call__(self, name: str, _count: int) -> bool:
        """Called for every announcement, in order."""
        self._now = phase_after([name], self._now)
        if self._now != self.phase:
            return False
        self._seen += 1
        return self._seen == self.nth


def storm(
    folder: Path,
    words: list[str],
    reference: dict[str, bytes],
    lengths: Counter[str],
    seconds: float,
    kills: int,
    rng: random.Random,
    show: bool,
) -> tuple[Counter[str], Counter[str], list[str], int]:
    """(kills by phase, kills by checkpoint, problems, runs)."""
    landed: Counter[str] = Counter()
    where: Counter[str] = Counter()
    problems: list[str] = []
    runs = idle = 0
    project = make_project(folder / "run-0")
    while landed.total() < kills or min(landed[p] for p in PHASES) == 0:
        aimed = min(PHASES, key=lambda p: (landed[p], rng.random())) if rng.random() < 0.7 else rng.choice(PHASES)
        if rng.random() < 0.5:
            ended = run_child(project, words, Aim(aimed, rng.randint(1, max(1, lengths[aimed]))), kill)
        else:
            ended = run_child(project, words, None, kill, after=rng.uniform(0, seconds))
        idle += 1
        if ended.code == -9:
            idle = 0
            landed[phase_after(ended.announced)] += 1
            where[ended.struck_at or "anywhere"] += 1
        elif ended.code == 0:
            found = problems_of(project, reference)
            problems += [f"run {runs}: {p}" for p in found]
            if not found:
                shutil.rmtree(project)
            runs += 1
            if show:
                print(f"\rrun {runs}: {landed.total()} kills landed, {len(problems)} problems", end="", flush=True)
            project = make_project(folder / f"run-{runs}")
        else:
            problems.append(f"run {runs}: exit {ended.code}: {_tail(ended)}")
            runs += 1
            project = make_project(folder / f"run-{runs}")
        if idle > GIVE_UP or len(problems) > 20:
            problems.append("gave up")
            break
    last = run_child(project, words)
    problems += (
        [f"run {runs}: exit {last.code}: {_tail(last)}"] if last.code else [f"run {runs}: {p}" for p in problems_of(project, reference)]
    )
    return landed, where, problems, runs + 1


def _tail(ended: Ended) -> str:
    return " / ".join(ended.output.strip().splitlines()[-3:])


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the storm; exit 1 where anything was lost, doubled or changed."""
    parser = Parser(prog="python -m scripts.kill_storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills that must land [default: 200]")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments [default: 1]")
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
    begun = time.monotonic()
    try:
        whole = make_project(folder / "reference")
        start = time.monotonic()
        ended = run_child(whole, words)
        seconds = time.monotonic() - start
        if ended.code != 0:
            raise UsageError(f"the uninterrupted run fails (exit {ended.code}): {_tail(ended)}", remedy="Mend that first.")
        reference = result_files(the_run(whole))
        lengths: Counter[str] = Counter()
        now = "open"
        for name in ended.announced:
            now = phase_after([name], now)
            lengths[now] += 1
        landed, where, problems, runs = storm(
            folder, words, reference, lengths, seconds, args.kills, random.Random(args.seed), not args.json and sys.stdout.isatty()
        )
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    facts = {
        "kills": landed.total(),
        "runs": runs,
        "seconds": round(time.monotonic() - begun, 1),
        "by_phase": {p: landed[p] for p in PHASES},
        "by_checkpoint": dict(where.most_common()),
        "problems": problems,
    }
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        print(f"\n{landed.total()} kills landed over {runs} runs in {facts['seconds']} s (seed {args.seed})")
        print("phase    kills")
        print("\n".join(f"{p:<8} {landed[p]:5d}" for p in PHASES))
        print("inside   " + ", ".join(f"{name} {where[name]}" for name in INSIDE))
        print("\n".join(problems) if problems else "nothing lost, nothing billed twice, every result the same bytes")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
