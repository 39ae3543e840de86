"""Where the real data for tests and benchmarks lie: beside the repository, never in it."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ.get("ABIDING_SHARED_DATA") or Path(__file__).resolve().parents[1].parent / "shared" / "data")


def shared(name: str) -> Path:
    """The shared file `name`; a test that asks for one that is absent is skipped, with that reason."""
    path = FOLDER / name
    if not path.exists():
        import pytest

        pytest.skip(f"shared data {name} is not here (set ABIDING_SHARED_DATA to its folder)")
    return path
