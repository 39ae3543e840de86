"""Speed of parse, score, stats, costs and report on made-up answers: `python -m benchmarks.pipeline_speed --items 100000`.

Each step is timed in a process of its own (start and imports included), then all five in one.

Makes its own items and answers from a seed, as a finished run of the simulated provider would hold them, and times them.
Prints machine, versions, seconds, peak memory, and the ratio to the predecessor's figures at 100,000 items.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from pipeline.base.rows import Item, encode
from pipeline.layout import find_root

STEPS = ("parse", "score", "stats", "costs", "report")
PREDECESSOR = {"parse": 6.1, "score": 18.6, "stats": 43.5, "costs": 1.2, "report": 3.1}
"""Seconds at 100,000 items x 2 arms, quiet machine (its own figures; a ratio side by side needs its code)."""
CONFIG = """
title: Speed
provider: {{name: simulated, polls_per_job: 1}}
model_id: speed
sources: {{closed_book: [{{kind: jsonl, path: items.jsonl}}]}}
sizes: {{}}
max_new_tokens: {{closed_book: 32, open_book: 32}}
task_instructions: {{closed_book: config/task_instructions/closed_book.txt, open_book: config/task_instructions/open_book.txt}}
prompt_sets: {{a: {{control: config/prompts/control.txt, treatment: config/prompts/operational_only.txt}}}}
stats: {{bootstrap_samples: 5000, permutation_samples: 5000, random_seed: 1}}
"""
WORDS = [
    "river",
    "stone",
    "north",
    "amber",
    "quiet",
    "ladder",
    "copper",
    "winter",
    "garden",
    "signal",
    "meadow",
    "harbor",
    "candle",
    "orbit",
    "violet",
    "timber",
]


def make_items(path: Path, count: int, seed: int) -> None:
    """`count` closed-book items with one to three golds of one to three words."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        for i in range(count):
            golds = [" ".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
            f.write(encode(Item(dataset="speed", id=f"q{i}", question=f"Question {i} about {rng.choice(WORDS)}?", answers=golds)) + b"\n")


def timed(project: Path, words: list[str]) -> tuple[float, float]:
    """(seconds, peak MB of the process and its children) of a `doit run` in a new interpreter."""
    code = "import resource,sys; from doit.doit_cmd import DoitMain; c = DoitMain().run(sys.argv[1:]); "
    code += "m = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)); "
    code += "print('PEAK', m, file=sys.stderr); sys.exit(c)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, "run", *words], cwd=project, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    peak = next(int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("PEAK"))
    return seconds, peak / 1024


def main() -> int:
    """Make the run, time the steps, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline_speed", description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="abiding-speed-"))
    try:
        root = find_root()
        shutil.copytree(root / "config", folder / "config")
        for name in ("dodo.py", "pyproject.toml"):
            shutil.copyfile(root / name, folder / name)
        make_items(folder / "items.jsonl", args.items, args.seed)
        (folder / "speed.yaml").write_text(CONFIG.format(), "utf-8")
        words = ["--config", "speed.yaml", "--quiet"]
        setup = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "doit", "run", "--to_step", "poll", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        setup = time.perf_counter() - setup
        found = {step: timed(folder, ["--only_step", step, *words]) for step in STEPS}
        for path in (*folder.glob("experiments/run_*/*/results/*.*"), *folder.glob("experiments/run_*/.doit.db*")):
            path.unlink()
        together, together_peak = timed(folder, ["--from_step", "parse", "--to_step", "report", *words])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    facts = {
        "items": args.items,
        "machine": f"{os.cpu_count()} x {platform.processor() or platform.machine()}, Python {platform.python_version()}",
        "msgspec": msgspec.__version__,
        "seconds": {step: round(seconds, 2) for step, (seconds, _peak) in found.items()},
        "peak_mb": {step: round(peak) for step, (_seconds, peak) in found.items()},
        "one_process": {"seconds": round(together, 2), "peak_mb": round(together_peak)},
        "prepare_to_poll": round(setup, 2),
        "predecessor_total_scaled": round(sum(PREDECESSOR.values()) * args.items / 100_000, 1),
    }
    facts["ratio"] = round(facts["predecessor_total_scaled"] / together, 1)
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    print(f"{args.items:,} items x 2 arms; {facts['machine']}; prepare to poll {facts['prepare_to_poll']} s")
    print(f"{'step':<8}{'seconds':>9}{'peak MB':>9}{'predecessor, scaled':>21}")
    for step, (seconds, peak) in found.items():
        print(f"{step:<8}{seconds:>9.2f}{peak:>9.0f}{PREDECESSOR[step] * args.items / 100_000:>21.1f}")
    print(
        f"{'all':<8}{together:>9.2f}{together_peak:>9.0f}{facts['predecessor_total_scaled']:>21.1f}"
        f"   {facts['ratio']} times as fast, in one process"
    )
    return 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
