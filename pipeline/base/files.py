"""The one place that opens files for writing: beside, flush, fsync, replace, fsync the folder.

A reader therefore sees the old bytes or the new ones, never a part, whatever kills the writer.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from pipeline.base.checkpoints import announce
from pipeline.base.errors import ManifestError

TEMP_MARK = ".abiding-tmp-"
NO_FILE = (errno.EISDIR, errno.ELOOP)
"""What the system says where a folder, or a circle of links, lies in a file's place."""


def fsync_dir(folder: str | Path) -> None:
    """Make the folder's entries (a rename, a new file) survive a power loss."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def file_stamp() -> str:
    """UTC now for file names: `20260131T120000123456`."""
    return datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")


def put_aside(path: Path, word: str = "corrupt") -> Path:
    """Rename a file (or what lies in its place) to `<name>.<word>.<ts>`: nothing that a person might need is ever overwritten."""
    aside = path.with_name(f"{path.name}.{word}.{file_stamp()}")
    path.rename(aside)
    return aside


def read_file(path: str | Path) -> bytes:
    """The bytes of a file. Raises FileNotFoundError, or ManifestError where a folder (or a circle of links) lies in its place."""
    with not_a_file(path):
        return Path(path).read_bytes()


@contextmanager
def not_a_file(path: str | Path) -> Iterator[None]:
    """Turn the error of opening what is no file into a ManifestError that says so."""
    try:
        yield
    except OSError as e:
        if e.errno not in NO_FILE:
            raise
        raise ManifestError("is no file, but a folder or a circle of links", where=str(path)) from None


def _make_room(path: Path) -> None:
    # What lies where a file of ours belongs, a folder or a link that leads nowhere, would otherwise stop every run.
    if not path.exists() if path.is_symlink() else path.is_dir():
        put_aside(path)


def _temp_path(path: Path) -> Path:
    # Named by process, so that two processes never write into one another's file; a leftover of a killed one is swept.
    return path.with_name(f".{path.name}{TEMP_MARK}{os.getpid()}")


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path`, whole and durable, when the block ends without an exception.

    Parent folders are made; a folder at `path` itself goes aside. On an exception the temporary file is removed and `path` stays as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = _temp_path(target)
    try:
        with open(temp, "wb", buffering=1 << 20) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        announce("write")
        _make_room(target)
        os.replace(temp, target)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    fsync_dir(target.parent)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`, atomically and durably."""
    with atomic_writer(path) as f:
        f.write(data.encode("utf-8") if isinstance(data, str) else data)


def json_bytes(value: Any) -> bytes:
    """The JSON of our small documents: two-space indent, keys in the order given, a final newline."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def sweep_temporaries(folder: str | Path) -> list[Path]:
    """Remove what killed writers left below `folder`. Call it only under the run's lock. Returns what was removed."""
    swept = []
    for root, _dirs, names in os.walk(folder):
        for name in names:
            if TEMP_MARK in name:
                path = Path(root, name)
                path.unlink(missing_ok=True)
                swept.append(path)
    return swept


def sweep_dead(folder: str | Path) -> list[Path]:
    """Remove what killed writers left in a folder that processes share (not below it): only files of processes that are gone."""
    swept = []
    for path in Path(folder).glob(f".*{TEMP_MARK}*"):
        pid = path.name.rpartition(TEMP_MARK)[2]
        if pid.isdigit() and not _alive(int(pid)):
            path.unlink(missing_ok=True)
            swept.append(path)
    return swept


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


class Journal:
    """An append-only JSONL file: each record is durable before `append` returns.

    On opening, a last line without its newline (a torn write) is cut back to the last whole record.
    """

    def __init__(self, path: str | Path) -> None:
        """Open (or make) the journal at `path`."""
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(self.path)
        new = not self.path.exists()
        self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - held open for the journal's life
        self._cut_torn_line()
        if new:
            fsync_dir(self.path.parent)

    def _cut_torn_line(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - (1 << 16))
            self._file.seek(start)
            at = self._file.read(end - start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            self._file.truncate(end)
            os.fsync(self._file.fileno())

    def append(self, record: bytes) -> None:
        """Add one record (JSON without newlines) and make it durable. Raises OSError; then nothing was added."""
        view, start = memoryview(record + b"\n"), self._file.seek(0, os.SEEK_END)
        try:
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError:  # a full disk took a part of it: the next record must not stand on the same line
            with suppress(OSError):
                self._file.truncate(start)
            raise

    def lines(self) -> Iterator[bytes]:
        """The whole records, oldest first."""
        with open(self.path, "rb") as f:
            yield from (line.rstrip(b"\n") for line in f if line.endswith(b"\n"))

    def close(self) -> None:
        """Close the file; what was appended stays."""
        self._file.close()
