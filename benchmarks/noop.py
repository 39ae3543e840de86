"""What a rerun costs when nothing is to be done: `python -m benchmarks.noop --shards 500`.

Beside it doit itself on as many file tasks, so that the ratio says what abiding adds. Also lists heavy packages the no-op imported.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pipeline_speed import CONFIG, make_items
from pipeline.layout import find_root

HEAVY = ("scipy", "numpy", "matplotlib", "jinja2", "xllamacpp", "openai", "anthropic")
PLAIN = """
from pathlib import Path
DOIT_CONFIG = {{"backend": "sqlite3", "dep_file": "plain.db"}}
def touch(path):
    Path(path).write_text("x")
def task_file():
    for i in range({n}):
        yield {{"name": str(i), "file_dep": ["in/%d" % i], "targets": ["out/%d" % i], "actions": [(touch, ["out/%d" % i])]}}
"""


def seconds(words: list[str], cwd: Path, repeat: int) -> float:
    """Median wall seconds of a command."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - start)
        if done.returncode:
            raise SystemExit(done.stderr or done.stdout)
    return statistics.median(times)


def main() -> int:
    """Run once for real, then time the reruns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noop", description=__doc__)
    parser.add_argument("--shards", type=int, default=250, help="shards per arm; four tasks each")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    root, folder = find_root(), Path(tempfile.mkdtemp(prefix="abiding-noop-"))
    try:
        shutil.copytree(root / "config", folder / "config")
        for name in ("dodo.py", "pyproject.toml"):
            shutil.copyfile(root / name, folder / name)
        make_items(folder / "items.jsonl", args.shards, 1)
        (folder / "noop.yaml").write_text(CONFIG.format(), "utf-8")
        words = [sys.executable, "-m", "doit", "run", "--config", "noop.yaml", "--parts_per_dataset", str(args.shards), "--quiet"]
        first = seconds(words, folder, 1)
        again = seconds(words, folder, args.repeat)
        tasks = 4 * args.shards
        plain = folder / "plain"
        for name in ("in", "out"):
            (plain / name).mkdir(parents=True)
        for i in range(tasks):
            (plain / "in" / str(i)).write_text("x", "utf-8")
        (plain / "dodo.py").write_text(PLAIN.format(n=tasks), "utf-8")
        doit = [sys.executable, "-m", "doit"]
        seconds(doit, plain, 1)
        bare = seconds(doit, plain, args.repeat)
        probe = f"import sys; from doit.doit_cmd import DoitMain; DoitMain().run({words[3:]!r}); "
        probe += f"print([m for m in {HEAVY!r} if m in sys.modules])"
        heavy = (
            subprocess.run([sys.executable, "-c", probe], cwd=folder, capture_output=True, text=True, check=False)
            .stdout.strip()
            .splitlines()[-1]
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{tasks} shard tasks: first run {first:.1f} s, rerun {again:.2f} s; "
        f"doit itself on {tasks} file tasks {bare:.2f} s; ratio {again / bare:.1f}"
    )
    print(f"heavy packages imported by the rerun: {heavy}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
