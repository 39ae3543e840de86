"""doit's database: each finished task is on disk before the next one starts, and damage costs a recheck at most."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doit.dependency import JSONCodec

from pipeline.engine.backend import DurableSqliteDB

DODO = """
import os, signal
from doit.tools import run_once
from pipeline.engine.backend import DurableSqliteDB
DurableSqliteDB.readonly = False
DOIT_CONFIG = {"backend": "durable", "dep_file": "db"}

def note(name):
    with open("ran.txt", "a") as f:
        f.write(name + "\\n")

def second():
    note("second")
    if os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)

def task_a():
    return {"actions": [(note, ["first"])], "uptodate": [run_once]}

def task_b():
    return {"actions": [second], "uptodate": [run_once]}
"""


@pytest.fixture(autouse=True)
def writable() -> Iterator[None]:
    """Commands set this for the process; each test begins as `doit run` does."""
    before = DurableSqliteDB.readonly
    DurableSqliteDB.readonly = False
    yield
    DurableSqliteDB.readonly = before


def opened(path: Path) -> DurableSqliteDB:
    return DurableSqliteDB(str(path), JSONCodec())


def finished(path: Path) -> None:
    db = opened(path)
    db.set("task", "result:", "x")
    db.set("task", "deps:", ["a"])
    db.shutdown()


def test_a_task_is_durable_once_its_last_value_is_set(tmp_path: Path) -> None:
    db = opened(tmp_path / "db")
    assert db.get("task", "deps:") is None
    db.set("task", "result:", "x")
    with sqlite3.connect(tmp_path / "db") as other:
        assert other.execute("select count(*) from doit").fetchone() == (0,)
        db.set("task", "deps:", ["a"])
        assert other.execute("select task_id from doit").fetchall() == [("task",)]
    assert opened(tmp_path / "db").get("task", "deps:") == ["a"]


def test_what_is_forgotten_or_ignored_is_durable_too(tmp_path: Path) -> None:
    finished(tmp_path / "db")
    db = opened(tmp_path / "db")
    db.remove("task")
    assert opened(tmp_path / "db").get("task", "deps:") is None
    db.set("other", "ignore:", "1")
    assert opened(tmp_path / "db").get("other", "ignore:") == "1"


@pytest.mark.parametrize("die", ["1", ""])
def test_a_killed_doit_does_not_run_its_first_task_again(tmp_path: Path, die: str) -> None:
    """With doit's own backends both lines of the second assertion would say `first`."""
    (tmp_path / "dodo.py").write_text(DODO)
    (tmp_path / "pyproject.toml").write_text('[tool.doit.plugins.backend]\ndurable = "pipeline.engine.backend:DurableSqliteDB"\n')
    root = Path(__file__).resolve().parents[1]
    for death in (die, ""):
        env = {**os.environ, "PYTHONPATH": str(root), "DIE": death}
        subprocess.run([sys.executable, "-m", "doit"], cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (tmp_path / "ran.txt").read_text().split() == (["first", "second", "second"] if die else ["first", "second"])


@pytest.mark.parametrize("damage", [b"", b"no database" * 500, b"SQLite format 3\x00" + b"\xff" * 4000])
def test_a_corrupt_database_goes_aside_and_a_new_one_begins(tmp_path: Path, damage: bytes) -> None:
    finished(tmp_path / "db")
    (tmp_path / "db").write_bytes(damage)
    db = opened(tmp_path / "db")
    assert db.get("task", "deps:") is None
    db.set("task", "deps:", ["b"])
    assert opened(tmp_path / "db").get("task", "deps:") == ["b"]
    if damage:
        (aside,) = tmp_path.glob("db.corrupt.*")
        assert aside.read_bytes() == damage


@pytest.mark.parametrize("data", ["{", "[]", "null", ""])
def test_a_torn_record_is_a_forgotten_task(tmp_path: Path, data: str) -> None:
    finished(tmp_path / "db")
    with sqlite3.connect(tmp_path / "db") as db:
        db.execute("update doit set task_data=?", (data,))
    assert opened(tmp_path / "db").get("task", "deps:") is None


def test_looking_sees_what_is_there_and_touches_nothing(tmp_path: Path) -> None:
    finished(tmp_path / "db")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    DurableSqliteDB.readonly = True
    db = opened(tmp_path / "db")
    assert db.get("task", "deps:") == ["a"]
    db.set("task", "deps:", ["changed"])
    db.dump()
    db.shutdown()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert opened(tmp_path / "none" / "db").get("task", "deps:") is None
    assert not (tmp_path / "none").exists()


def test_looking_sees_what_a_running_process_has_committed(tmp_path: Path) -> None:
    """The write-ahead log of a run in progress is read too."""
    db = opened(tmp_path / "db")
    db.set("task", "deps:", ["a"])
    DurableSqliteDB.readonly = True
    assert opened(tmp_path / "db").get("task", "deps:") == ["a"]
    db.shutdown()
