"""`doit run` on a small project: the whole way, what runs again and what does not, how it ends."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from pipeline.records.run_state import STEPS
from tests.project import QUICK, Project, rerun, trial_of


def test_a_run_completes_every_phase_and_bills_every_request_once(finished: Project) -> None:
    assert set(finished.phases().values()) == {"completed"}
    assert len(finished.bill()) == 12 and set(finished.bill().values()) == {1}
    manifest = json.loads((trial_of(finished) / "results" / "trial_manifest.json").read_text())
    assert {s["status"] for s in manifest["stage_status"].values()} == {"completed"}
    assert set(manifest["job_status"].values()) == {"downloaded"}
    checkpoint = finished.state()["last_checkpoint"]
    assert (checkpoint["phase"], checkpoint["resume_key"]) == ("archive", "run")
    assert not [p for p in finished.folder.rglob("*") if ".abiding-tmp-" in p.name]


def test_a_second_run_does_nothing_and_says_so(project: Project) -> None:
    before = {p: p.stat().st_mtime_ns for p in project.the_run.rglob("*") if p.is_file() and p.name != ".run.lock"}
    assert "everything is up to date" in project.run().out
    changed = [p.name for p, at in before.items() if p.stat().st_mtime_ns != at]
    assert set(changed) <= {".doit.db", ".doit.db-wal", ".doit.db-shm"}


def test_two_experiments_folders_hold_the_same_bytes(project: Project) -> None:
    project.run("--experiments_dir", "elsewhere")
    assert project.results() == project.results("elsewhere")
    assert len(project.results()) == 8


def test_two_threads_make_the_same_bytes(project: Project, empty: Project) -> None:
    empty.run("-n", "2", "--parts_per_dataset", "2")
    one = {name: data for name, data in project.results().items() if not name.endswith((".html", ".md"))}
    assert {name: data for name, data in empty.results().items() if name in one} == one
    assert set(empty.bill().values()) == {1}
    assert set(empty.phases().values()) == {"completed"}


def test_another_reporter_leaves_the_state_as_true(empty: Project) -> None:
    """`-r json` tells doit's story, in one document, not ours: the state goes by what is done."""
    empty.run("-r", "json", "-o", "said.json", "--to_step", "parse")
    said = json.loads((empty.folder / "said.json").read_text())
    results = {t["name"].partition(":")[0]: t["result"] for t in said["tasks"] if ":" in t["name"]}
    assert results == dict.fromkeys(("prepare", "build"), "up-to-date") | dict.fromkeys(("submit", "poll", "parse"), "success")
    assert [s for s in STEPS if empty.phases()[s] == "completed"] == list(STEPS[:5])
    assert empty.phases()["score"] == "not_started"


def test_an_output_file_has_what_both_passes_said(empty: Project) -> None:
    empty.run("--to_step", "parse", "-o", "said.txt")
    said = (empty.folder / "said.txt").read_text()
    assert [line.split()[0] for line in said.splitlines() if " done, " in line] == list(STEPS[:5])


def test_processes_are_refused(empty: Project) -> None:
    done = empty.run("-n", "2", "-P", "process", code=2)
    assert "-P process: forked workers would outlive a killed parent" in done.err
    assert not (empty.folder / "experiments").exists()


