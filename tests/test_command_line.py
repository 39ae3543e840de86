"""What users type: options anywhere, mistakes in one line with exit 2, and commands that only look write nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engine.options import LOADER_OPTIONS, RUN_OPTIONS
from pipeline.records.run_state import STEPS
from tests.project import Project, make


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was run up to parse. Not to be touched: copy it."""
    project = make(tmp_path_factory.mktemp("parsed"))
    project.run("--to_step", "costs")
    return project


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file and folder with its times and bytes."""
    found = [folder, *folder.rglob("*")]
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_ctime_ns, p.read_bytes() if p.is_file() else b"") for p in found}


def refused(project: Project, *words: str, code: int = 2) -> str:
    before = everything(project.folder)
    done = project.doit(*words)
    assert done.code == code, done.text
    assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.text
    assert "Traceback" not in done.text and not done.out
    assert everything(project.folder) == before, "a refused command changes nothing"
    return done.err


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--from_step", "--to_step", "--only_step"])
def test_a_wrong_step_name_prints_the_allowed_ones(empty: Project, option: str) -> None:
    said = refused(empty, "run", option, "pull")
    assert f"{option}: there is no step 'pull'" in said and ", ".join(STEPS) in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--from_step", "stats", "--to_step", "parse"], "step 'stats' comes after 'parse'"),
        (["run", "--only_step", "stats", "--to_step", "parse"], "--only_step goes neither"),
        (["run", "--no_such_option"], "no_such_option"),
        (["run", "--limit_items", "many"], "--limit_items: 'many' is no whole number"),
        (["run", "--limit_items", "1.5"], "--limit_items: '1.5' is no whole number"),
        (["run", "--json"], "--json: there is JSON of the plan only"),
        (["list", "--experiments_dir", "c.yaml"], "not a folder"),
        (["run", "--limit_items", "-3"], "--limit_items: the number is negative"),
        (["run", "--temps", "hot"], "--temps: 'hot' is no temperature"),
        (["run", "--temps", "nan"], "--temps: 'nan' is no temperature"),
        (["run", "--temps", "0,-1"], "--temps: '-1' is no temperature"),
        (["run", "--max_usd", "much"], "--max_usd: 'much' is no sum"),
        (["run", "--max_usd", "nan"], "--max_usd: 'nan' is no sum"),
        (["run", "--dryrun"], "option --dryrun not recognized (did you mean --dry_run?)"),
        (["run", "stast"], '"stast". Must be a command, task, or a target. (did you mean stats?)'),
        (["run", "--condition", "placebo"], "'placebo' is no condition"),
        (["run", "no_such_task"], "no_such_task"),
        (["run", "score:no_such_trial"], "no_such_trial"),
        (["run", "--trial", "zzz*"], "no trial matches 'zzz*'"),
        (["run", "--prompt_sets", "nowhere"], "there is no prompt set 'nowhere'"),
        (["run", "--run_id", "nothing", "--resume"], "there is no run nothing"),
        (["run", "--run_id", "../../escape"], "run_id"),
        (["list", "no_such_task"], "no_such_task"),
        (["info", "no_such_task"], "no_such_task"),
        (["run", "-P", "process"], "forked workers"),
        (["run", "--require", "splendid"], "splendid"),
        (["run", "--backend", "dbm"], "--backend: what doit remembers, and how, is settled here"),
        (["list", "--db-file", "x.db"], "--db-file: what doit remembers"),
        (["clean", "--check_file_uptodate", "timestamp"], "--check_file_uptodate: what doit remembers"),
        (["run", "prepare", "--limit", "few"], "--limit_items: 'few' is no whole number"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(empty: Project, words: list[str], said: str) -> None:
    line = refused(empty, *words)
    assert said in line and "CmdOption" not in line and "<class" not in line, "no dump of doit's options"


def test_an_empty_word_is_refused_in_one_line(empty: Project) -> None:
    child = empty.child("run", "--run_id", "")
    said = child.communicate()[1]
    assert child.returncode == 2 and said.startswith("error: an empty word after --run_id") and said.count("\n") == 1


@pytest.mark.parametrize("words", [["run", "--help"], ["list", "-h"], ["run", "prepare", "--help"]], ids=" ".join)
def test_help_is_an_option_too(empty: Project, words: list[str]) -> None:
    done = empty.doit(*words)
    assert done.code == 0 and done.out.startswith("PURPOSE") and "--experiments_dir" in done.out and not done.err


def test_the_help_of_run_has_our_options_first_and_no_default_that_is_not_so(empty: Project) -> None:
    said = empty.doit("help", "run", config=None).out
    ours, doits = said.split("\n  doit's own\n")
    assert {f"--{o['long']}" for o in (*LOADER_OPTIONS, *RUN_OPTIONS)} == set(re.findall(r"^    (--\w+)", ours, re.M))
    assert "md5" not in said and "[default: abiding]" in doits and "subprocess" not in doits and "--backend" not in said
    assert max(map(len, said.splitlines())) <= 110


def test_the_help_of_clean_says_what_its_dry_run_is(empty: Project) -> None:
    said = empty.doit("help", "clean", config=None).out
    assert "simulated" not in said and "--dry_run: only say which" in said and "never items, requests or answers" in said


@pytest.mark.parametrize("step", ["build", "submit", "poll", "parse", "score", "stats", "costs", "report", "archive"])
def test_missing_inputs_are_found_before_anything_runs_and_named_with_their_maker(empty: Project, step: str) -> None:
    said = refused(empty, "run", "--only_step", step)
    assert f"step {step} cannot start" in said and "is missing; step " in said and "--from_step" in said


def test_a_config_mistake_is_one_line_for_every_command(empty: Project) -> None:
    (empty.folder / "c.yaml").write_text("model_id: m\nmodle: n\n")
    for command in ("run", "list", "info", "clean", "forget"):
        words = [command, "prepare"] if command == "info" else [command]
        assert "c.yaml:2 (modle): unknown key" in refused(empty, *words)


def test_the_plan_refuses_what_the_run_would_refuse(empty: Project) -> None:
    """An analysis that cannot be done is no plan."""
    empty.configure(primary={"metric": "corect"})
    assert "(primary.metric): there is no metric 'corect'" in refused(empty, "run", "--plan_only")


# --- options anywhere --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["run", "prepare", "--limit_items", "2"],
        ["run", "--limit_items", "2", "prepare"],
        ["run", "--limit_items=2", "prepare"],
        ["run", "prepare", "-n", "2", "--limit_items", "2", "-v", "0"],
        ["run", "-n2", "prepare", "--limit_items", "2"],
        ["prepare", "--limit_items", "2"],
        ["run", "prepare", "--quiet", "--limit_items", "2"],
        ["run", "--limit", "2", "prepare"],
        ["run", "prepare", "--limit", "2"],
    ],
)
def test_options_stand_before_or_after_task_names(empty: Project, words: list[str]) -> None:
    done = empty.doit(*words)
    assert done.code == 0, done.text
    (prepared,) = (empty.folder / "data" / "prepared").iterdir()
    assert (prepared / "closed_book.jsonl").read_bytes().count(b"\n") == 2
    assert set(empty.began()) == {"prepare"}


# --- commands that only look -------------------------------------------------------------------------------------------

LOOKING = [
    ["list"],
    ["list", "--all", "--status"],
    ["run", "--plan_only"],
    ["run", "--plan_only", "--json"],
    ["info", "prepare"],
    ["dumpdb"],
    ["help", "run"],
]


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
@pytest.mark.parametrize("state", ["nothing run", "something run"])
def test_looking_writes_nothing_and_needs_no_key(
    empty: Project, parsed: Project, words: list[str], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = parsed if state == "something run" else empty
    if state == "nothing run":
        empty.configure(provider={"name": "fireworks", "account_id": "a"}, pricing={"input_per_million": 1, "output_per_million": 1})
        monkeypatch.delenv("FIREWORKS_API_KEY", raising=False)
    before = everything(project.folder)
    done = project.doit(*words)
    assert "Traceback" not in done.text
    assert done.code == int(words[0] == "info" and state == "nothing run"), done.text  # doit's info says 1 where a task would run
    assert everything(project.folder) == before


def test_looking_leaves_no_bytecode_either(empty: Project) -> None:
    """Nothing is nothing: not a __pycache__ beside dodo.py."""
    before = everything(empty.folder)
    child = empty.child("list", "--all", "--status", env={"PYTHONDONTWRITEBYTECODE": ""})
    assert "prepare" in child.communicate()[0] and child.returncode == 0
    assert everything(empty.folder) == before


def test_the_listing_is_the_table_of_contents(empty: Project) -> None:
    listed = [line.split()[0] for line in empty.doit("list").out.splitlines()]
    assert [name for name in listed if name in STEPS] == list(STEPS)


@pytest.mark.parametrize(
    "name", ["answers.db", ".doit.db", ".digests.json", "run_state.json", "build_manifest.json", "trial_manifest.json", "submission.json"]
)
def test_looking_at_damaged_records_does_not_fail_and_leaves_them(parsed: Project, tmp_path: Path, name: str) -> None:
    project = parsed.copy(tmp_path / "p")
    for path in (project.folder / "experiments").rglob(f"{name}*"):
        path.write_bytes(b"\x00garbage{" * 300)
    before = everything(project.folder)
    for words in (["list", "--all", "--status"], ["run", "--plan_only"], ["dumpdb"]):
        done = project.doit(*words)
        assert done.code == 0 and "Traceback" not in done.text, done.text
    assert everything(project.folder) == before


def test_listing_says_r_for_what_will_run_and_for_all_after_it(empty: Project) -> None:
    letters = empty.letters()
    assert letters["prepare"] == letters["submit"] == letters["archive"] == "R" and "E" not in letters.values()


def test_listing_agrees_with_the_plan_and_with_the_run(parsed: Project, tmp_path: Path) -> None:
    import json

    project = parsed.copy(tmp_path / "p")
    next(project.the_run.glob("*/results/predictions.csv")).unlink()
    letters = project.letters()
    phases = {p["phase"]: p for p in json.loads(project.run("--plan_only", "--json").out)["phases"]}
    assert {s: letters[s] for s in STEPS} == {s: "U" if s in ("prepare", "build", "submit", "poll") else "R" for s in STEPS}
    assert [s for s in STEPS if phases[s]["action"] == "execute"] == list(STEPS[4:])
    before = len(project.began())
    project.run("--to_step", "costs")
    assert set(project.began()[before:]) == {"parse"}, "the same bytes come again: what was R because of it need not run"


def test_a_step_that_is_not_chosen_is_not_offered(parsed: Project) -> None:
    done = parsed.run("--plan_only", "--from_step", "stats", "--to_step", "stats")
    assert done.out.count("not selected") == 9


# --- clean and forget --------------------------------------------------------------------------------------------------


def test_clean_keeps_items_requests_and_answers(parsed: Project, tmp_path: Path) -> None:
    project = parsed.copy(tmp_path / "p")
    kept = {p: p.read_bytes() for d in ("answers", "batch_inputs") for p in (project.the_run / d).rglob("*") if p.is_file()}
    assert sorted(p.name for p in kept if p.suffix == ".jsonl") == ["results.jsonl"] * 2 + ["t0_p00.jsonl"] * 2
    assert project.doit("clean").code == 0
    assert {p: p.read_bytes() for p in kept} == kept
    assert list((project.folder / "data" / "prepared").glob("*/*.jsonl"))
    assert not list(project.the_run.glob("*/results/*.csv"))
    before, bill = len(project.began()), project.bill()
    project.run("--to_step", "costs")
    assert set(project.began()[before:]) == {"parse", "score", "stats", "costs"} and project.bill() == bill


@pytest.mark.parametrize("word", ["--dry_run", "--dry-run", "-n"])
def test_clean_dry_run_removes_nothing(parsed: Project, word: str) -> None:
    before = {p: p.read_bytes() for p in parsed.the_run.rglob("*") if p.is_file() and p.name != ".run.lock"}
    done = parsed.doit("clean", word)
    assert done.code == 0 and "predictions.csv" in done.out
    assert {p: p.read_bytes() for p in parsed.the_run.rglob("*") if p.is_file() and p.name != ".run.lock"} == before


def test_clean_of_one_step(parsed: Project, tmp_path: Path) -> None:
    project = parsed.copy(tmp_path / "p")
    assert project.doit("clean", "score").code == 0
    (results,) = project.the_run.glob("*/results")
    assert (results / "predictions.csv").exists() and not (results / "per_item_scores.csv").exists()


@pytest.mark.parametrize("words", [[], ["--all"], ["score"]], ids=str)
def test_what_is_forgotten_is_rechecked_not_redone(parsed: Project, tmp_path: Path, words: list[str]) -> None:
    project = parsed.copy(tmp_path / "p")
    done = project.doit("forget", *words)
    assert done.code == 0 and "forgetting" in done.out and not done.err
    told = done.out.splitlines()
    assert len(set(told)) == len(told)
    before, bill = len(project.began()), project.bill()
    project.run("--to_step", "costs")
    assert len(project.began()) == before and project.bill() == bill


def test_upgrading_manifests_builds_nothing(empty: Project) -> None:
    empty.run("upgrade_manifests")
    assert not empty.began() and not list(empty.folder.glob("data/prepared/*"))


def test_clean_where_nothing_was_run_makes_nothing(empty: Project) -> None:
    before = everything(empty.folder)
    assert empty.doit("clean").code == 0
    assert everything(empty.folder) == before


def test_info_tells_a_tasks_files_and_state(parsed: Project) -> None:
    (task,) = [name for name in parsed.letters() if name.startswith("score:")]
    done = parsed.doit("info", task)
    assert done.code == 0 and "predictions.csv" in done.out and f"{task}: up-to-date (receipt holds)" in done.out


def test_info_agrees_with_the_list_where_only_something_before_it_changed(parsed: Project, tmp_path: Path) -> None:
    project = parsed.copy(tmp_path / "p")
    next(project.the_run.glob("*/results/predictions.csv")).unlink()
    done = project.doit("info", "stats")
    assert done.code == 1 and "run (score:m-terse-tp1-tk0-mx64-64 runs before it)" in done.out
    assert project.letters()["stats"] == "R"


@pytest.mark.parametrize("words", [["list", "-k"], ["list", "-f", "../dodo.py"]], ids=" ".join)
def test_from_a_folder_below_the_project(parsed: Project, words: list[str]) -> None:
    """doit reads the pyproject.toml of the folder it is started in: elsewhere it does not know of abiding. That is said, in one line."""
    child = subprocess.run(
        [sys.executable, "-m", "doit", *words], cwd=parsed.folder / "prompts", capture_output=True, text=True, check=False
    )
    assert child.returncode == 2 and child.stderr.count("\n") == 1, child.stderr
    assert child.stderr.endswith(f"Change to it first: cd {parsed.folder}\n")
