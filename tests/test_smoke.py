"""The smoke can fail: it sees double billing, doubled and missing rows, torn files, wrong bytes and leftovers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.inspect_run import problems_of, result_files, the_run
from scripts.strikes import make_project

ROOT = Path(__file__).parents[1]
WORDS = ["--dry_run", "--limit_items", "3", "--parts_per_dataset", "2", "--quiet"]


DRIVER = """
import json, sys
from pathlib import Path
from pipeline.providers.simulated import SimulatedProvider
from scripts.inspect_run import result_files, the_run
from scripts.smoke_orchestration import strike_and_rerun
folder, whole, words, mutate = json.loads(sys.argv[1])
if mutate:
    SimulatedProvider.find = lambda *_: None
cases = strike_and_rerun(Path(folder), "mid-submission", "SIGKILL", words, result_files(the_run(Path(whole))), True, True)
print(json.dumps([[case.struck, case.problems] for case in cases]))
"""


def struck(folder: Path, whole: Path, *, mutate: bool) -> list[tuple[bool, list[str]]]:
    """The smoke's mid-submission case, in an interpreter of its own: it forks, which a process full of threads had better not."""
    words = json.dumps([str(folder), str(whole), WORDS, mutate])
    done = subprocess.run([sys.executable, "-c", DRIVER, words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    found: list[tuple[bool, list[str]]] = [(case[0], case[1]) for case in json.loads(done.stdout.splitlines()[-1])]
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dry run in a project of its own."""
    project = make_project(tmp_path_factory.mktemp("smoke") / "whole")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "doit", "run", *WORDS], cwd=project, env=environment, check=True, capture_output=True, timeout=250
    )
    return project


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_sound_run_has_no_problems(finished: Path) -> None:
    """The inspection passes what is well, and something was billed."""
    assert problems_of(finished, result_files(the_run(finished))) == []


def test_a_strike_between_create_and_record_is_survived(finished: Path, tmp_path: Path) -> None:
    """SIGKILL after the remote created the job and before it was recorded: adopted, not created again."""
    assert struck(tmp_path, finished, mutate=False) == [(True, []), (True, [])]


def test_without_the_look_the_smoke_sees_double_billing(finished: Path, tmp_path: Path) -> None:
    """The mutation: a provider that never looks before it creates pays twice, and both cases say so."""
    cases = struck(tmp_path, finished, mutate=True)
    assert all(any("billed more than once" in p for p in problems) for _struck, problems in cases)


def results(project: Path) -> Path:
    """One shard's answers."""
    return min(the_run(project).glob("answers/*/*/results.jsonl"))


def double_row(project: Path) -> None:
    """An answer twice."""
    path = results(project)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[0]]))


def drop_row(project: Path) -> None:
    """An answer less."""
    path = results(project)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def tear(project: Path) -> None:
    """A torn table."""
    path = next(the_run(project).glob("*/results/predictions.csv"))
    path.write_bytes(path.read_bytes()[:-30])


def wrong_byte(project: Path) -> None:
    """One byte of a report."""
    path = next(the_run(project).glob("*/reports/report.md"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def leave_temporary(project: Path) -> None:
    """A temporary file."""
    (the_run(project) / ".x.abiding-tmp-1").write_bytes(b"")


def unfinished_phase(project: Path) -> None:
    """A phase that did not complete."""
    path = the_run(project) / "run_state.json"
    state = json.loads(path.read_bytes())
    state["phases"]["score"]["status"] = "stopped"
    path.write_text(json.dumps(state), "utf-8")


def lose_manifest(project: Path) -> None:
    """No trial manifest."""
    next(the_run(project).glob("*/results/trial_manifest.json")).unlink()


def lose_remote(project: Path) -> None:
    """Nothing billed."""
    for path in (project / "experiments").glob("simulated_remote.db*"):
        path.unlink()


@pytest.mark.parametrize("damage", [double_row, drop_row, tear, wrong_byte, leave_temporary, unfinished_phase, lose_manifest, lose_remote])
def test_damage_is_seen(damage: Callable[[Path], None], copy: Path) -> None:
    """Each kind of damage is a problem."""
    reference = result_files(the_run(copy))
    damage(copy)
    assert problems_of(copy, reference)
