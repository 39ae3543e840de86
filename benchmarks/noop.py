"""What a rerun costs when nothing is to be done: `python -m benchmarks.noop --shards 500`.

Beside it doit itself on as many file tasks, so that the ratio says what abiding adds; the rerun after every file of the run was touched,
twice, so that one sees whether they are hashed for ever; and which heavy packages the no-op imported.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.project import doit_run, machine, measured, project

HEAVY = ("scipy", "numpy", "matplotlib", "jinja2", "polars", "xllamacpp", "openai", "anthropic")
PLAIN = """
from pathlib import Path
DOIT_CONFIG = {{"backend": "sqlite3", "dep_file": "plain.db"}}
def touch(path):
    Path(path).write_text("x")
def task_file():
    for i in range({n}):
        yield {{"name": str(i), "file_dep": ["in/%d" % i], "targets": ["out/%d" % i], "actions": [(touch, ["out/%d" % i])]}}
"""
PROBE = f"import atexit, sys; atexit.register(lambda: print('HEAVY', *(m for m in {HEAVY!r} if m in sys.modules)))"


def plain(folder: Path, tasks: int, repeat: int) -> float:
    """Median seconds of a no-op of doit itself on so many file tasks."""
    for name in ("in", "out"):
        (folder / name).mkdir(parents=True)
    for i in range(tasks):
        (folder / "in" / str(i)).write_text("x", "utf-8")
    (folder / "dodo.py").write_text(PLAIN.format(n=tasks), "utf-8")
    doit = [sys.executable, "-m", "doit"]
    measured(folder, doit)
    return statistics.median(measured(folder, doit).seconds for _ in range(repeat))


def main(argv: Sequence[str] | None = None) -> int:
    """Run once for real, then time the reruns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noop", description=__doc__)
    parser.add_argument("--shards", type=int, default=250, help="shards per arm; two tasks each (submit and poll)")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args(argv)
    tasks = 4 * args.shards
    print(f"{tasks} shard tasks; {machine()}", flush=True)
    with project(args.shards) as folder:
        words = ("--parts_per_dataset", str(args.shards))
        first = doit_run(folder, *words)
        again = [doit_run(folder, *words) for _ in range(args.repeat)]
        heavy = next(line for line in doit_run(folder, *words, before=PROBE).printed.splitlines() if line.startswith("HEAVY"))
        for path in folder.glob("experiments/run_*/**/*"):
            os.utime(path)
        touched = [doit_run(folder, *words) for _ in range(2)]
        bare = plain(folder / "plain", tasks, args.repeat)
    rerun = statistics.median(used.seconds for used in again)
    print(f"first run {first.seconds:.1f} s; rerun {rerun:.2f} s, {statistics.median(used.cpu for used in again):.2f} s of processor time")
    print(f"after all files were touched {touched[0].seconds:.2f} s, and once more {touched[1].seconds:.2f} s")
    print(f"doit itself on {tasks} file tasks {bare:.2f} s; ratio {rerun / bare:.1f}")
    print(f"heavy packages imported by the rerun: {heavy.removeprefix('HEAVY').strip() or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
