"""Damaged records: opened again and again, never a traceback, a lost original, a second bill, or other results."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from pipeline.base.errors import AbidingError
from scripts import fuzz_records
from scripts.fuzz_records import Bench, fuzz
from scripts.mutations import MUTATIONS


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("fuzz") / "project")


def test_a_few_hundred_mutations(tmp_path: Path) -> None:
    *_before, (_number, _bench, result) = fuzz(200, seed=11, root=tmp_path / "project")
    assert result.faults == []
    assert result.outcomes["repaired"] > 80
    assert sum(result.outcomes.values()) == 200


def test_the_same_seed_damages_alike(bench: Bench) -> None:
    data = next(data for path, data in bench.finished.items() if path.name == "run_state.json")
    for mutation in MUTATIONS:
        assert mutation(data, random.Random(3)) == mutation(data, random.Random(3))


def test_the_bench_sees_a_second_bill(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not look before it creates pays twice when the record of its job is damaged, and the bench says so."""
    from pipeline.layout import ShardPaths
    from pipeline.providers.simulated import SimulatedProvider
    from pipeline.records.answers import AnswerStore

    monkeypatch.setattr(SimulatedProvider, "find", lambda *_args: None)
    monkeypatch.setattr(AnswerStore, "get", lambda *_args: {})
    monkeypatch.setattr(ShardPaths, "submission_twin", ShardPaths.submission)  # no twin to fall back on
    monkeypatch.setattr(fuzz_records, "KINDS", ("submission.json",))
    found = [wrong for seed in range(12) for wrong in bench.round(random.Random(seed))[2]]
    assert any("billed twice" in wrong for wrong in found)


def test_the_bench_sees_a_lost_original(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.engine import opening

    def careless(path: Path, word: str = "corrupt") -> Path:
        path.unlink()
        return path.with_name("gone")

    monkeypatch.setattr(opening, "put_aside", careless)
    monkeypatch.setattr(fuzz_records, "KINDS", ("run_state.json",))
    found = [wrong for seed in range(12) for wrong in bench.round(random.Random(seed))[2]]
    assert any("original is lost" in wrong for wrong in found)


@pytest.mark.parametrize(
    "name", ["run_state.json", "build_manifest.json", "prepared_manifest.json", "submission.json", "effective_config.yaml", "results.jsonl"]
)
@pytest.mark.parametrize("state", ["finished", "in_flight"])
def test_a_missing_document_is_rebuilt(bench: Bench, name: str, state: str) -> None:
    pristine = bench.finished if state == "finished" else bench.in_flight
    bench.restore(pristine)
    paths = [p for p in pristine if p.name == name and "run_fuzz2" not in p.parts]
    if not paths:
        pytest.skip(f"there is no {name} in flight")
    for path in paths:
        path.unlink()
    bench.abide()
    assert max(bench.bill().values()) == 1
    assert bench.predicted() == bench.predictions
    assert all(path.exists() for path in paths)


def test_a_rebuilt_state_keeps_registration_and_generation(bench: Bench) -> None:
    from pipeline.records.run_state import RunState

    bench.restore(bench.finished)
    bench.abide()
    path = next(bench.experiments.glob("run_fuzz/run_state.json"))
    before = RunState.load(path)
    path.write_bytes(b"torn")
    bench.abide()
    after = RunState.load(path)
    assert (after["locked"], after["primary_hash"], after["generation"]) == (before["locked"], before["primary_hash"], before["generation"])
    assert "rebuilt" in after["notes"][0]


def test_a_state_whose_generation_was_raised_by_hand_is_not_believed(bench: Bench) -> None:
    bench.restore(bench.finished)
    path = next(bench.experiments.glob("run_fuzz/run_state.json"))
    path.write_bytes(path.read_bytes().replace(b'"generation": 0', b'"generation": 3'))
    bench.abide()
    assert max(bench.bill().values()) == 1
    assert len(list(path.parent.glob("run_state.json.corrupt.*"))) == 1


def test_another_config_on_a_run_without_its_state_is_drift(bench: Bench) -> None:
    """What the run asked is witnessed by its build manifest where the state is gone: other requests are not sent unseen."""
    bench.restore(bench.finished)
    config = bench.root / "config/eval_config.yaml"
    text = config.read_text()
    next(bench.experiments.glob("run_fuzz/run_state.json")).unlink()
    next(bench.experiments.glob("run_fuzz/effective_config.yaml")).unlink()
    try:
        config.write_text(text.replace("closed_book: 8", "closed_book: 9"))
        with pytest.raises(AbidingError, match="would change"):
            bench.abide()
    finally:
        config.write_text(text)
    with sqlite3.connect(bench.experiments / "simulated_remote.db") as db:
        assert db.execute("select count(*) from bill").fetchone()[0] == len(bench.bill())
