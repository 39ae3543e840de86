"""run_state.json: one table of legal transitions, whole and valid at every instant."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.base import files
from pipeline.base.errors import ManifestError
from pipeline.base.schemas import problems
from pipeline.records.run_state import INTERRUPTED, STEPS, TRANSITIONS, IllegalTransition, RunState

STATUSES = sorted(TRANSITIONS)
LEGAL = {
    ("not_started", "in_progress"),
    ("in_progress", "completed"),
    ("in_progress", "failed"),
    ("in_progress", "stopped"),
    ("completed", "in_progress"),
    ("failed", "in_progress"),
    ("stopped", "in_progress"),
}


def new(path: Path) -> RunState:
    digest = "0" * 64
    state = RunState.new(
        path, run_id="r", config_path="c.yaml", provider="simulated", config_hash=digest, request_hash=digest, primary_hash=digest
    )
    state.save()
    return state


def brought_to(state: RunState, step: str, status: str) -> None:
    if status != "not_started":
        state.move(step, "in_progress")
        state.move(step, status)


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_the_table_of_transitions(tmp_path: Path, before: str, after: str) -> None:
    state = new(tmp_path / "s.json")
    brought_to(state, "poll", before)
    on_disk = (tmp_path / "s.json").read_bytes()
    if before == after or (before, after) in LEGAL:
        state.move("poll", after)
        assert RunState.load(tmp_path / "s.json").status("poll") == after
    else:
        with pytest.raises(IllegalTransition, match=f"'poll' cannot go from '{before}' to '{after}'"):
            state.move("poll", after)
        assert (tmp_path / "s.json").read_bytes() == on_disk


class Life(RuleBasedStateMachine):
    """Any sequence of moves, deaths and reloads: what is on disk is valid and is what was last said."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.path = self.folder / f"{id(self)}.json"
        self.state = new(self.path)
        self.said = dict.fromkeys(STEPS, "not_started")

    @rule(step=st.sampled_from(STEPS), status=st.sampled_from(STATUSES), error=st.none() | st.text(max_size=20))
    def move(self, step: str, status: str, error: str | None) -> None:
        try:
            self.state.move(step, status, error)
        except IllegalTransition:
            assert (self.said[step], status) not in LEGAL and self.said[step] != status
        else:
            self.said[step] = status

    @rule(step=st.sampled_from(STEPS), key=st.text(min_size=1, max_size=10))
    def checkpoint(self, step: str, key: str) -> None:
        self.state.checkpoint(step, key)
        assert RunState.load(self.path)["last_checkpoint"]["resume_key"] == key

    @rule()
    def die_and_come_back(self) -> None:
        self.state = RunState.load(self.path)
        found = self.state.recognise_interruption()
        assert found == [s for s in STEPS if self.said[s] == "in_progress"]
        self.said.update(dict.fromkeys(found, "stopped"))
        assert all(self.state["phases"][s]["last_error"] == INTERRUPTED for s in found)

    @invariant()
    def on_disk_is_valid_and_true(self) -> None:
        document = json.loads(self.path.read_text())
        assert not problems(document, "run_state")
        assert {s: p["status"] for s, p in document["phases"].items()} == self.said


def test_any_life_of_a_state(tmp_path: Path) -> None:
    Life.folder = tmp_path
    Life.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
    Life.TestCase("runTest").runTest()


def test_a_write_that_fails_leaves_the_state_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = new(tmp_path / "s.json")

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full)
        with pytest.raises(OSError):
            state.move("build", "in_progress")
    assert RunState.load(tmp_path / "s.json").status("build") == "not_started"


def test_an_invalid_state_is_never_written(tmp_path: Path) -> None:
    state = new(tmp_path / "s.json")
    before = (tmp_path / "s.json").read_bytes()
    with pytest.raises(ManifestError, match="generation"):
        state.update(generation=-1)
    assert (tmp_path / "s.json").read_bytes() == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema_version": 1}', '{"schema_version": 1, "schema_version": 1}', "\ufeff{}", "NaN"]
)
def test_what_is_no_state_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match=r"s\.json"):
        RunState.load(path)


def test_threads_do_not_lose_each_others_changes(tmp_path: Path) -> None:
    state = new(tmp_path / "s.json")
    threads = [threading.Thread(target=state.move, args=(step, "in_progress")) for step in STEPS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {p["status"] for p in RunState.load(tmp_path / "s.json")["phases"].values()} == {"in_progress"}
