"""Mistakes of a first hour: each is told with what, where and what to do, ends with its exit code, and costs nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import answers, archive, compare_runs
from tests.project import Project, make


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run `done`, and one that waits, `waits`."""
    made = make(tmp_path_factory.mktemp("hour") / "project")
    made.run("--run_id", "done")
    made.run("--run_id", "waits", "--to_step", "build")
    return made


def scored(project: Project, folder: Path, body: str, code: int) -> str:
    """What a run says whose metric is a function of this body."""
    copy = project.copy(folder)
    name = f"scorer_{folder.parent.name.replace('-', '_')}"
    (copy.folder / f"{name}.py").write_text(f"import sys, time\n\ndef f(item, answer, row):\n    {body}\n    return 1\n")
    copy.configure(metrics=[{"name": "f", "use": f"{name}:f", "range": [0, 1]}])
    return copy.run("--run_id", "own", code=code).err


def test_a_scorer_that_leaves_the_program_is_one_that_fails(project: Project, tmp_path: Path) -> None:
    """`sys.exit(3)` in it must not look like a run that was stopped."""
    said = scored(project, tmp_path / "p", "sys.exit(3)", 1)
    assert "f failed on 12 answers: facts|c" in said and "SystemExit: 3" in said and "Mend the function" in said


def test_a_slow_scorer_is_told_with_the_item(project: Project, tmp_path: Path) -> None:
    said = scored(project, tmp_path / "p", 'time.sleep(1.1 if item.id == "c1" else 0)', 0)
    assert re.search(r"\d calls of own metrics took long: f on facts\|c1 \(\d+\.\d s\)", said)


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        (answers, ["prune", "--before", "yesterday"], "--before: invalid day value: 'yesterday'"),
        (archive, ["done", "--out", "prompts"], "prompts: is a folder. Name a file: --out prompts/done.tar.gz"),
        (archive, ["waits"], "step submit is not completed. Finish it (doit run --run_id waits --resume)"),
    ],
    ids=["a day", "a folder", "unfinished"],
)
def test_scripts_refuse(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: object, words: list[str], said: str
) -> None:
    monkeypatch.chdir(project.folder)
    assert script.main(words) == 2  # type: ignore[attr-defined]
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_a_run_without_results_is_compared_as_far_as_it_goes(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.folder)
    assert compare_runs.main(["done", "waits"]) == 0
    out = capsys.readouterr().out
    assert "note: waits has no results yet: doit run --run_id waits --resume" in out and "versions" not in out
