"""An answer store with a million answers: `python -m benchmarks.answer_store --answers 1000000`.

Fills a store from a seed, then times what commands ask of it: which of many requests are answered (the plan), the answers themselves
(submit), the table of `scripts.answers show`, and `doit run --plan_only` of an experiment beside that store and beside none.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.project import doit_run, machine, measured, project
from pipeline.base.rows import ResultRow, Usage
from pipeline.records.answers import AnswerStore

BATCH = 10_000


def key(seed: int, number: int) -> str:
    """The answer key of the n-th made-up answer: 64 hex, as real ones are."""
    return hashlib.sha256(f"{seed}-{number}".encode()).hexdigest()


def fill(path: Path, answers: int, seed: int) -> float:
    """Put so many answers into the store; seconds."""
    store, usage = AnswerStore(path), Usage(prompt_tokens=45, completion_tokens=6)
    start = time.perf_counter()
    for first in range(0, answers, BATCH):
        rows = {}
        for n in range(first, min(answers, first + BATCH)):
            text = f"The answer is number {n}."
            rows[key(seed, n)] = ResultRow(custom_id=f"{n:032x}", outcome="answered", text=text, finish_reason="stop", usage=usage)
        store.put(rows, 0, run_id="speed", provider="simulated", model="speed", owner="speed")
    store.close()
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answer_store", description=__doc__)
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--asked", type=int, default=200_000, help="requests that are looked up, half of them answered")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    print(f"{args.answers:,} answers; {machine()}", flush=True)
    with project(args.asked // 2) as folder:
        doit_run(folder, "--to_step", "build")
        without = doit_run(folder, "--plan_only")
        path = folder / "experiments" / "answers.db"
        taken = fill(path, args.answers, args.seed)
        print(f"filled in {taken:.1f} s ({taken / args.answers * 1e6:.0f} us an answer), {path.stat().st_size / 1e6:.0f} MB", flush=True)
        asked = [key(args.seed, n * args.answers * 2 // args.asked) for n in range(args.asked)]
        store = AnswerStore(path, readonly=True)
        for name, ask in (("known", store.known), ("get", store.get)):
            start = time.perf_counter()
            found = len(ask(asked, 0))
            print(f"{name}: {found:,} of {args.asked:,} found in {time.perf_counter() - start:.2f} s", flush=True)
        store.close()
        show = measured(folder, [sys.executable, "-m", "scripts.answers", "show", "--json"])
        print(f"scripts.answers show: {show.seconds:.2f} s", flush=True)
        beside = doit_run(folder, "--plan_only")
    print(f"doit run --plan_only of {args.asked:,} requests: {beside.seconds:.2f} s beside it, {without.seconds:.2f} s without a store")
    return 0


if __name__ == "__main__":
    sys.exit(main())
