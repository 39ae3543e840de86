"""What is said of runs: their phases, progress and money in a list; two of them side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import compare_runs, list_runs
from tests.project import Project, make


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, str]:
    """Two runs on the same items: the second one's prompt set is another, its answers better."""
    project = make(tmp_path_factory.mktemp("compare") / "project", items=30)
    project.configure(provider={"name": "simulated", "polls_per_job": 1, "accuracy": {"control": 0.5, "terse": 0.5}})
    project.run("--run_id", "first")
    project.configure(
        provider={"name": "simulated", "polls_per_job": 1, "accuracy": {"control": 0.5, "polite": 0.9}},
        arms={"control": {"prompt": "prompts/control.txt"}, "polite": {"prompt": "prompts/polite.txt"}},
    )
    project.run("--run_id", "second")
    return project, "first", "second"


def listed(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    monkeypatch.chdir(project.folder)
    capsys.readouterr()
    assert list_runs.main(["--json"]) == 0
    return {run["run_id"]: run for run in json.loads(capsys.readouterr().out)}


def test_runs_are_listed_with_phases_progress_and_money(
    two: tuple[Project, str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = listed(two[0], monkeypatch, capsys)
    assert set(runs) == {"first", "second"}
    assert runs["first"]["status"] == "finished"
    assert (runs["first"]["answered"], runs["first"]["requests"], runs["first"]["failed"]) == (120, 120, 0)
    assert set(runs["first"]["phases"].values()) == {"completed"}
    assert list_runs.main([]) == 0
    out = capsys.readouterr().out
    assert "##########" in out
    assert "120/120" in out


def test_unfinished_stopped_interrupted_damaged_and_foreign_runs_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make(tmp_path / "project")
    project.run("--run_id", "part", "--to_step", "build")
    project.run("--run_id", "waits", "--no_wait", code=3)
    for name, status in (("dead", "in_progress"), ("broken", None)):
        project.run("--run_id", name, "--to_step", "prepare")
        path = project.folder / "experiments" / f"run_{name}" / "run_state.json"
        path.write_text(path.read_text().replace('"completed"', f'"{status}"') if status else "{")
    old = project.folder / "experiments" / "run_old" / "m-s-tp1-tk0-mx8-8" / "results" / "t0_control_p01"
    old.mkdir(parents=True)
    (old / "results.jsonl").write_text("{}\n")
    (project.folder / "experiments" / "run_bare").mkdir()
    runs = listed(project, monkeypatch, capsys)
    said = {name: run["status"] for name, run in runs.items()}
    assert said == {
        "part": "unfinished",
        "waits": "stopped",
        "dead": "interrupted",
        "broken": "damaged",
        "old": "predecessor's",
        "bare": "no state",
    }
    assert runs["broken"]["fault"]
    assert (runs["waits"]["answered"], runs["waits"]["requests"]) == (0, 12)


def test_without_runs_it_says_how_to_begin_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(make(tmp_path / "project").folder)
    assert list_runs.main([]) == 0
    assert "doit run" in capsys.readouterr().out


def test_two_runs_side_by_side(two: tuple[Project, str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    project, a, b = two
    monkeypatch.chdir(project.folder)
    assert compare_runs.main([a, b, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hashes"]["request_hash"]["same"] is False
    assert {"key": "arms.terse.prompt", "a": "prompts/terse.txt", "b": None} in found["config"] or any(
        d["key"] == "arms.terse" for d in found["config"]
    )
    (trial,) = found["trials"]
    effect = next(e for e in trial["effects"] if e["metric"] == "correct" and e["type"] == "all")
    significance = json.loads(next((project.folder / "experiments" / "run_second").glob("*/results/significance.json")).read_text())
    primary = next(r for r in significance["rows"] if r["role"] == "primary")
    assert effect["b"]["effect"] == primary["effect"]
    better = next(r for r in trial["paired"]["treatment"] if r["metric"] == "correct")
    assert better["items"] == 60
    assert better["difference"] == pytest.approx(better["b"] - better["a"])
    assert better["low"] < better["difference"] < better["high"]
    assert better["difference"] > 0.1
    same = next(r for r in trial["paired"]["control"] if r["metric"] == "correct")
    assert abs(same["difference"]) < 0.1  # the same prompt, asked anew


def test_the_paired_interval_is_the_one_that_a_trial_of_both_prompts_would_give(
    two: tuple[Project, str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose contrast is terse against polite has the same answers (same requests), so its interval must be the same."""
    project, a, b = two
    project.configure(
        provider={"name": "simulated", "polls_per_job": 1, "accuracy": {"terse": 0.5, "polite": 0.9}},
        arms={"terse": {"prompt": "prompts/terse.txt"}, "polite": {"prompt": "prompts/polite.txt"}},
        contrasts=[["terse", "polite"]],
    )
    project.run("--run_id", "both")
    row = next(
        r
        for r in json.loads(next((project.folder / "experiments" / "run_both").glob("*/results/significance.json")).read_text())["rows"]
        if r["metric"] == "abstain_rate" and r["type"] == "all" and r["dataset"] == "all"
    )
    monkeypatch.chdir(project.folder)
    capsys.readouterr()
    assert compare_runs.main([a, b, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["trials"][0]["paired"]["treatment"]
    mine = next(r for r in found if r["metric"] == "abstain_rate")
    assert mine["items"] == row["n_items"]
    assert mine["method"] == row["ci_method"]


def test_items_with_one_key_and_another_content_are_left_out(
    two: tuple[Project, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = two[0].copy(tmp_path / "project")
    text = (project.folder / "closed.jsonl").read_text()
    (project.folder / "closed.jsonl").write_text(text.replace("What is 3?", "What was 3?"))
    (project.folder / "prompts" / "control.txt").write_text("You answer well.")
    project.configure()
    project.run("--run_id", "third")
    monkeypatch.chdir(project.folder)
    assert compare_runs.main(["first", "third"]) == 0
    out = capsys.readouterr().out
    assert "1 items have one key in both runs, but another content" in out
    assert "paired difference of the treatments, B - A" in out
    assert "prompts/control.txt differs:\n  @@ -1 +1 @@\n  -You answer.\n  +You answer well.\n" in out


def test_mistakes_are_told_in_one_line(
    two: tuple[Project, str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(two[0].folder)
    assert compare_runs.main(["first", "nope"]) == 2
    assert compare_runs.main(["first"]) == 2
    assert list_runs.main(["--what"]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 3
    assert all(line.startswith("error: ") for line in err)
