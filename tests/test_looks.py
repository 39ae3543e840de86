"""Looks: going on after an analysis leaves no verdict unless that was planned; running again and another folder do not matter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.rows import Item
from pipeline.records import looks
from tests.project import QUICK, Project, make

SOURCES = {"closed_book": [{"kind": "jsonl", "path": "closed.jsonl"}]}
TRUTH = {"name": "simulated", "accuracy": {"control": 0.2, "terse": 0.9}}
UNPLANNED = "an unplanned look: the comparison was analysed before, on 20 items, and these 40 share items with them"


def project_of(folder: Path, **changes: Any) -> Project:
    project = make(folder, items=40)
    project.configure(**({"sources": SOURCES, "provider": TRUTH} | changes))
    return project


def folder_of(project: Project, items: int) -> Path:
    """The run that asked so many items."""
    (found,) = [r for r in project.runs if asked(r)["items"] == items]
    return found


def asked(run: Path) -> dict[str, Any]:
    return json.loads((run / "run_state.json").read_text())["locked"]["asked"]  # type: ignore[no-any-return]


def verdict(project: Project, items: int) -> dict[str, Any]:
    return document(project, items)["verdict"]  # type: ignore[no-any-return]


def document(project: Project, items: int) -> dict[str, Any]:
    (path,) = folder_of(project, items).glob("m-terse-*/results/significance.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def results(run: Path) -> dict[str, bytes]:
    names = ("significance.json", "report.md", "report.html", "aggregate_report.md")
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*")) if p.name in names}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Analysed on 20 items, then on all 40."""
    project = project_of(tmp_path_factory.mktemp("grown"))
    project.run("--limit_items", "20")
    project.run()
    return project


def test_going_on_after_an_analysis_leaves_no_verdict(grown: Project) -> None:
    assert verdict(grown, 20)["verdict"] == "better"
    found = verdict(grown, 40)
    assert (found["verdict"], found["rule"], found["reason"]) == ("no_verdict", 1, UNPLANNED)
    (report,) = folder_of(grown, 40).glob("m-terse-*/reports/report.md")
    assert UNPLANNED in report.read_text()
    assert grown.doit("run", "--require", "better").code == 5


def test_every_look_is_named_with_its_time_in_the_provenance(grown: Project) -> None:
    (path,) = folder_of(grown, 40).glob("m-terse-*/results/provenance.json")
    (look,) = json.loads(path.read_text())["looks"]
    first = folder_of(grown, 20)
    assert (look["run_id"], look["items"], look["could_decide"]) == (first.name.removeprefix("run_"), 20, True)
    (page,) = folder_of(grown, 40).glob("m-terse-*/reports/provenance.html")
    assert look["run_id"] in page.read_text()


def test_the_user_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run("--limit_items", "20")
    assert "there will be no verdict" in project.run("--to_step", "submit").err
    assert "there will be no verdict" not in project.run().err


def test_the_earlier_analysis_keeps_its_verdict_and_its_bytes(grown: Project, tmp_path: Path) -> None:
    alone = project_of(tmp_path)
    alone.run("--limit_items", "20")
    assert results(folder_of(alone, 20)) == results(folder_of(grown, 20))


def test_the_same_steps_in_another_folder_give_the_same_bytes(grown: Project, tmp_path: Path) -> None:
    other = project_of(tmp_path)
    other.run("--limit_items", "20")
    other.run("--to_step", "poll")
    other.run()
    assert results(folder_of(other, 40)) == results(folder_of(grown, 40))


