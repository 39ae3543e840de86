"""The answer store: first answer stays, claims keep others waiting, and a damaged store stops nobody."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from pipeline.base.rows import ResultRow
from pipeline.records.answers import CHUNK, AnswerStore


def row(text: str) -> ResultRow:
    return ResultRow(custom_id="c", outcome="answered", text=text)


def put(store: AnswerStore, rows: dict[str, ResultRow], generation: int = 0, owner: str = "r1/s") -> None:
    store.put(rows, generation, run_id="r1", provider="p", model="m", owner=owner)


@pytest.fixture
def store(tmp_path: Path) -> AnswerStore:
    return AnswerStore(tmp_path / "answers.db")


def test_answers_come_back_by_key_and_generation(store: AnswerStore) -> None:
    put(store, {"a": row("x"), "b": row("y")})
    put(store, {"a": row("again")}, generation=1)
    assert {k: r.text for k, (r, _at) in store.get(["a", "b", "c"], 0).items()} == {"a": "x", "b": "y"}
    assert {k: r.text for k, (r, _at) in store.get(["a", "b"], 1).items()} == {"a": "again"}
    assert store.known(["a", "c"], 0) == {"a"}


def test_the_first_answer_stays(store: AnswerStore) -> None:
    put(store, {"a": row("first")})
    put(store, {"a": row("second")})
    assert store.get(["a"], 0)["a"][0].text == "first"


def test_more_keys_than_sqlite_takes_at_once(store: AnswerStore) -> None:
    keys = [f"k{n}" for n in range(3 * CHUNK + 1)]
    put(store, {k: row(k) for k in keys})
    assert set(store.get(keys, 0)) == store.known(keys, 0) == set(keys)
    assert set(store.claim(keys, 1, "r1/s")) == set()
    assert set(store.claim(keys, 1, "r2/s")) == set(keys)


def test_a_claim_keeps_others_out_until_it_is_answered_or_released(store: AnswerStore) -> None:
    assert store.claim(["a", "b"], 0, "r1/s") == {}
    assert store.claim(["a", "b"], 0, "r1/s") == {}, "one's own claim is no obstacle"
    assert store.claim(["a", "c"], 0, "r2/s") == {"a": "r1/s"}
    put(store, {"a": row("x")})
    store.release("r1/s")
    assert store.claim(["a", "b"], 0, "r2/s") == {}
    assert store.claim(["a", "b", "c"], 0, "r1/s") == {"a": "r2/s", "b": "r2/s", "c": "r2/s"}


def test_claims_race_and_one_wins(tmp_path: Path) -> None:
    stores = [AnswerStore(tmp_path / "answers.db") for _ in range(4)]
    keys = [f"k{n}" for n in range(50)]
    lost: list[dict[str, str]] = [{}] * 4
    barrier = threading.Barrier(4)

    def run(n: int) -> None:
        barrier.wait()
        lost[n] = stores[n].claim(keys, 0, f"r{n}/s")

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(found) for found in lost) == [0, 50, 50, 50]
    assert len({owner for found in lost for owner in found.values()}) == 1


def test_answers_and_claims_change_together_or_not_at_all(store: AnswerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.claim(["a"], 0, "r1/s")

    def dies(_name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.records.answers.announce", dies)
        with pytest.raises(KeyboardInterrupt):
            put(store, {"a": row("x")})
    assert store.get(["a"], 0) == {}
    assert store.claim(["a"], 0, "r2/s") == {"a": "r1/s"}
    put(store, {"a": row("x")})
    assert store.get(["a"], 0)["a"][0].text == "x"


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_store_goes_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "answers.db"
    path.write_bytes(damage)
    store = AnswerStore(path)
    assert store.set_aside is not None and store.set_aside.read_bytes() == damage
    put(store, {"a": row("x")})
    assert store.known(["a"], 0) == {"a"}


def test_a_store_whose_schema_is_no_text_goes_aside(tmp_path: Path) -> None:
    """SQLite then quotes bytes that are not UTF-8 in its message."""
    path = tmp_path / "answers.db"
    AnswerStore(path).close()
    content = path.read_bytes()
    damaged = content.replace(b"tableanswersanswers", b"table" + b"\xac" * 7 + b"answers").replace(
        b"CREATE TABLE answers", b"CXEATE TABLE answers"
    )
    assert damaged != content
    path.write_bytes(damaged)
    assert AnswerStore(path, readonly=True).summary() == []
    assert AnswerStore(path).set_aside is not None


def test_reading_only_makes_no_file(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path / "none" / "answers.db", readonly=True)
    assert store.get(["a"], 0) == {} and store.known(["a"], 0) == set() and store.summary() == []
    assert not (tmp_path / "none").exists()


def test_summary_and_prune(store: AnswerStore) -> None:
    put(store, {"a": row("x"), "b": row("y")})
    (line,) = store.summary()
    assert (line["provider"], line["model"], line["answers"]) == ("p", "m", 2) and line["oldest"] <= line["newest"]
    assert store.prune("2000-01-01T00:00:00Z") == 0
    assert store.prune("9000-01-01T00:00:00Z") == 2


def test_what_was_put_survives_the_process(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path / "answers.db")
    put(store, {"a": row("x")})
    with sqlite3.connect(tmp_path / "answers.db") as other:  # no close, no checkpoint: as after SIGKILL
        assert other.execute("select count(*) from answers").fetchone() == (1,)


def test_an_unreadable_answer_is_none_and_makes_room_for_a_new_one(store: AnswerStore, tmp_path: Path) -> None:
    put(store, {"a": row("x"), "b": row("y")})
    with sqlite3.connect(tmp_path / "answers.db") as db:
        db.execute("update answers set row=? where key='a'", (b"\x00damaged",))
    assert {k: r.text for k, (r, _at) in store.get(["a", "b"], 0).items()} == {"b": "y"}
    put(store, {"a": row("asked again")})
    assert store.get(["a"], 0)["a"][0].text == "asked again"
