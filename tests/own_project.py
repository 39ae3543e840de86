"""A newcomer's project in a temporary folder, worked on with real commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("dodo.py", "pyproject.toml", "config", "examples")


def make_project(folder: Path, *more: str) -> Path:
    """A copy of what a newcomer has: the pipeline as an installed package, or (`more`) with its folders beside."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*PARTS, *more):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        else:
            shutil.copy(source, folder / name)
    return folder


def sh(project: Path, command: str, *, code: int = 0, own_package: bool = False) -> str:
    """Run a shell command in the project as a user would; both streams. It must end with `code` and without a traceback."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env["PYTHONPATH"] = str(project if own_package else ROOT)
    done = subprocess.run(["bash", "-c", command], cwd=project, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.stdout + done.stderr
