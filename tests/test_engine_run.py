"""`doit run` on a small project: what runs again and what does not, what a loss costs, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from pipeline.base.checkpoints import VARIABLE
from pipeline.records.lock import RunLock
from tests.project import QUICK, Project, make

FAMILY = ("submit", "poll")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose run is complete. Not to be touched: copy it."""
    project = make(tmp_path_factory.mktemp("finished"))
    project.run()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, to be damaged."""
    return finished.copy(tmp_path / "project")


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """A project in which nothing was run."""
    return make(tmp_path / "empty")


def trial(project: Project) -> Path:
    (found,) = project.the_run.glob("m-terse-*")
    return found


def rerun(project: Project, *words: str, code: int = 0) -> Counter[str]:
    """The steps that worked in one more run, which must not have billed anything."""
    before, bill = len(project.began()), project.bill()
    project.run(*words, code=code)
    assert project.bill() == bill
    return Counter(project.began()[before:])


# --- the whole way ---------------------------------------------------------------------------------------------------


def test_a_run_completes_every_phase_and_bills_every_request_once(finished: Project) -> None:
    assert set(finished.phases().values()) == {"completed"}
    assert len(finished.bill()) == 12 and set(finished.bill().values()) == {1}
    manifest = json.loads((trial(finished) / "results" / "trial_manifest.json").read_text())
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


def test_processes_are_refused(empty: Project) -> None:
    done = empty.run("-n", "2", "-P", "process", code=2)
    assert "-P process: forked workers would outlive a killed parent" in done.err
    assert not (empty.folder / "experiments").exists()


# --- what runs again -------------------------------------------------------------------------------------------------


def test_a_deleted_predictions_file_is_parsed_again_and_nothing_else(project: Project) -> None:
    (trial(project) / "results" / "predictions.csv").unlink()
    assert rerun(project) == {"parse": 1}


@pytest.mark.parametrize(
    ("name", "step"),
    [("predictions.csv", "parse"), ("per_item_scores.csv", "score"), ("significance.json", "stats"), ("costs.json", "costs")],
)
@pytest.mark.parametrize("damage", ["truncated", "doubled row", "foreign", "same size"])
def test_a_damaged_result_is_made_again_by_its_step_alone(project: Project, name: str, step: str, damage: str) -> None:
    path = trial(project) / "results" / name
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    path.write_bytes(
        {
            "truncated": before[: len(before) // 2],
            "doubled row": before + lines[-1],
            "foreign": b"not ours\n",
            "same size": before[:-3] + b"9" + before[-2:],
        }[damage]
    )
    assert rerun(project) == {step: 1}
    assert path.read_bytes() == before


def test_touched_files_are_looked_at_and_left(project: Project) -> None:
    for path in project.the_run.rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".jsonl", ".json", ".md", ".html"):
            os.utime(path)
    assert not rerun(project)


def test_a_stale_result_of_other_settings_is_made_again(project: Project) -> None:
    """Restoring an old file with an old time stamp (a backup, `cp -p`) must not pass for the new one."""
    path = trial(project) / "results" / "significance.json"
    old, stamp = path.read_bytes(), path.stat()
    project.configure(stats={**QUICK, "bootstrap_samples": 150})
    project.run()
    assert path.read_bytes() != old
    path.write_bytes(old)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert rerun(project) == {"stats": 1}


def test_other_bootstrap_samples_run_stats_and_what_depends_on_its_bytes(project: Project) -> None:
    project.configure(stats={**QUICK, "bootstrap_samples": 200})
    ran = rerun(project)
    assert set(ran) == {"stats", "report", "aggregate", "archive"}
    assert project.letters() and set(project.letters().values()) == {"U"}


def test_another_primary_runs_stats_and_reports_but_asks_nothing(project: Project) -> None:
    project.configure(primary={"metric": "f1"})
    assert not set(rerun(project)) & {"prepare", "build", "submit", "poll", "parse", "score"}
    assert "locked as" in (trial(project) / "reports" / "report.md").read_text()


def test_an_edited_prompt_starts_a_new_run_and_asks_only_what_is_new(project: Project) -> None:
    (old,) = project.runs
    before = {p: p.read_bytes() for p in old.rglob("*.json*")}
    (project.folder / "prompts" / "terse.txt").write_text("Be brief.")
    project.run()
    assert len(project.runs) == 2
    assert {p: p.read_bytes() for p in before} == before
    assert len(project.bill()) == 18 and set(project.bill().values()) == {1}, "the control's answers are reused"


def test_forgetting_and_resetting_doit_costs_a_recheck(project: Project) -> None:
    assert project.doit("forget", "--all").code == 0
    assert not rerun(project)


@pytest.mark.parametrize(
    "lost",
    [
        ".doit.db",
        ".digests.json",
        "answers.db",
        "simulated_remote.db",
        "run_state.json",
        "trial_manifest.json",
        "build_manifest.json",
        "effective_config.yaml",
    ],
)
@pytest.mark.parametrize("how", ["deleted", "corrupt"])
def test_a_lost_record_costs_no_request_and_no_byte(project: Project, lost: str, how: str) -> None:
    results = project.results()
    found = [p for p in (project.folder / "experiments").rglob("*") if p.name == lost or p.name.startswith(f"{lost}-")]
    assert found
    for path in found:
        path.unlink() if how == "deleted" else path.write_bytes(b"\x00garbage{" * 400)
    project.run("--run_id", project.the_run.name.removeprefix("run_"))
    if lost == "simulated_remote.db":
        assert not list(project.the_run.glob("answers/*/*/attempt_*"))  # nobody asked the remote for anything
    else:
        assert set(project.bill().values()) == {1}
    assert project.results() == results
    assert "everything is up to date" in project.run().out


def test_lost_answers_come_back_from_the_store(project: Project) -> None:
    for path in project.the_run.glob("answers/*/*/results.jsonl"):
        path.unlink()
    ran = rerun(project)
    assert set(ran) <= {"poll", "archive"}, "the archive holds submission.json, which counts the reuse"


def test_corrupt_submissions_bill_nothing(project: Project) -> None:
    results = project.results()
    for path in project.the_run.glob("answers/*/*/submission.json"):
        path.write_text("{")
    assert set(rerun(project)) <= {"submit", "poll", "archive"}
    assert project.results() == results


def test_results_changed_by_hand_are_gathered_again(project: Project) -> None:
    results = project.results()
    path = next(project.the_run.glob("answers/*/*/results.jsonl"))
    path.write_bytes(path.read_bytes().replace(b"number", b"NUMBER").replace(b"item", b"ITEM"))
    rerun(project)
    assert project.results() == results


def test_requests_changed_by_hand_are_built_again(project: Project) -> None:
    path = next(project.the_run.glob("batch_inputs/*/t0_p00.jsonl"))
    before = path.read_bytes()
    path.write_bytes(before.replace(b"What", b"WHAT"))
    assert rerun(project)["build"] == 1
    assert path.read_bytes() == before


def test_verify_sees_a_change_that_time_stamps_hide(project: Project) -> None:
    """Bytes changed under an untouched stamp (bit rot): only --verify can see it, and it must."""
    path = trial(project) / "results" / "costs.json"
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"requests": 12', b'"requests": 13'))
    assert path.read_bytes() != before
    cache = project.folder / "experiments" / ".digests.json"
    known = json.loads(cache.read_text())
    name = str(path.relative_to(project.folder))
    st = path.stat()
    known[name] = [st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, known[name][4]]
    cache.write_text(json.dumps(known))
    assert not rerun(project)
    assert set(rerun(project, "--verify")) == {"costs"}
    assert path.read_bytes() == before


# --- parts of a run --------------------------------------------------------------------------------------------------


def test_one_condition_and_then_both(empty: Project) -> None:
    empty.run("--condition", "control")
    assert len(empty.bill()) == 6
    phases = empty.phases()
    assert phases["build"] == phases["submit"] == phases["poll"] == "stopped", "a part is not the whole"
    assert phases["parse"] == "not_started"
    empty.run()
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}
    assert set(empty.phases().values()) == {"completed"}


def test_trials_by_pattern(empty: Project) -> None:
    empty.configure(arms={n: {"prompt": f"prompts/{n}.txt"} for n in ("control", "terse", "polite")})
    empty.run("--trial", "*polite*", "--to_step", "score")
    assert [p.parent.parent.name for p in empty.the_run.glob("*/results/per_item_scores.csv")] == ["m-polite-tp1-tk0-mx64-64"]
    assert len(empty.bill()) == 12
    assert empty.phases()["score"] == "stopped"
    done = empty.run("--trial", "nothing*", code=2)
    assert "no trial matches 'nothing*'" in done.err and "m-polite-tp1-tk0-mx64-64" in done.err
    empty.run("--to_step", "score")
    assert len(empty.bill()) == 18 and set(empty.bill().values()) == {1}
    assert empty.phases()["score"] == "completed"


def test_a_shared_control_is_billed_once(empty: Project) -> None:
    empty.configure(arms={n: {"prompt": f"prompts/{n}.txt"} for n in ("control", "terse", "polite", "open")})
    empty.run("--to_step", "poll")
    with sqlite3.connect(empty.folder / "experiments" / "simulated_remote.db") as db:
        assert db.execute("select count(distinct shard), count(*) from bill").fetchone() == (4, 24)


def test_step_by_step_with_options_after_task_names(empty: Project) -> None:
    for step in ("prepare", "build", "submit", "poll", "parse", "score", "costs"):
        empty.run(step, "--quiet", "-v", "0")
    assert empty.phases()["score"] == "completed" and empty.phases()["stats"] == "not_started"
    assert set(empty.bill().values()) == {1}


def test_a_task_name_runs_what_it_needs(empty: Project) -> None:
    empty.run("score", "--limit_items", "2")
    assert set(empty.began()) == {"prepare", "build", "submit", "poll", "parse", "score"}
    assert len(empty.bill()) == 8


def test_no_wait_sends_and_leaves_and_comes_back(empty: Project) -> None:
    empty.configure(provider={"name": "simulated", "polls_per_job": 4})
    done = empty.run("--no_wait", code=3)
    assert "--no_wait" in done.err and "resume: doit run --run_id c-" in done.err
    assert len(empty.bill()) == 12
    assert empty.phases()["poll"] == "stopped"
    tries = 0
    while empty.doit("run", "--no_wait", "--to_step", "parse").code == 3:
        tries += 1
        assert tries < 10
    assert set(empty.bill().values()) == {1}


def test_money_cap_stops_resumably_and_a_higher_one_completes(empty: Project) -> None:
    done = empty.run("--max_usd", "0.00000001", code=3)
    assert "money cap" in done.err and "--max_usd" in done.err.split("resume: doit ")[1], "the line that resumes gets further"
    assert not empty.bill()
    assert empty.state()["stop_requested"] is True
    empty.run("--to_step", "parse", "--max_usd", "1")
    assert set(empty.bill().values()) == {1}
    assert empty.state()["stop_requested"] is False


def test_fresh_pays_again_and_records_it(project: Project) -> None:
    project.run("--fresh")
    assert set(project.bill().values()) == {2}
    assert project.state()["generation"] == 1 and any("--fresh" in f["what"] for f in project.state()["forced"])
    assert not rerun(project)
    assert "R" not in project.letters().values(), "doit list knows the generation"


def test_retry_failed_asks_again_what_was_given_up(empty: Project) -> None:
    empty.configure(provider={"name": "simulated", "polls_per_job": 1, "failure_rate": 0.6, "max_attempts": 1})
    done = empty.run("--to_step", "parse")
    assert "--retry_failed" in done.err
    before = empty.bill()
    empty.run("--to_step", "parse", "--retry_failed")
    again = {c for c, n in empty.bill().items() if n > before[c]}
    assert 0 < len(again) < 12
    assert not rerun(empty, "--to_step", "parse")


# --- resuming --------------------------------------------------------------------------------------------------------


def test_resume_finishes_an_old_run_from_its_own_snapshot(empty: Project) -> None:
    empty.run("--to_step", "submit")
    (run,) = empty.runs
    (empty.folder / "prompts" / "terse.txt").write_text("Changed meanwhile.")
    (empty.folder / "c.yaml").unlink()
    from doit.doit_cmd import DoitMain

    here = Path.cwd()
    os.chdir(empty.folder)
    try:
        assert DoitMain().run(["run", "--run_id", run.name.removeprefix("run_"), "--resume", "--to_step", "parse"]) == 0
    finally:
        os.chdir(here)
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}
    assert empty.runs == [run]


def test_resume_does_without_a_source_that_is_gone(empty: Project) -> None:
    """What was prepared from it is there, and its digest is in the snapshot."""
    empty.run("--to_step", "submit")
    (empty.folder / "closed.jsonl").unlink()
    run_id = empty.the_run.name.removeprefix("run_")
    from doit.doit_cmd import DoitMain

    here = Path.cwd()
    os.chdir(empty.folder)
    try:
        assert DoitMain().run(["run", "--run_id", run_id, "--resume", "--to_step", "parse"]) == 0
    finally:
        os.chdir(here)
    assert set(empty.bill().values()) == {1} and empty.phases()["parse"] == "completed"


def test_resume_of_no_run_says_what_there_is(project: Project) -> None:
    done = project.run("--run_id", "nothing", "--resume", code=2)
    assert "there is no run nothing" in done.err and project.the_run.name.removeprefix("run_") in done.err


def test_drift_under_a_fixed_run_id_needs_force_and_names_what_changed(empty: Project) -> None:
    empty.configure(run_id="fixed")
    empty.run("--to_step", "poll")
    (empty.folder / "prompts" / "terse.txt").write_text("Changed.")
    done = empty.run("--to_step", "poll", code=2)
    assert "units.terse-m-tp1-tk0-mx64-64.prompt_sha256" in done.err and "--force" in done.err
    assert len(empty.bill()) == 12
    empty.run("--to_step", "poll", "--force")
    assert len(empty.bill()) == 18 and set(empty.bill().values()) == {1}
    assert empty.state()["forced"]


# --- other processes, signals, death ---------------------------------------------------------------------------------


def test_a_second_run_exits_4_naming_the_holder(project: Project) -> None:
    lock = RunLock(project.the_run / ".run.lock")
    lock.acquire()
    try:
        done = project.run(code=4)
        assert f"pid {os.getpid()} on" in done.err and "since 20" in done.err
        for command in (["clean"], ["forget", "--all"], ["ignore", "parse"]):
            assert project.doit(*command).code == 4, command
        assert project.doit("list").code == 0
        assert project.run("--plan_only")
    finally:
        lock.release()
    assert (trial(project) / "results" / "predictions.csv").exists()


class Striker:
    """Listens to the checkpoints of a child, lets it go on, and holds it at one."""

    def __init__(self, project: Project, *words: str) -> None:
        to_parent, at_child = os.pipe()
        from_child, go = os.pipe()
        self.child = project.child(*words, env={VARIABLE: f"{at_child},{from_child}"}, pass_fds=(at_child, from_child))
        os.close(at_child)
        os.close(from_child)
        self._read, self._go = os.fdopen(to_parent), go

    def hold(self, name: str, nth: int = 1) -> None:
        """Wait until the child stands at checkpoint `name` for the nth time."""
        for line in self._read:
            if line.strip() == name:
                nth -= 1
                if not nth:
                    return
            os.write(self._go, b".")
        out, err = self.child.communicate()
        raise AssertionError(f"the child never came to {name}: {out}{err}")

    def let_go(self) -> tuple[str, str]:
        """Let the child run on to its end."""

        def nod() -> None:
            for _ in self._read:
                os.write(self._go, b".")

        listener = threading.Thread(target=nod)
        os.write(self._go, b".")
        listener.start()
        said = self.child.communicate(timeout=60)
        listener.join()
        return said


@pytest.mark.parametrize(
    ("point", "nth"), [("doit-db", 2), ("remote", 2), ("store", 1), ("write", 9), ("poll:publish", 1), ("submit:intent", 1)]
)
def test_sigkill_at_a_checkpoint_bills_nothing_twice(empty: Project, point: str, nth: int) -> None:
    striker = Striker(empty, "run", "--to_step", "parse")
    striker.hold(point, nth)
    striker.child.send_signal(signal.SIGKILL)
    striker.child.wait()
    empty.run("--to_step", "parse")
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}
    assert {s for s in ("prepare", "build", "submit", "poll", "parse") if empty.phases()[s] != "completed"} == set()
    assert not [p for p in empty.folder.rglob("*") if ".abiding-tmp-" in p.name]


def test_a_task_that_finished_before_the_kill_does_not_run_again(empty: Project) -> None:
    """doit itself writes its database at exit: without our backend every finished task would run again."""
    striker = Striker(empty, "run", "--to_step", "parse")
    striker.hold("pre-submit")
    striker.child.send_signal(signal.SIGKILL)
    striker.child.wait()
    before = len(empty.began())
    assert Counter(empty.began()) == {"prepare": 1, "build": 2}
    assert empty.phases()["build"] == "completed"
    db = sqlite3.connect(empty.the_run / ".doit.db")
    assert {name.partition(":")[0] for (name,) in db.execute("select task_id from doit")} >= {"prepare", "build"}
    db.close()
    empty.run("--to_step", "parse")
    assert set(empty.began()[before:]) == {"submit", "poll", "parse"}


def test_the_phase_in_hand_at_a_kill_is_recognised_as_interrupted(empty: Project) -> None:
    striker = Striker(empty, "run", "--to_step", "poll")
    striker.hold("poll:fetch")
    striker.child.send_signal(signal.SIGKILL)
    striker.child.wait()
    assert empty.phases()["poll"] == "in_progress"
    empty.run("--to_step", "build")
    poll = empty.state()["phases"]["poll"]
    assert poll["status"] == "stopped" and poll["last_error"].startswith("interrupted")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "STOP_REQUESTED"])
def test_a_soft_stop_finishes_what_is_in_hand_and_says_how_to_resume(empty: Project, how: str) -> None:
    striker = Striker(empty, "run", "--to_step", "parse")
    striker.hold("submit:intent")
    if how == "STOP_REQUESTED":
        (empty.the_run / how).touch()
    else:
        striker.child.send_signal(getattr(signal, how))
    _out, err = striker.let_go()
    assert striker.child.returncode == 3, err
    run_id = empty.the_run.name.removeprefix("run_")
    assert f"\nstopped ({how})\n" in f"\n{err}" and f"resume: doit run --run_id {run_id} --resume" in err
    assert "in_progress" not in empty.phases().values()
    assert empty.state()["stop_requested"] is True
    assert len(empty.bill()) <= 6
    empty.run("--to_step", "parse")
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}
    assert not (empty.the_run / "STOP_REQUESTED").exists()


def test_two_threads_stopped_and_killed_leave_nothing_behind(empty: Project) -> None:
    striker = Striker(empty, "run", "-n", "2", "--to_step", "parse", "--parts_per_dataset", "2")
    striker.hold("remote", 2)
    striker.child.send_signal(signal.SIGTERM)
    striker.let_go()
    assert striker.child.returncode == 3
    assert "in_progress" not in empty.phases().values()
    striker = Striker(empty, "run", "-n", "2", "--to_step", "parse")
    striker.hold("poll:kept")
    striker.child.send_signal(signal.SIGKILL)
    striker.child.wait()
    empty.run("-n", "2", "--to_step", "parse")
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(empty: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import pipeline.base.files as files

    replace, count = os.replace, [0]

    def full(source: object, target: object) -> None:
        count[0] += 1
        if count[0] > 12:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(files.os, "replace", full)
    done = empty.doit("run", "--to_step", "parse")
    assert done.code == 1 and "No space left on device" in done.err and "Traceback" not in done.text
    monkeypatch.undo()
    empty.run("--to_step", "parse")
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}


def test_a_folder_that_may_not_be_written_is_one_line(empty: Project) -> None:
    (empty.folder / "experiments").write_text("a file where a folder should be")
    done = empty.doit("run")
    assert done.code == 2 and "Traceback" not in done.text and done.err.count("\n") == 1, done.text


def test_a_moved_project_keeps_its_receipts(project: Project, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(str(project.folder), moved)
    assert "everything is up to date" in Project(moved).run().out


# --- requirements ----------------------------------------------------------------------------------------------------


def test_an_unmet_requirement_exits_5_and_a_met_one_0(project: Project) -> None:
    done = project.run("--require", "better", code=5)
    assert "the verdict of m-terse-tp1-tk0-mx64-64 is no_verdict, better was required" in done.err
    project.run("--require", "no_verdict")


def test_a_requirement_without_a_verdict_is_not_met(empty: Project) -> None:
    """A script that asks for `better` must not see exit 0 because the run stopped short of the verdict."""
    assert "there is no verdict yet" in empty.run("--to_step", "parse", "--require", "better", code=5).err
    assert "there is no verdict yet" in empty.run("--condition", "control", "--require", "better", code=5).err


# --- what is left behind ---------------------------------------------------------------------------------------------


def test_what_a_kill_after_publishing_left_is_swept_by_the_next_run(project: Project) -> None:
    folder = next(project.the_run.glob("answers/*/t0_p00"))
    (folder / "collected.jsonl").write_text("{}\n")
    (folder / "attempt_01").mkdir()
    (folder / "attempt_01" / "rows.jsonl").write_text("{}\n")
    (project.the_run / ".doit.db").unlink()
    assert not rerun(project)
    assert sorted(p.name for p in folder.iterdir()) == ["results.jsonl", "submission.json"]


def test_what_a_killed_writer_left_beside_the_runs_is_swept_and_a_living_one_spared(project: Project) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    experiments = project.folder / "experiments"
    dead, alive = (experiments / f".digests.json.abiding-tmp-{pid}" for pid in (gone.pid, os.getppid()))
    dead.touch()
    alive.touch()
    assert not rerun(project)
    assert not dead.exists() and alive.exists()


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


# --- the mutation that must be seen --------------------------------------------------------------------------------------


def killed_after_the_remote_committed(project: Project) -> None:
    striker = Striker(project, "run", "--to_step", "parse")
    striker.hold("submit:created")
    striker.child.send_signal(signal.SIGKILL)
    striker.child.wait()
    assert len(project.bill()) == 6, "the remote has billed; nothing here knows of it yet"


def test_look_before_create_finds_the_job_of_a_killed_process(empty: Project) -> None:
    killed_after_the_remote_committed(empty)
    empty.run("--to_step", "parse")
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}


def test_without_look_before_create_the_same_kill_pays_twice(empty: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this were not seen here, the test above would prove nothing."""
    from pipeline.providers.simulated import SimulatedProvider

    killed_after_the_remote_committed(empty)
    monkeypatch.setattr(SimulatedProvider, "find", lambda self, submission, ids: None)
    empty.run("--to_step", "parse")
    assert Counter(empty.bill().values()) == {2: 6, 1: 6}


def test_drift_that_only_recomputes_is_shown_with_the_steps_that_read_it(tmp_path: Path) -> None:
    """A changed analysis names key and step; nothing is asked again."""
    project = make(tmp_path)
    project.run()
    billed = project.bill()
    path = project.folder / "c.yaml"
    path.write_text(path.read_text("utf-8").replace("bootstrap_samples: 100", "bootstrap_samples: 90"), "utf-8")
    done = project.run()
    assert "stats.bootstrap_samples" in done.text
    assert "read by stats" in done.text
    assert project.bill() == billed