def test_other_bootstrap_samples_run_stats_and_what_depends_on_its_bytes(project: Project) -> None:
    project.configure(stats={**QUICK, "bootstrap_samples": 200})
    ran = rerun(project)
    assert set(ran) == {"stats", "report", "aggregate", "archive"}
    assert project.letters() and set(project.letters().values()) == {"U"}


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ({"stats": {**QUICK, "risk_thresholds": [0.1]}}, {"stats", "report", "aggregate", "archive"}),
        ({"pricing": {"input_per_million": 1, "output_per_million": 2}}, {"costs", "stats", "report", "aggregate", "archive"}),
        ({"unsupported": {"strategy": "baseline"}}, {"score", "stats", "report", "aggregate", "tidy", "archive"}),
        ({"title": "Another title"}, {"report", "aggregate", "archive"}),
        ({"max_usd": 5}, {"archive"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_key_runs_what_reads_it_as_plan_and_list_say(project: Project, changed: dict[str, object], steps: set[str]) -> None:
    """The archive holds the config: whatever changes in it, it is packed again."""
    project.configure(**changed)
    letters = project.letters()
    assert {name.partition(":")[0] for name, letter in letters.items() if letter == "R"} == steps
    assert set(rerun(project)) == steps


def test_another_primary_runs_stats_and_reports_but_asks_nothing(project: Project) -> None:
    project.configure(primary={"metric": "f1"})
    assert not set(rerun(project)) & {"prepare", "build", "submit", "poll", "parse", "score"}
    assert "locked as" in (trial_of(project) / "reports" / "report.md").read_text()


def test_an_edited_prompt_starts_a_new_run_and_asks_only_what_is_new(project: Project) -> None:
    (old,) = project.runs
    before = {p: p.read_bytes() for p in old.rglob("*.json*")}
    (project.folder / "prompts" / "terse.txt").write_text("Be brief.")
    project.run()
    assert len(project.runs) == 2
    assert {p: p.read_bytes() for p in before} == before
    assert len(project.bill()) == 18 and set(project.bill().values()) == {1}, "the control's answers are reused"


def test_drift_that_only_recomputes_is_shown_with_the_steps_that_read_it(project: Project) -> None:
    """A changed analysis names key and step; nothing is asked again."""
    billed = project.bill()
    path = project.folder / "c.yaml"
    path.write_text(path.read_text("utf-8").replace("bootstrap_samples: 100", "bootstrap_samples: 90"), "utf-8")
    done = project.run()
    assert "stats.bootstrap_samples" in done.text
    assert "read by stats" in done.text
    assert project.bill() == billed


def test_a_moved_project_keeps_its_receipts(project: Project, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(str(project.folder), moved)
    assert "everything is up to date" in Project(moved).run().out


def test_threads_that_ask_for_the_queue_at_once_get_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.12 on `cached_property` takes no lock: two queues would have slots, money and records of their own."""
    import time

    import pipeline.steps.composition as composition
    from pipeline.engine import loader
    from pipeline.engine.session import Session
    from pipeline.steps.context import Run

    make_queue, made = composition.make_queue, []

    def slow(run: Run) -> object:
        time.sleep(0.2)
        made.append(make_queue(run))
        return made[-1]

    monkeypatch.setattr(composition, "make_queue", slow)
    params = {option["name"]: option["default"] for option in loader.AbidingLoader.cmd_options}
    run = Session(project.folder, {**params, "config": "c.yaml"}, readonly=False).run
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(Run.__dict__["queue"].func(run))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.close()
    assert len(made) == 1 and all(q is made[0] for q in got)


def test_a_folder_that_may_not_be_written_is_one_line(empty: Project) -> None:
    (empty.folder / "experiments").write_text("a file where a folder should be")
    done = empty.doit("run")
    assert done.code == 2 and "Traceback" not in done.text and done.err.count("\n") == 1, done.text


def test_an_unmet_requirement_exits_5_and_a_met_one_0(project: Project) -> None:
    done = project.run("--require", "better", code=5)
    assert "the verdict of m-terse-tp1-tk0-mx64-64 is no_verdict, better was required" in done.err
    project.run("--require", "no_verdict")


def test_a_requirement_without_a_verdict_is_not_met(empty: Project) -> None:
    """A script that asks for `better` must not see exit 0 because the run stopped short of the verdict."""
    assert "there is no verdict yet" in empty.run("--to_step", "parse", "--require", "better", code=5).err
    assert "there is no verdict yet" in empty.run("--condition", "control", "--require", "better", code=5).err
