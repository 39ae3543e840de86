"""A lost answer store: what the runs hold of answers and of jobs under way is put into the new one before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.records import refill
from pipeline.records.answers import AnswerStore
from tests.project import Project


def forget_answers(project: Project) -> None:
    for path in (project.folder / "experiments").glob("answers.db*"):
        path.unlink()


@pytest.mark.parametrize("damage", ["deleted", "corrupt"])
def test_another_run_pays_for_nothing_that_some_run_has(project: Project, damage: str) -> None:
    """The same experiment under another name, its shards cut differently, after the store was lost."""
    forget_answers(project)
    if damage == "corrupt":
        (project.folder / "experiments" / "answers.db").write_bytes(b"no database" * 999)
    before = project.bill()
    done = project.run("--run_id", "other", "--parts_per_dataset", "2")
    assert "12 answers of the runs were put into it" in done.err
    assert project.bill() == before and set(before.values()) == {1}
    first, second = (AnswerStore(project.folder / "experiments" / "answers.db", readonly=True).summary() for _ in "ab")
    assert first == second and first[0]["answers"] == 12


def test_the_age_of_the_answers_is_kept(project: Project) -> None:
    """They are as old as they were, not as old as the store."""
    path = project.folder / "experiments" / "answers.db"
    old = AnswerStore(path, readonly=True).summary()[0]
    forget_answers(project)
    store = AnswerStore(path)
    assert refill.refill(store, path.parent, pytest.fail) == 12
    new = store.summary()[0]
    assert old["oldest"] <= new["oldest"] <= new["newest"]
    assert new["newest"] in (project.the_run / "events.jsonl").read_text() or new["newest"] < old["newest"][:10] + "Z"


def test_what_another_run_has_under_way_is_waited_for_not_sent_again(empty: Project) -> None:
    """Its claims were in the store too."""
    empty.configure(provider={"name": "simulated", "polls_per_job": 4})
    empty.run("--no_wait", code=3)
    forget_answers(empty)
    done = empty.run("--run_id", "other", code=3)
    assert "doit run --run_id c-" in done.err and "is not running" in done.err
    assert len(empty.bill()) == 12 and set(empty.bill().values()) == {1}
    empty.run("--run_id", next(p.name for p in empty.runs if "other" not in p.name).removeprefix("run_"))
    empty.run("--run_id", "other")
    assert set(empty.bill().values()) == {1}


def test_a_kill_while_it_is_filled_leaves_it_to_be_filled(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half filled is not filled: the next run begins again."""
    forget_answers(project)
    path = project.folder / "experiments" / "answers.db"
    kept = refill.kept

    def killed(experiments: Path, leave_out: object) -> object:
        yield next(iter(kept(experiments, print)))
        raise KeyboardInterrupt

    monkeypatch.setattr(refill, "kept", killed)
    store = AnswerStore(path)
    with pytest.raises(KeyboardInterrupt):
        refill.refill(store, path.parent, print)
    assert not store.filled and store.summary()[0]["answers"] == 6
    store.close()
    monkeypatch.undo()
    before = project.bill()
    assert "6 answers of the runs were put into it" in project.run("--run_id", "other").err
    assert project.bill() == before


def test_a_shard_that_cannot_be_read_is_left_out_and_named(project: Project) -> None:
    """The others are not lost with it."""
    forget_answers(project)
    shard = sorted((project.the_run / "answers").glob("*/*"))[0]
    (shard / "results.jsonl").write_text("{")
    told: list[str] = []
    store = AnswerStore(project.folder / "experiments" / "answers.db")
    assert refill.refill(store, project.folder / "experiments", told.append) == 6
    assert len(told) == 1 and shard.parent.name in told[0]
