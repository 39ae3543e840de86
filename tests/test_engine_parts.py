"""`doit run` on a part of a run (steps, trials, conditions, money), and going on with an old one."""

from __future__ import annotations

import json
import shutil
import sqlite3

from tests.project import Project, rerun


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


def test_resume_finishes_an_old_run_from_its_own_snapshot(empty: Project) -> None:
    empty.run("--to_step", "submit")
    (run,) = empty.runs
    (empty.folder / "prompts" / "terse.txt").write_text("Changed meanwhile.")
    (empty.folder / "c.yaml").unlink()
    empty.run("--run_id", run.name.removeprefix("run_"), "--resume", "--to_step", "parse", config=None)
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}
    assert empty.runs == [run]


def test_resume_does_without_a_source_that_is_gone(empty: Project) -> None:
    """What was prepared from it is there, and its digest is in the snapshot."""
    empty.run("--to_step", "submit")
    (empty.folder / "closed.jsonl").unlink()
    run_id = empty.the_run.name.removeprefix("run_")
    empty.run("--run_id", run_id, "--resume", "--to_step", "parse", config=None)
    assert set(empty.bill().values()) == {1} and empty.phases()["parse"] == "completed"


def test_resume_of_no_run_says_what_there_is(project: Project) -> None:
    done = project.run("--run_id", "nothing", "--resume", code=2)
    assert "there is no run nothing" in done.err and project.the_run.name.removeprefix("run_") in done.err


def test_the_plan_and_the_list_know_what_the_gates_refuse(empty: Project) -> None:
    """A drifted run is blocked in the plan as it is refused in the run; with --resume both go by its snapshot."""
    empty.configure(run_id="fixed")
    empty.run("--to_step", "poll")
    (empty.folder / "prompts" / "terse.txt").write_text("Changed.")
    phases = {p["phase"]: p for p in json.loads(empty.run("--plan_only", "--json").out)["phases"]}
    assert phases["prepare"]["action"] == "skip (already done)" and phases["submit"]["action"] == "blocked"
    assert "prompt_sha256 (--force accepts it)" in phases["submit"]["reason"]
    letters = empty.letters()
    assert letters["prepare"] == "U" and letters["build"] == letters["archive"] == "E"
    phases = {p["phase"]: p for p in json.loads(empty.run("--plan_only", "--json", "--force").out)["phases"]}
    assert phases["submit"]["action"] == "execute"


def test_the_plan_of_a_named_run_goes_by_what_the_run_would_go_by(empty: Project) -> None:
    """`doit run --run_id R` reads the config, with --resume the snapshot: so does its plan."""
    empty.run("--to_step", "poll")
    run_id = empty.the_run.name.removeprefix("run_")
    (empty.folder / "prompts" / "terse.txt").write_text("Changed.")
    (empty.folder / "config").mkdir()
    shutil.copy(empty.folder / "c.yaml", empty.folder / "config" / "eval_config.yaml")

    def build(*words: str) -> str:
        document = json.loads(empty.doit("run", "--run_id", run_id, "--plan_only", "--json", *words, config=None).out)
        return str(document["phases"][1]["action"])

    assert build() == "blocked" and empty.doit("run", "--run_id", run_id, config=None).code == 2
    assert build("--resume") == "skip (already done)"


def test_a_plan_with_resume_of_no_run_is_refused_like_the_run(project: Project) -> None:
    done = project.run("--run_id", "nothing", "--resume", "--plan_only", code=2)
    assert "there is no run nothing" in done.err and not done.out


def test_an_unfinished_run_is_named_with_all_its_answers(empty: Project) -> None:
    """Answers that it reused are answers too."""
    empty.run("--run_id", "one", "--to_step", "parse")
    empty.run("--run_id", "two", "--to_step", "parse")
    said = empty.run("--plan_only").out
    assert "run one is unfinished: 12 answers" in said and "run two is unfinished: 12 answers" in said


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
