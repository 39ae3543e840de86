"""`doit run` under locks, signals, stop requests, SIGKILL and full disks, and what a killed one leaves behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections import Counter

import pytest

from pipeline.records.lock import RunLock
from pipeline.records.run_state import STEPS
from tests.project import Project, rerun, trial_of
from tests.striker import Striker


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
    assert (trial_of(project) / "results" / "predictions.csv").exists()


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


@pytest.mark.parametrize("threads", [[], ["-n", "2"]], ids=["", "-n 2"])
def test_a_second_signal_ends_at_once_and_loses_nothing(empty: Project, threads: list[str]) -> None:
    """Between the remote's commit and the record of it: the worst moment for it."""
    striker = Striker(empty, "run", *threads, "--to_step", "parse")
    striker.hold("submit:created")
    striker.child.send_signal(signal.SIGINT)
    assert striker.child.stderr is not None
    while "once more: at once" not in striker.child.stderr.readline():
        assert striker.child.poll() is None
    striker.child.send_signal(signal.SIGTERM)
    assert striker.child.wait() == 130
    assert empty.phases()["submit"] == "in_progress", "nobody had the time to say otherwise"
    empty.run("--to_step", "parse")
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}
    assert [s for s in STEPS if empty.phases()[s] == "completed"] == list(STEPS[:5])


def test_stop_run_asks_a_running_one_and_leaves_an_idle_one_as_it_is(
    empty: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts.stop_run import main

    monkeypatch.chdir(empty.folder)
    striker = Striker(empty, "run", "--to_step", "parse")
    striker.hold("submit:intent")
    run_id = empty.the_run.name.removeprefix("run_")
    assert main(["--run_id", run_id]) == 0
    assert f"asked pid {striker.child.pid} on" in capsys.readouterr().out
    _out, err = striker.let_go()
    assert striker.child.returncode == 3 and "stopped (STOP_REQUESTED)" in err
    empty.run("--to_step", "parse")
    before = {p: p.stat().st_mtime_ns for p in [empty.the_run, *empty.the_run.rglob("*")]}
    assert main(["--run_id", run_id]) == 0
    assert "is not running: nothing to stop" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in [empty.the_run, *empty.the_run.rglob("*")]} == before
    assert main(["--run_id", "none"]) == 2


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
