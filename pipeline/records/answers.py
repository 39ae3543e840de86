"""The answer store `experiments/answers.db`: every answer by content, so that no question is ever paid for twice.

Keys are digests of all that determines an answer (provider, endpoint, model, body, replicate) plus a generation, which
`--fresh` raises. A claim says that some run has sent, or is about to send, a request: another run waits instead of paying.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.checkpoints import announce
from pipeline.base.files import put_aside
from pipeline.base.rows import ResultRow, encode
from pipeline.records.clock import now_iso

TABLES = """
create table if not exists answers(
  key text not null, generation integer not null, row blob not null, answered_at text not null, run_id text not null,
  provider text not null, model text not null, primary key (key, generation)) without rowid;
create table if not exists claims(
  key text not null, generation integer not null, owner text not null, since text not null, primary key (key, generation)) without rowid;
create index if not exists claims_owner on claims(owner);
"""
DAMAGED = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite raises for a file that it cannot read; the second where its own message quotes a damaged schema."""
CHUNK = 500  # below SQLite's oldest limit on variables
_decode = msgspec.json.Decoder(ResultRow).decode


def _chunks(keys: Iterable[str]) -> Iterator[Sequence[str]]:
    # In the order of the table: neighbours share pages, and each page of a large store is visited once.
    keys = sorted(set(keys))
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]


