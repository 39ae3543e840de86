"""An archive re-runs elsewhere to the same bytes; the same run gives the same archive; a redacted one holds no text."""

from __future__ import annotations

import io
import json
import random
import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline.base.errors import ManifestError
from pipeline.records.tarball import unpack
from scripts import archive, verify_run
from tests.project import CONFIG, REPO, RESULTS, Project, make

SECRET = "number 1"
"""Stands in items, prompts' answers and reports."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make(tmp_path_factory.mktemp("archive") / "project")
    project.run()
    return project


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def contents(path: Path) -> bytes:
    with tarfile.open(path) as tar:
        return b"\n".join(tar.extractfile(info).read() for info in tar)  # type: ignore[union-attr]


def test_unpacked_in_an_empty_clone_it_reruns_from_parse_to_the_same_bytes(finished: Project, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    clone.folder.mkdir()
    for name in ("dodo.py", "pyproject.toml"):
        shutil.copy(REPO / name, clone.folder / name)
    with tarfile.open(finished.the_run / "archive.tar.gz") as tar:
        tar.extractall(clone.folder)
    run = clone.the_run
    for path in [p for p in run.rglob("*") if p.name in RESULTS]:
        path.unlink()
    from_snapshot(clone, run.name.removeprefix("run_"))
    assert clone.results() == finished.results()
    assert clone.bill() == {}
    assert not (clone.folder / "experiments" / "answers.db").exists()


def from_snapshot(clone: Project, run_id: str) -> None:
    """`doit run --run_id R --resume --from_step parse`, without any config."""
    import contextlib
    import os

    from doit.doit_cmd import DoitMain

    here, out, err = Path.cwd(), io.StringIO(), io.StringIO()
    os.chdir(clone.folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = DoitMain().run(["run", "--run_id", run_id, "--resume", "--from_step", "parse"])
    finally:
        os.chdir(here)
    assert code == 0, out.getvalue() + err.getvalue()


def test_the_same_run_gives_the_same_bytes(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = finished.copy(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    run_id = project.the_run.name.removeprefix("run_")
    before = (project.the_run / "archive.tar.gz").read_bytes()
    (project.the_run / "archive.tar.gz").unlink()
    project.run()
    assert (project.the_run / "archive.tar.gz").read_bytes() == before
    for name in ("a.tgz", "b.tgz"):
        assert archive.main([run_id, "--out", name]) == 0
    assert Path("a.tgz").read_bytes() == Path("b.tgz").read_bytes()
    assert Path("a.tgz").read_bytes() == before


def test_it_holds_prompts_items_config_and_raw_answers(finished: Project) -> None:
    held = {Path(name).name for name in names(finished.the_run / "archive.tar.gz")}
    assert held >= {
        "control.txt",
        "terse.txt",
        "closed_book.jsonl",
        "effective_config.yaml",
        "results.jsonl",
        "run_state.json",
        "predictions.csv",
    }
    assert not held & {"events.jsonl", ".run.lock", ".doit.db", "trial_manifest.json"}


def test_a_redacted_archive_drops_texts_and_keeps_scores(finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.folder)
    out = tmp_path / "redacted.tgz"
    assert SECRET.encode() in contents(finished.the_run / "archive.tar.gz")
    assert archive.main([finished.the_run.name.removeprefix("run_"), "--redact", "--out", str(out)]) == 0
    held = contents(out)
    for text in (SECRET, "You answer.", "Answer briefly.", "What is 1?", "This is item"):
        assert text.encode() not in held
    assert {Path(n).name for n in names(out)} >= {"per_item_scores.csv", "significance.json", "costs.json", "predictions.csv"}
    assert verify_run.main([str(out)]) == 0


def test_the_config_can_ask_for_a_redacted_one(tmp_path: Path) -> None:
    project = make(tmp_path / "project")
    project.configure(archive={"redact": True})
    project.run()
    assert SECRET.encode() not in contents(project.the_run / "archive.tar.gz")
    assert json.loads((project.the_run / "archive_manifest.json").read_text())["complete"] is True
    assert CONFIG["model_id"] == "m"


def test_an_unfinished_run_is_packed_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make(tmp_path / "project")
    project.run("--to_step", "poll")
    monkeypatch.chdir(project.folder)
    run_id = project.the_run.name.removeprefix("run_")
    assert archive.main([run_id]) == 2
    assert "step parse is not completed" in capsys.readouterr().err
    assert archive.main([run_id, "--incomplete", "--out", "part.tgz"]) == 0
    assert unpack(Path("part.tgz"), tmp_path / "unpacked")["complete"] is False
    assert archive.main(["nope"]) == 2
    assert archive.main([]) == 2


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_a_foreign_archive_writes_nowhere_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.tgz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(ManifestError, match="no archive of ours"):
        unpack(path, tmp_path / "in")
    assert not list(tmp_path.rglob("evil"))


def test_damage_anywhere_in_an_archive_is_told_in_a_line(finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (finished.the_run / "archive.tar.gz").read_bytes()
    path, rng = tmp_path / "damaged.tar.gz", random.Random(4)
    for start in [*(rng.randrange(12, len(data)) for _ in range(60)), len(data) - 8, len(data) - 1]:
        path.write_bytes(data[:start] + bytes(b ^ 0x55 for b in data[start : start + 40]) + data[start + 40 :])
        assert verify_run.main([str(path)]) in (1, 2), start
    path.write_bytes(data[:-4])
    assert verify_run.main([str(path)]) == 2
    assert "not readable as an archive" in capsys.readouterr().err


def test_a_changed_or_added_file_in_an_archive_is_named(finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "open"
    with tarfile.open(finished.the_run / "archive.tar.gz") as tar:
        tar.extractall(folder)
    path = next(folder.rglob("per_item_scores.csv"))
    path.write_text(path.read_text().replace("control", "treatment", 1))
    (path.parent / "extra.txt").write_text("x")
    out = tmp_path / "changed.tgz"
    with tarfile.open(out, "w:gz") as tar:
        for p in sorted(p for p in folder.rglob("*") if p.is_file()):
            tar.add(p, p.relative_to(folder).as_posix())
    capsys.readouterr()
    assert verify_run.main([str(out)]) == 1
    said = capsys.readouterr().out
    assert "per_item_scores.csv: has other bytes" in said or "per_item_scores.csv: has" in said
    assert "extra.txt: is not in archive_manifest.json" in said