def test_running_again_is_no_look(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run()
    first = results(folder_of(project, 40))
    lines = (project.folder / "experiments" / "registry.jsonl").read_bytes()
    project.configure(sources=SOURCES, provider=TRUTH, stats={**QUICK, "random_seed": 2})
    project.run()
    project.configure(sources=SOURCES, provider=TRUTH)
    project.run("--always-execute", "stats")
    project.run("--fresh")
    assert verdict(project, 40)["verdict"] == "better"
    assert results(folder_of(project, 40)) == first
    assert (project.folder / "experiments" / "registry.jsonl").read_bytes() == lines


def test_an_analysis_that_comes_after_the_lock_changes_nothing(tmp_path: Path) -> None:
    """The decision to ask all 40 was made before anybody saw the 20."""
    project = project_of(tmp_path)
    project.run("--to_step", "score")
    project.run("--limit_items", "20")
    project.run()
    assert verdict(project, 40)["verdict"] == "better"
    # The smaller one was begun before the larger was seen; begun after, it would be a choice among what was seen.
    assert verdict(project, 20)["verdict"] == "better"


def test_a_look_that_could_not_decide_does_not_count_but_is_named(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run("--limit_items", "5")
    assert verdict(project, 5)["verdict"] == "no_verdict"
    project.run()
    assert verdict(project, 40)["verdict"] == "better"
    state = json.loads((folder_of(project, 40) / "run_state.json").read_text())
    assert [(look["items"], look["could_decide"]) for look in state["looks"]] == [(5, False)]


def test_scores_without_statistics_are_no_look(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run("--limit_items", "20", "--to_step", "score")
    project.run()
    assert verdict(project, 40)["verdict"] == "better"


def test_planned_looks_share_the_level(tmp_path: Path) -> None:
    primary = {"looks": [40, 20]}
    project = project_of(tmp_path / "planned", primary=primary)
    project.run("--limit_items", "20")
    project.run()
    once = project_of(tmp_path / "once")
    once.run()
    found, plain = document(project, 40), document(once, 40)
    assert found["verdict"]["verdict"] == "better" and found["primary"]["looks"] == [20, 40]
    width, narrow = (d["verdict"]["high"] - d["verdict"]["low"] for d in (found, plain))
    assert width > 1.1 * narrow
    assert found["family"]["members"][0]["p_value"] == pytest.approx(2 * plain["family"]["members"][0]["p_value"])
    assert found["family"]["level"] == plain["family"]["level"] == 0.95
    assert any("2 looks were planned, at 20, 40 items" in note for note in found["notes"])


def test_looks_declared_after_the_first_are_too_late(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run("--limit_items", "20")
    project.configure(sources=SOURCES, provider=TRUTH, primary={"looks": [20, 40]})
    project.run()
    assert verdict(project, 40)["reason"] == UNPLANNED


def test_a_number_of_items_that_was_not_planned_is_an_unplanned_look(tmp_path: Path) -> None:
    project = project_of(tmp_path, primary={"looks": [20, 40]})
    project.run("--limit_items", "30")
    assert verdict(project, 30)["reason"] == "an unplanned look: 30 items were analysed, and the looks declared are at 20, 40"


def test_more_answers_to_the_same_items_are_a_look_too(tmp_path: Path) -> None:
    project = project_of(tmp_path, temps=[0.7])
    project.run()
    project.configure(sources=SOURCES, provider=TRUTH, temps=[0.7], samples_per_item=2)
    project.run()
    (path,) = [p for r in project.runs if asked(r)["replicates"] == 2 for p in r.glob("m-terse-*/results/significance.json")]
    assert "on 40 items with 1 answer each" in json.loads(path.read_text())["verdict"]["reason"]


def test_new_items_and_other_prompts_are_no_look(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run("--limit_items", "20")
    (project.folder / "prompts" / "terse.txt").write_text("Answer in one word.")
    project.run()
    assert verdict(project, 40)["verdict"] == "better"
    shutil.rmtree(project.folder / "experiments")
    project.run("--limit_items", "20")
    rows = [{"dataset": "facts", "id": f"c{n}", "question": f"And {n}?", "answers": [f"number {n}"]} for n in range(40)]
    (project.folder / "closed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project.run()
    assert verdict(project, 40)["verdict"] == "better"


def test_rows_added_to_the_source_are_growth(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    rows = (project.folder / "closed.jsonl").read_text().splitlines(keepends=True)
    (project.folder / "closed.jsonl").write_text("".join(rows[:20]))
    project.run()
    (project.folder / "closed.jsonl").write_text("".join(rows))
    project.run()
    assert verdict(project, 40)["reason"] == UNPLANNED


def test_growing_a_run_by_force_is_growth(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run("--run_id", "mine", "--limit_items", "20")
    project.run("--run_id", "mine", "--force")
    assert verdict(project, 40)["reason"] == UNPLANNED
    before = results(project.the_run)
    (project.the_run / "run_state.json").unlink()  # rebuilt from the registry, looks too
    project.run("--run_id", "mine", "--always-execute", "stats", "report", "aggregate")
    assert verdict(project, 40)["reason"] == UNPLANNED and results(project.the_run) == before


def test_the_registry_outlives_the_run_that_was_looked_at(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run("--limit_items", "20")
    shutil.rmtree(project.the_run)
    project.run()
    assert verdict(project, 40)["reason"] == UNPLANNED


def test_a_contrast_turned_round_is_the_same_comparison(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    project.run("--limit_items", "20")
    project.configure(sources=SOURCES, provider=TRUTH, contrasts=[["terse", "control"]])
    project.run()
    (path,) = folder_of(project, 40).glob("m-*/results/significance.json")
    assert json.loads(path.read_text())["verdict"]["reason"] == UNPLANNED


def test_a_sample_shows_what_sets_share() -> None:
    def prints(numbers: range) -> list[str]:
        return list(looks.fingerprints(("closed", Item(dataset="d", id=f"{n}", question=f"{n}?", answers=[])) for n in numbers))

    small, large = looks.asked_of(prints(range(500)), 1), looks.asked_of(reversed(prints(range(1000))), 1)
    assert (small["items"], len(small["sample"]), large["items"]) == (500, looks.SAMPLE, 1000)
    assert set(small["sample"]) <= set(prints(range(1000))) and set(small["sample"]).isdisjoint(prints(range(500, 1000)))
    assert looks.asked_of(prints(range(1000)), 1) == large
