"""What the benchmarks share: a throw-away project with items from a seed, runs measured in a process of their own, and the machine."""

from __future__ import annotations

import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pipeline.base.rows import Item, encode
from pipeline.layout import find_root

CONFIG = """
title: Speed
provider: {provider}
model_id: speed
sources: {{closed_book: [{{kind: jsonl, path: items.jsonl}}]}}
sizes: {{}}
max_new_tokens: {{closed_book: 32, open_book: 32}}
task_instructions: {{closed_book: config/task_instructions/closed_book.txt, open_book: config/task_instructions/open_book.txt}}
prompt_sets: {{a: {{control: config/prompts/control.txt, treatment: config/prompts/operational_only.txt}}}}
stats: {{bootstrap_samples: 5000, permutation_samples: 5000, random_seed: 1}}
"""
SIMULATED = "{name: simulated, polls_per_job: 1}"
WORDS = (
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
)
_CHILD = """
import resource, sys
{before}
from doit.doit_cmd import DoitMain
code = DoitMain().run(sys.argv[1:])
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print("USED", sum(u.ru_utime + u.ru_stime for u in used), max(u.ru_maxrss for u in used) / 1024, file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True)
class Used:
    """What a process took: wall and processor seconds (its children's too), peak memory in MB of the largest process, what it printed."""

    seconds: float
    cpu: float
    peak: float
    printed: str


def machine() -> str:
    """Cores, Python and the packages on which the figures depend."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("doit", "msgspec", "numpy", "scipy"))
    return f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {packages}"


def make_items(path: Path, count: int, seed: int) -> None:
    """`count` closed-book items with one to three golds of one to three words."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        for i in range(count):
            golds = [" ".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
            f.write(encode(Item(dataset="speed", id=f"q{i}", question=f"Question {i} about {rng.choice(WORDS)}?", answers=golds)) + b"\n")


@contextmanager
def project(items: int, seed: int = 1, provider: str = SIMULATED) -> Iterator[Path]:
    """A folder with `speed.yaml` and its items, removed in the end."""
    root, folder = find_root(), Path(tempfile.mkdtemp(prefix="abiding-benchmark-"))
    try:
        shutil.copytree(root / "config", folder / "config")
        for name in ("dodo.py", "pyproject.toml"):
            shutil.copyfile(root / name, folder / name)
        make_items(folder / "items.jsonl", items, seed)
        (folder / "speed.yaml").write_text(CONFIG.format(provider=provider), "utf-8")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def doit_run(folder: Path, *words: str, before: str = "") -> Used:
    """`doit run --config speed.yaml --quiet WORDS` in a new interpreter, after the Python statements `before`. Exits where it fails."""
    return measured(folder, [sys.executable, "-c", _CHILD.format(before=before), "run", "--config", "speed.yaml", "--quiet", *words])


def measured(folder: Path, command: Sequence[str]) -> Used:
    """Run a command in `folder`. Exits with its message where it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    used = next((line.split() for line in done.stderr.splitlines() if line.startswith("USED")), ["", "nan", "nan"])
    return Used(seconds, float(used[1]), float(used[2]), done.stdout)
