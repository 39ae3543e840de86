"""Whatever is damaged in a finished run is named by verify_run and repaired by `doit run --verify`: the same bytes, nothing paid again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.engine import truth
from pipeline.engine.options import LOADER_OPTIONS, RUN_OPTIONS
from pipeline.engine.session import Session
from pipeline.layout import RunPaths
from pipeline.records.run_state import RunState
from pipeline.records.verify import Verification
from scripts import verify_run
from scripts.fuzz_records import Params
from tests.project import Project, make

ARTIFACTS = (
    "run_state.json", "effective_config.yaml", "events.jsonl", "inputs/prompts/control.txt",
    "batch_inputs/build_manifest.json", "batch_inputs/*/t0_p00.jsonl", "batch_inputs/*/t0_p00.submission.json", "results.csv",
    "answers/*/t0_p00/submission.json", "answers/*/t0_p00/results.jsonl", "*/results/trial_manifest.json", "*/results/predictions.csv",
    "*/results/per_item_scores.csv", "*/results/significance.json", "*/results/costs.json", "*/results/provenance.json",
    "*/reports/report.md",
    "*/reports/report.html", "*/reports/provenance.html", "report.html", "aggregate_report.md", "archive_manifest.json", "archive.tar.gz",
    "../../data/prepared/*/closed_book.jsonl", "../../data/prepared/*/prepared_manifest.json",
)  # fmt: skip


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 1])


def flip(path: Path) -> None:
    """One byte, size and times as before: what a disk does."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(bytes(data))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def folder(path: Path) -> None:
    """A folder of its name, in which a person left something."""
    path.unlink()
    path.mkdir()
    (path / "note.txt").write_text(NOTE)


NOTE = "what a person left"
DAMAGE: dict[str, Callable[[Path], None]] = {"truncated": truncate, "flipped": flip, "a folder": folder, "deleted": Path.unlink}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make(tmp_path_factory.mktemp("verify") / "project")
    project.configure(arms={name: {"prompt": f"prompts/{name}.txt"} for name in ("control", "terse", "polite")})
    project.run()
    return project


def check(project: Project) -> dict[str, list[str]]:
    run = project.the_run
    return Verification(RunPaths(run.parent, run.name.removeprefix("run_")), project.folder).run().damage


def disagreements(project: Project) -> dict[str, tuple[str, str]]:
    """Stages whose manifest says another thing than the predicates."""
    params = Params({o["name"]: o["default"] for o in (*LOADER_OPTIONS, *RUN_OPTIONS)} | {"config": "c.yaml"})
    session = Session(project.folder, params, readonly=True)
    session.run.state = RunState.load(session.run.paths.state)
    found = {}
    for trial in session.experiment.trials.values():
        if session.run.built() is None:
            continue  # before the layout is known there is no manifest
        said = json.loads(session.run.paths.trial(trial.slug).manifest.read_text())["stage_status"]
        for stage, verdict in truth.stages(session, trial).items():
            if (said[stage]["status"] == "completed") != (verdict == "completed"):
                found[f"{trial.slug}/{stage}"] = (said[stage]["status"], verdict)
    return found


def test_an_undamaged_run_is_found_so(finished: Project) -> None:
    assert check(finished) == {}
    assert disagreements(finished) == {}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ARTIFACTS)
def test_damage_is_named_and_repaired(finished: Project, tmp_path: Path, name: str, kind: str) -> None:
    project = finished.copy(tmp_path / "project")
    before = project.results()
    path = next(
        p for p in sorted(project.the_run.glob(name) if not name.startswith("..") else project.folder.glob(name.removeprefix("../../")))
    )
    DAMAGE[kind](path)
    assert any(path.name in damaged for damaged in check(project)), f"{name} {kind} was not noticed"
    project.run("--verify")
    assert check(project) == {}
    assert project.results() == before
    assert max(project.bill().values()) == 1
    assert disagreements(project) == {}
    assert kind != "a folder" or any(p.read_text() == NOTE for p in path.parent.rglob("note.txt"))


