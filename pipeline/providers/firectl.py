"""Fireworks' own command line as a fallback for downloads: run where it is installed, printed as a command where it is not.

The key is never an argument (it would show in the process list): `firectl` signs in by itself.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)


def firectl_command(account: str, output_dataset: str, folder: Path, old_order: bool = False) -> list[str]:
    """The command that downloads a dataset into `folder`. The words' order has changed over time; the documentation shows both."""
    verb = ["download", "dataset"] if old_order else ["dataset", "download"]
    return ["firectl", *verb, output_dataset, "--output-dir", str(folder), "--account-id", account]


def printed(command: list[str]) -> str:
    """The command as one types it."""
    return shlex.join(command)


def downloaded(folder: Path) -> dict[str, Path]:
    """`{name: file}` of what lies in a folder that firectl wrote (`dataset/<id>/BIJOutputSet.jsonl`, `.../error-data`)."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and (p.suffix == ".jsonl" or p.name == "error-data"))
    return {str(p.relative_to(folder)): p for p in files}


def download_with_firectl(account: str, output_dataset: str, folder: Path, timeout: float = 600.0) -> bool:
    """Download with firectl into `folder`, which must not exist yet; False where it is not installed or fails (the reason is logged)."""
    if shutil.which("firectl") is None:
        return False
    for old_order in (False, True):
        command = firectl_command(account, output_dataset, folder, old_order)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as e:
            log.warning("%s: %s", printed(command), e)
            continue
        if done.returncode == 0 and downloaded(folder):
            return True
        log.warning("%s: exit %d: %s", printed(command), done.returncode, done.stderr.strip()[-300:])
    return False
