"""doit's database, made durable: each finished task is committed before the next one starts.

doit keeps its database in memory and writes it once, at exit; after SIGKILL finished tasks would run again. It is a cache of our
receipts all the same: a lost or corrupt one costs a re-check, never a request.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from doit.dependency import DatabaseException, SqliteDB

from pipeline.base.checkpoints import announce
from pipeline.base.files import put_aside
from pipeline.records.answers import DAMAGED


class DurableSqliteDB(SqliteDB):  # type: ignore[misc]
    """SQLite in WAL mode that commits a task as soon as its last value (`deps:`) is set."""

    desc = "SQLite, committed after every task"
    readonly = False
    """Set by the commands that only look: no file is made or touched."""

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:
        self.name, self.codec = name, codec
        self._cache: dict[str, Any] = {}
        self._dirty: set[str] = set()

    @functools.cached_property
    def _conn(self) -> Any:
        # Opened when it is first asked: a command that is refused at the gate leaves no file.
        return self._sqlite3(self.name)

    def _sqlite3(self, name: str) -> Any:
        if self.readonly:
            memory = super()._sqlite3(":memory:")
            _copy_for_reading(Path(name), memory)
            return memory
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        try:
            conn = super()._sqlite3(name)
            conn.execute("pragma journal_mode=wal")
            conn.execute("pragma synchronous=full")
            conn.execute("select count(*) from doit").fetchone()
        except (DatabaseException, *DAMAGED):
            aside(Path(name))
            conn = super()._sqlite3(name)
            conn.execute("pragma journal_mode=wal")
        return conn

    def _get_task_data(self, task_id: str) -> dict[str, Any]:
        try:
            data: dict[str, Any] = super()._get_task_data(task_id)
        except (ValueError, UnicodeDecodeError):  # a torn record: doit forgets the task, the receipt remembers it
            return {}
        return data if isinstance(data, dict) else {}

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Store a value; the last one of a finished task makes all of them durable."""
        super().set(task_id, dependency, value)
        if dependency in ("deps:", "ignore:"):
            self.commit()

    def remove(self, task_id: str) -> None:
        """Forget a task, durably."""
        super().remove(task_id)
        self.commit()

    def commit(self) -> None:
        """Write what is not written yet."""
        if self.readonly:
            self._dirty = set()
            return
        if not self._dirty and "_conn" not in self.__dict__:
            return
        for task_id in self._dirty:
            self._conn.execute("insert or replace into doit values (?,?)", (task_id, self.codec.encode(self._cache[task_id])))
        announce("doit-db")
        self._conn.commit()
        self._dirty = set()

    def dump(self) -> None:
        """doit's 'write at exit': nothing is left to write. The connection stays open for a second pass (see `shutdown`)."""
        self.commit()

    def shutdown(self) -> None:
        """Close the database."""
        if "_conn" in self.__dict__:
            self._conn.close()


def _copy_for_reading(path: Path, memory: sqlite3.Connection) -> None:
    """Fill `memory` from a private copy of the database and its write-ahead log: looking waits for nobody and leaves no file."""
    if not path.exists():
        return
    with tempfile.TemporaryDirectory(prefix="abiding-") as folder:
        copy = Path(folder, "doit.db")
        for suffix in ("", "-wal"):
            source = path.with_name(path.name + suffix)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
        try:
            with contextlib.closing(sqlite3.connect(copy)) as disk:
                rows = disk.execute("select task_id, cast(task_data as blob) from doit").fetchall()
        except DAMAGED:  # corrupt: a run would put it aside; to look is to see nothing done
            return
    memory.executemany(
        "insert or replace into doit values (?,?)", ((task_id, bytes(data).decode("utf-8", "replace")) for task_id, data in rows)
    )


def aside(path: Path) -> None:
    """Put a corrupt database aside as `*.corrupt.<ts>`."""
    put_aside(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