class AnswerStore:
    """Opened read-only it reads what is there and never makes a file; otherwise it is made at first use."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """`path` is `experiments/answers.db`. A corrupt store goes aside to `*.corrupt.<ts>` (runs keep their own copies)."""
        self.path, self._lock = path, threading.RLock()
        self.set_aside: Path | None = None
        self._db: sqlite3.Connection | None = None
        if readonly:
            if path.exists():
                self._db = self._look()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._open()
        except DAMAGED as e:
            if isinstance(e, sqlite3.OperationalError) and path.is_file():
                raise  # locked for long, a full disk: the file itself is not at fault
            self.set_aside = put_aside(path)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._db = self._open()

    def _look(self) -> sqlite3.Connection | None:
        # Without a log of writes to be merged the file alone is all there is: opened so, SQLite makes no files of its own beside it.
        wal = self.path.with_name(f"{self.path.name}-wal")
        mode = "mode=ro" if wal.exists() and wal.stat().st_size else "mode=ro&immutable=1"
        db = sqlite3.connect(f"{self.path.absolute().as_uri()}?{mode}", uri=True, check_same_thread=False, timeout=30)
        try:
            db.execute("select 1 from answers limit 1").fetchone()
        except DAMAGED:  # corrupt: a run would put it aside; to look is to see no answers
            db.close()
            return None
        return db

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, timeout=60, isolation_level=None)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
        db.executescript(TABLES)
        db.execute("select count(*) from (select 1 from answers limit 1)").fetchone()
        return db

    @property
    def filled(self) -> bool:
        """Whether all that the runs knew when the store was made is in it (see `refill`). A kill on the way leaves it False."""
        assert self._db is not None
        return bool(self._db.execute("pragma user_version").fetchone()[0])

    def mark_filled(self) -> None:
        """From here on every answer comes into the store as it is given."""
        assert self._db is not None
        self._db.execute("pragma user_version = 1")

    def get(self, keys: Iterable[str], generation: int) -> dict[str, tuple[ResultRow, str]]:
        """The stored answers among `keys`: key -> (row with the custom_id it was asked under, answered_at)."""
        found: dict[str, tuple[ResultRow, str]] = {}
        if self._db is None:
            return found
        with self._lock:
            for chunk in _chunks(keys):
                marks = ",".join("?" * len(chunk))
                sql = f"select key, row, answered_at from answers where generation=? and key in ({marks})"
                for key, blob, at in self._db.execute(sql, (generation, *chunk)).fetchall():
                    try:
                        found[key] = (_decode(blob), at)
                    except (msgspec.DecodeError, RecursionError):  # damaged is no answer, and must not keep a new one out
                        self._db.execute("delete from answers where key=? and generation=?", (key, generation))
        return found

    def known(self, keys: Iterable[str], generation: int) -> set[str]:
        """Which of `keys` are answered. Cheaper than `get`: no row is decoded."""
        found: set[str] = set()
        if self._db is None:
            return found
        with self._lock:
            for chunk in _chunks(keys):
                marks = ",".join("?" * len(chunk))
                sql = f"select key from answers where generation=? and key in ({marks})"
                found.update(key for (key,) in self._db.execute(sql, (generation, *chunk)))
        return found

    def oldest(self, keys: Iterable[str], generation: int) -> str | None:
        """When the oldest of these answers was given (RFC 3339)."""
        times: list[str] = []
        if self._db is None:
            return None
        with self._lock:
            for chunk in _chunks(keys):
                marks = ",".join("?" * len(chunk))
                sql = f"select min(answered_at) from answers where generation=? and key in ({marks})"
                times += [at for (at,) in self._db.execute(sql, (generation, *chunk)) if at]
        return min(times, default=None)

    def put(
        self, rows: Mapping[str, ResultRow], generation: int, *, run_id: str, provider: str, model: str, owner: str, at: str | None = None
    ) -> None:
        """Keep answers (key -> row), given now or `at` (RFC 3339), and let go of the owner's claims on them, in one transaction. First
        answer stays."""
        assert self._db is not None
        at = at or now_iso()
        with self._lock:
            self._db.execute("begin immediate")
            try:
                self._db.executemany(
                    "insert or ignore into answers values (?,?,?,?,?,?,?)",
                    ((key, generation, encode(row), at, run_id, provider, model) for key, row in sorted(rows.items())),
                )
                self._db.executemany(
                    "delete from claims where key=? and generation=? and owner=?", ((key, generation, owner) for key in rows)
                )
                announce("store")
                self._db.execute("commit")
            except BaseException:
                self._db.execute("rollback")
                raise

    def claim(self, keys: Iterable[str], generation: int, owner: str) -> dict[str, str]:
        """Claim `keys` for `owner`. Returns those that belong to somebody else: key -> owner."""
        assert self._db is not None
        wanted, at = sorted(set(keys)), now_iso()
        others: dict[str, str] = {}
        with self._lock:
            self._db.execute("begin immediate")
            try:
                self._db.executemany("insert or ignore into claims values (?,?,?,?)", ((key, generation, owner, at) for key in wanted))
                for chunk in _chunks(wanted):
                    marks = ",".join("?" * len(chunk))
                    sql = f"select key, owner from claims where generation=? and owner<>? and key in ({marks})"
                    others.update(self._db.execute(sql, (generation, owner, *chunk)).fetchall())
                self._db.execute("commit")
            except BaseException:
                self._db.execute("rollback")
                raise
        return others

    def release(self, owner: str) -> None:
        """Let go of all claims of `owner`: what it still owes was given up, or will be claimed anew."""
        assert self._db is not None
        with self._lock:
            self._db.execute("delete from claims where owner=?", (owner,))

    def summary(self) -> list[dict[str, Any]]:
        """Answers by provider, model and generation: count, oldest, newest."""
        if self._db is None:
            return []
        with self._lock:
            rows = self._db.execute(
                "select provider, model, generation, count(*), min(answered_at), max(answered_at) from answers group by 1,2,3"
            ).fetchall()
        return [dict(zip(("provider", "model", "generation", "answers", "oldest", "newest"), row, strict=True)) for row in rows]

    def everything(self) -> Iterator[tuple[str, int, ResultRow, str, str, str, str]]:
        """All answers: (key, generation, row, answered_at, run_id, provider, model), by key. Raises DecodeError on a bad row."""
        if self._db is not None:
            for key, generation, blob, *rest in self._db.execute("select * from answers order by key, generation"):
                yield (key, generation, _decode(blob), *rest)

    def older(self, before: str) -> int:
        """How many answers are older than `before` (RFC 3339, or the beginning of one)."""
        assert self._db is not None
        with self._lock:
            return int(self._db.execute("select count(*) from answers where answered_at < ?", (before,)).fetchone()[0])

    def prune(self, before: str) -> int:
        """Forget answers older than `before` (RFC 3339). Returns how many."""
        assert self._db is not None
        with self._lock:
            return self._db.execute("delete from answers where answered_at < ?", (before,)).rowcount

    def close(self) -> None:
        """Close the database."""
        if self._db is not None:
            self._db.close()
            self._db = None
