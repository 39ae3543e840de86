"""The smoke can fail: it sees double billing, doubled and missing rows, torn files, wrong bytes and leftovers."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
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
from scripts import smoke_orchestration as smoke
from scripts.inspect_run import result_files, the_run
folder, whole, words = json.loads(sys.argv[1])
reference, said = result_files(the_run(Path(whole))), {}
def tell(name, how, *more):
    cases = smoke.strike_and_rerun(Path(folder, name), "mid-submission", how, [*words, *more], reference, True, True)
    said[name] = [[case.struck, case.problems] for case in cases]
tell("sound", "SIGKILL")
look, SimulatedProvider.find = SimulatedProvider.find, lambda *_: None
tell("no look", "SIGKILL")
SimulatedProvider.find = look
smoke.EXIT["STOP"] = 0
tell("other exit", "STOP", "--to_step", "submit")
smoke.POINTS["mid-submission"] = ("never announced", 1)
tell("no strike", "SIGTERM", "--to_step", "submit")
print(json.dumps(said))
"""
Cases = list[tuple[bool, list[str]]]


@pytest.fixture(scope="module")
def struck(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cases]:
    """The smoke's mid-submission case, as it is and mutated, in an interpreter of its own: it forks, which a process full of threads had
    better not."""
    words = json.dumps([str(tmp_path_factory.mktemp("struck")), str(finished), WORDS])
    done = subprocess.run([sys.executable, "-c", DRIVER, words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: [(case[0], case[1]) for case in cases] for name, cases in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dry run in a project of its own."""
    project = make_project(tmp_path_factory.mktemp("smoke") / "whole")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "doit", "run", *WORDS], cwd=project, env=environment, check=True, capture_output=True
    )
    return project


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_sound_run_has_no_problems(finished: Path) -> None:
    """The inspection passes what is well, and something was billed."""
    assert problems_of(finished, result_files(the_run(finished))) == []


def test_a_strike_between_create_and_record_is_survived(struck: dict[str, Cases]) -> None:
    """SIGKILL after the remote created the job and before it was recorded: adopted, not created again."""
    assert struck["sound"] == [(True, []), (True, [])]


def test_without_the_look_the_smoke_sees_double_billing(struck: dict[str, Cases]) -> None:
    """The mutation: a provider that never looks before it creates pays twice, and both cases say so."""
    assert all(landed and any("billed more than once" in p for p in problems) for landed, problems in struck["no look"])


def test_another_exit_code_than_the_one_promised_is_seen(struck: dict[str, Cases]) -> None:
    assert all(problems and problems[0].startswith("struck: exit 3, expected 0") for _landed, problems in struck["other exit"])


def test_a_strike_that_never_landed_is_no_success(struck: dict[str, Cases]) -> None:
    assert all(not landed and "'never announced' never came" in problems[0] for landed, problems in struck["no strike"])


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


def unfinished_stage(project: Path) -> None:
    """A stage that the manifest does not have as completed."""
    path = next(the_run(project).glob("*/results/trial_manifest.json"))
    path.write_bytes(path.read_bytes().replace(b'"completed"', b'"pending"', 1))


def unknown_job(project: Path) -> None:
    """A job of which the manifest knows nothing."""
    path = next(the_run(project).glob("*/results/trial_manifest.json"))
    path.write_bytes(path.read_bytes().replace(b'": "downloaded"', b'": "unknown"', 1))


def invalid_state(project: Path) -> None:
    """A state that its schema refuses."""
    (the_run(project) / "run_state.json").write_bytes(b"{}")


def double_prediction(project: Path) -> None:
    """A prediction twice."""
    path = next(the_run(project).glob("*/results/predictions.csv"))
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[-1])


def bill_twice(project: Path) -> None:
    """One bill more than there were requests."""
    with closing(sqlite3.connect(project / "experiments" / "simulated_remote.db")) as db, db:
        db.execute("insert into bill select custom_id, 'other', shard, billed_at from bill limit 1")


def bill_less(project: Path) -> None:
    """A request that was never billed."""
    with closing(sqlite3.connect(project / "experiments" / "simulated_remote.db")) as db, db:
        db.execute("delete from bill where rowid = 1")


def lose_result(project: Path) -> None:
    """A result file less."""
    next(the_run(project).glob("*/results/costs.json")).unlink()


def leave_rows(project: Path) -> None:
    """Rows of an attempt that the next run should have swept."""
    (results(project).parent / "rows.jsonl").write_bytes(b"")


DAMAGE: dict[Callable[[Path], None], str] = {
    double_row: "asked, 4 answered",
    drop_row: "asked, 2 answered",
    tear: "predictions.csv differs",
    double_prediction: "stands 2 times",
    wrong_byte: "report.md differs",
    lose_result: "costs.json is missing",
    leave_temporary: "left behind",
    leave_rows: "left behind",
    unfinished_phase: "phase score is stopped",
    unfinished_stage: "is pending",
    unknown_job: "is unknown",
    invalid_state: "record: ",
    lose_manifest: "no trial manifest",
    lose_remote: "nothing was billed",
    bill_twice: "1 requests were billed more than once",
    bill_less: "1 requests never billed",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen_and_named(damage: Callable[[Path], None], copy: Path) -> None:
    """Each kind of damage is a problem, and the check that is about it is the one that says so."""
    reference = result_files(the_run(copy))
    damage(copy)
    assert [p for p in problems_of(copy, reference) if DAMAGE[damage] in p]
