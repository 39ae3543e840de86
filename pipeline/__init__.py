"""abiding: A/B tests of LLM system prompts that abide interruption.

`pipeline.load(run)` reads a finished run into data frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.loading import LoadedRun

__version__ = "0.1.0"


def load(run: str | Path, experiments: str | Path | None = None) -> LoadedRun:
    """A run as data frames: `.requests`, `.effects`, `.items`, and its `.config`.

    `run` is a run's folder, its id, or the beginning of one; ids are looked for in `experiments` (default: the folder `experiments`
    beside `dodo.py`). Raises UsageError where there is no such run, or no library for data frames.
    """
    from pipeline.loading import LoadedRun, find_run  # here: whoever imports the package need not pay for it

    return LoadedRun(find_run(run, experiments))
