"""Speed and memory of parse, score, stats, costs and report on made-up answers: `python -m benchmarks.pipeline_speed --items 100000`.

Makes items and answers from a seed, as a finished run of the simulated provider holds them. Runs all five steps anew in one process, as
`doit run` does, and tells how long each part took in it; then each step in a process of its own, for its peak memory. The predecessor's
seconds were measured at 100,000 items x 2 arms on two quiet cores and are scaled to the items here; processor seconds matter where the
machine has other work too. The predecessor had no table of all requests (`tidy`): it is told apart.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.project import doit_run, machine, project
from pipeline.records.clock import seconds

STEPS = ("parse", "score", "stats", "costs", "report")
PARTS = (*STEPS, "aggregate", "tidy")
PREDECESSOR = {"parse": 6.1, "score": 18.6, "stats": 43.5, "costs": 1.2, "report": 3.1}
"""Seconds at 100,000 items x 2 arms, quiet machine (its own figures; a ratio side by side needs its code)."""


def parts(folder: Path) -> dict[str, float]:
    """Seconds of each step's last run, going by the events of the only run in `folder`."""
    began: dict[str, float] = {}
    took: dict[str, float] = {}
    for line in next(folder.glob("experiments/run_*/events.jsonl")).read_bytes().splitlines():
        event = json.loads(line)
        if event["event"] == "begin":
            began[event["step"]] = seconds(event["at"])
        elif event["event"] == "done":
            took[event["step"]] = seconds(event["at"]) - began[event["step"]]
    return took


def main(argv: Sequence[str] | None = None) -> int:
    """Make the run, time the steps, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline_speed", description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--together", action="store_true", help="only all steps in one process")
    parser.add_argument("--to_step", choices=STEPS, default="report", help="the last step [default: report]")
    args = parser.parse_args(argv)
    print(f"{args.items:,} items x 2 arms; {machine()}", flush=True)
    with project(args.items, args.seed) as folder:
        setup = doit_run(folder, "--to_step", "poll")
        print(f"prepare to poll: {setup.seconds:.1f} s, {setup.cpu:.1f} s of processor time, peak {setup.peak:.0f} MB", flush=True)
        together = doit_run(folder, "--from_step", "parse", "--to_step", args.to_step)
        took = parts(folder)
        chosen = STEPS[: STEPS.index(args.to_step) + 1]
        alone = {} if args.together else {step: doit_run(folder, "--only_step", step, "--always-execute") for step in chosen}
    print("\n| part | seconds | of the processor, alone | peak MB, alone | predecessor, scaled |\n| --- | ---: | ---: | ---: | ---: |")
    for part in (p for p in PARTS if p in took):
        cpu, peak = (f"{alone[part].cpu:.1f}", f"{alone[part].peak:.0f}") if part in alone else ("", "")
        print(f"| {part} | {took[part]:.2f} | {cpu} | {peak} | {scaled(part, args.items)} |")
    before = sum(PREDECESSOR[step] for step in chosen) * args.items / 100_000
    print(f"| all, one process | {together.seconds:.2f} | {together.cpu:.1f} | {together.peak:.0f} | {before:.1f} |")
    own = together.seconds - took.get("tidy", 0.0)
    print(
        f"\n{before / together.seconds:.1f} times as fast as the predecessor; {before / own:.1f} times without the table that it had not."
    )
    return 0


def scaled(part: str, items: int) -> str:
    """The predecessor's seconds for so many items."""
    return f"{PREDECESSOR[part] * items / 100_000:.1f}" if part in PREDECESSOR else ""


if __name__ == "__main__":
    sys.exit(main())
