"""The dry run's remote: a known truth, answers that depend on the request alone, a bill that shows every carelessness."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.digests import sha256_bytes
from pipeline.base.rows import Item, Place, RequestRow
from pipeline.providers.protocol import JobState
from pipeline.providers.simulated import SimulatedProvider, is_right
from tests.submissions import Recorder, deliver, submission

ITEMS = 3000


def item(n: str) -> Item:
    return Item(dataset="d", id=n, question=f"q{n}?", answers=[f"gold {n}"])


def asked(n: int, system: str) -> RequestRow:
    body = {"messages": [{"role": "system", "content": system}, {"role": "user", "content": "?"}], "max_tokens": 8}
    place = Place(dataset="d", item_id=str(n), type="closed", temp=0.0, sample_index=0)
    return RequestRow(custom_id=sha256_bytes(f"{system}{n}".encode())[:32], answer_key=f"{system}{n}", place=place, body=body)


def provider(folder: Path, settings: Mapping[str, Any] | None = None, accuracy: Mapping[str, float] | None = None) -> SimulatedProvider:
    known = {sha256_bytes(prompt.encode()): p for prompt, p in (accuracy or {}).items()}
    return SimulatedProvider(folder / "remote.db", lambda dataset, n: item(n), settings or {}, known)


def bill(folder: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(folder / "remote.db") as db:
        return db.execute("select custom_id, count(*) from bill group by 1 order by 1").fetchall()


def test_the_share_of_right_answers_is_the_accuracy_that_was_set(tmp_path: Path) -> None:
    sim = provider(tmp_path, accuracy={"good": 0.8, "bad": 0.5})
    right = {p: [f"gold {n}" in sim.answer(asked(n, p)).text for n in range(ITEMS)] for p in ("good", "bad")}
    assert sum(right["good"]) / ITEMS == pytest.approx(0.8, abs=0.03)
    assert sum(right["bad"]) / ITEMS == pytest.approx(0.5, abs=0.03)
    both = sum(g and b for g, b in zip(right["good"], right["bad"], strict=True)) / ITEMS
    assert both > 0.8 * 0.5 + 0.03, "prompts share the items' difficulty"


def test_rightness_is_monotone_in_accuracy() -> None:
    for n in range(200):
        drawn = [is_right(p / 10, f"d|{n}", f"c{n}") for p in range(11)]
        assert drawn == sorted(drawn) and drawn[0] is False and drawn[-1] is True


def test_answers_depend_on_the_request_alone(tmp_path: Path) -> None:
    rows = [asked(n, "p") for n in range(20)]
    one = deliver(provider(tmp_path / "a"), submission(tmp_path / "a", rows))
    two = deliver(provider(tmp_path / "b"), submission(tmp_path / "b", list(reversed(rows))))
    assert {r.custom_id: r.text for r in one} == {r.custom_id: r.text for r in two}


def test_a_create_never_dedupes_and_bills_each_time(tmp_path: Path) -> None:
    sim, sub, record = provider(tmp_path), submission(tmp_path, [asked(1, "p")]), Recorder()
    jobs = [sim.create(sub, {}, record)["job"] for _ in range(2)]
    assert len(set(jobs)) == 2
    assert [n for _c, n in bill(tmp_path)] == [2]
    assert sim.find(sub, {}) == {"job": jobs[0]}, "the first job of the key is found"


def test_job_and_bill_are_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sim, sub = provider(tmp_path), submission(tmp_path, [asked(1, "p")])

    def dies(_name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.providers.simulated.announce", dies)
        with pytest.raises(KeyboardInterrupt):
            sim.create(sub, {}, Recorder())
    assert sim.find(sub, {}) is None and bill(tmp_path) == []


def test_a_job_takes_so_many_polls_and_an_unknown_one_is_lost(tmp_path: Path) -> None:
    sim, sub = provider(tmp_path, {"polls_per_job": 3}), submission(tmp_path, [asked(n, "p") for n in range(6)])
    ids = sim.create(sub, {}, Recorder())
    states = [sim.poll(ids, sub) for _ in range(3)]
    assert [s.done for s in states] == [2, 4, 6] and [s.state for s in states] == [JobState.RUNNING] * 2 + [JobState.ENDED]
    assert sim.poll({"job": "sim-999999"}, sub).state is JobState.LOST


def test_failures_come_at_the_rate_that_was_set(tmp_path: Path) -> None:
    sim = provider(tmp_path, {"failure_rate": 0.3})
    failed = [sim.answer(asked(n, "p"), 1).outcome == "failed" for n in range(ITEMS)]
    assert sum(failed) / ITEMS == pytest.approx(0.3, abs=0.03)
    assert failed != [sim.answer(asked(n, "p"), 2).outcome == "failed" for n in range(ITEMS)], "another job, another chance"