@pytest.mark.parametrize(
    "name", ["answers/*/t0_p00/submission.json", "answers/*/t0_p00/results.jsonl", "*/results/trial_manifest.json", "*/results/*.csv"]
)
def test_a_file_of_another_trial_is_named_and_repaired(finished: Project, tmp_path: Path, name: str) -> None:
    """Whole and valid, but about something else."""
    project = finished.copy(tmp_path / "project")
    before = project.results()
    first, *_others, last = sorted(project.the_run.glob(name))
    last = next(p for p in sorted(project.the_run.glob(name), reverse=True) if p.name == first.name)
    assert first.read_bytes() != last.read_bytes()
    first.write_bytes(last.read_bytes())
    assert any(str(first) in damaged for damaged in check(project))
    project.run("--verify")
    assert check(project) == {}
    assert project.results() == before
    assert max(project.bill().values()) == 1
    assert disagreements(project) == {}


@pytest.mark.parametrize("step", ["prepare", "build", "submit", "poll", "parse", "score", "stats", "costs", "report", "archive"])
def test_stage_status_agrees_with_the_predicates_after_every_step(tmp_path: Path, step: str) -> None:
    project = make(tmp_path / "project")
    project.run("--to_step", step)
    assert disagreements(project) == {}


def stopped(project: Project, _patch: pytest.MonkeyPatch) -> None:
    project.run("--no_wait", code=3)


def failed(project: Project, patch: pytest.MonkeyPatch) -> None:
    from pipeline.base.errors import StepError
    from pipeline.steps import stats

    def fails(_ctx: object) -> None:
        raise StepError("no")

    patch.setattr(stats, "run", fails)
    project.run(code=1)


def cleaned(project: Project, _patch: pytest.MonkeyPatch) -> None:
    project.run()
    assert project.doit("clean", "score").code == 0
    project.run("--to_step", "parse")


def forgotten(project: Project, _patch: pytest.MonkeyPatch) -> None:
    project.run()
    assert project.doit("forget", "--all").code == 0
    next(project.the_run.glob("*/results/significance.json")).unlink()
    project.run("--only_step", "costs")


def edited(project: Project, _patch: pytest.MonkeyPatch) -> None:
    """Other settings, but their step is not chosen: what it made is no longer what it would make."""
    project.run()
    project.configure(stats={"bootstrap_samples": 101, "permutation_samples": 100, "random_seed": 1})
    project.run("--only_step", "costs")


def halved(project: Project, _patch: pytest.MonkeyPatch) -> None:
    project.run("--condition", "control")


@pytest.mark.parametrize("life", [stopped, failed, cleaned, forgotten, edited, halved])
def test_stage_status_agrees_after_every_kind_of_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, life: Callable[[Project, pytest.MonkeyPatch], None]
) -> None:
    project = make(tmp_path / "project")
    life(project, monkeypatch)
    manifest = json.loads(next(project.the_run.glob("*/results/trial_manifest.json")).read_text())
    assert {"completed", "pending"} & {stage["status"] for stage in manifest["stage_status"].values()}
    assert disagreements(project) == {}


def test_only_what_is_damaged_and_what_follows_from_it_runs(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    ran = len(project.began())
    truncate(next(project.the_run.glob("*/results/significance.json")))
    project.run("--verify")
    assert project.began()[ran:] == ["stats"]


def test_the_script_names_damage_in_words_and_exits_1(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = finished.copy(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    run_id = project.the_run.name.removeprefix("run_")
    assert verify_run.main([run_id]) == 0
    assert "all as it was written" in capsys.readouterr().out
    assert verify_run.main([str(project.the_run / "archive.tar.gz")]) == 0
    path = next(project.the_run.glob("*/results/predictions.csv"))
    path.write_bytes(path.read_bytes().replace(b"control", b"Control", 1))
    capsys.readouterr()
    assert verify_run.main([run_id]) == 1
    out = capsys.readouterr().out
    assert "predictions.csv: has other bytes than its checksum" in out
    assert "doit run --run_id" in out
    assert verify_run.main([run_id, "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["damage"])
    truncate(project.the_run / "archive.tar.gz")
    assert verify_run.main([str(project.the_run / "archive.tar.gz")]) == 2
    assert verify_run.main(["nope"]) == 2
    assert "there is no run nope" in capsys.readouterr().err
    shutil.rmtree(project.folder / "experiments")
