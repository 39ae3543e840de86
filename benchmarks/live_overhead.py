"""What the orchestrator adds to each answer of a live provider: `python -m benchmarks.live_overhead --items 2500`.

`doit run` with the local provider, whose model is replaced by one that answers at once: all that is left is ours (queue, threads,
journal, publication, answer store). The same number of durable writes alone, to the same disk, tells the part of the fsync.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.project import doit_run, machine, project
from pipeline.base.files import Journal

AT_ONCE = """
from pipeline.base.rows import ResultRow, Usage
from pipeline.providers.local import LocalProvider
def at_once(self, row, model):
    usage = Usage(prompt_tokens=20, completion_tokens=3)
    return ResultRow(custom_id=row.custom_id, outcome="answered", text="amber harbor", finish_reason="stop", model=model, usage=usage)
LocalProvider.answer = at_once
LocalProvider.provenance = lambda self: {}
"""


def durable_writes(path: Path, count: int) -> float:
    """Seconds of `count` journal records of an answer's size, each fsynced."""
    journal, record = Journal(path), b'{"job":"%s","row":{%s}}' % (b"x" * 60, b"y" * 150)
    start = time.perf_counter()
    for _ in range(count):
        journal.append(record)
    taken = time.perf_counter() - start
    journal.close()
    return taken


def main(argv: Sequence[str] | None = None) -> int:
    """Answer all requests, and print the milliseconds of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_overhead", description=__doc__)
    parser.add_argument("--items", type=int, default=2500, help="items; two requests each")
    args = parser.parse_args(argv)
    answers = 2 * args.items
    print(f"{answers:,} answers; {machine()}", flush=True)
    with project(args.items, provider="{name: local, model_path: model.gguf}") as folder:
        (folder / "model.gguf").write_bytes(b"GGUF")
        doit_run(folder, "--to_step", "build")
        start = doit_run(folder, "--only_step", "build")  # nothing to do: the cost of a process
        used = doit_run(folder, "--from_step", "submit", "--to_step", "poll", before=AT_ONCE)
        fsyncs = durable_writes(folder / "experiments" / "journal.jsonl", answers)
    wall, cpu = ((a - b) / answers * 1000 for a, b in ((used.seconds, start.seconds), (used.cpu, start.cpu)))
    fsync = fsyncs / answers * 1000
    print(f"submit and poll {wall:.2f} ms an answer, of it a durable write alone {fsync:.2f} ms; the rest {wall - fsync:.2f} ms")
    print(f"processor time {cpu:.2f} ms an answer (aim: at most 0.3 ms besides the fsync, on a machine with no other work)")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    sys.exit(main())
