"""Atomic files and journals under failure: a reader sees the old bytes or the new ones, whatever happens to the writer."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.base import files
from pipeline.base.checkpoints import VARIABLE
from pipeline.base.files import TEMP_MARK, Journal, atomic_writer, json_bytes, sweep_dead, sweep_temporaries, write_atomic

FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if TEMP_MARK in p.name]


def failing(code: int) -> Callable[..., None]:
    def fail(*_args: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_disk_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fault: str
) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, failing(FAULTS[fault]))
        with pytest.raises(OSError) as raised:
            write_atomic(path, "new")
    assert raised.value.errno == FAULTS[fault]
    assert path.read_text() == "old" and not leftovers(tmp_path)


def test_a_disk_that_fills_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    """The real thing: a file-size limit makes write(2) itself fail."""
    script = """
import resource, signal, sys
from pipeline.base.files import atomic_writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with atomic_writer(sys.argv[1]) as f:
        f.write(b"x" * (3 << 20))
except OSError as e:
    sys.exit(e.errno)
"""
    path = tmp_path / "a"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == errno.EFBIG
    assert path.read_text() == "old" and not leftovers(tmp_path)


def test_an_exception_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_writer(path) as f:
        f.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and not leftovers(tmp_path)


def test_bytes_are_synced_before_the_rename_and_the_folder_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is the guarantee: a rename that reaches the disk before the bytes leaves an empty file after a power cut."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watch_sync(fd: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")  # noqa: PTH112
        fsync(fd)

    def watch_replace(source: str, target: str) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", watch_sync)
    monkeypatch.setattr(files.os, "replace", watch_replace)
    write_atomic(tmp_path / "a", "x")
    assert done == ["file", "rename", "folder"]


@pytest.fixture
def dead_writer(tmp_path: Path) -> Path:
    """A process was killed between the last byte and the rename."""
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    to_parent, at_child = os.pipe()
    from_child, go = os.pipe()
    script = "import sys; from pipeline.base.files import write_atomic; write_atomic(sys.argv[1], 'new')"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], env={**os.environ, VARIABLE: f"{at_child},{from_child}"}, pass_fds=(at_child, from_child)
    )
    assert os.read(to_parent, 100) == b"write\n"
    child.kill()
    child.wait()
    for fd in (to_parent, at_child, from_child, go):
        os.close(fd)
    return path


@pytest.mark.parametrize("sweep", [sweep_temporaries, sweep_dead])
def test_sigkill_before_the_rename_leaves_the_old_file_and_one_leftover_to_sweep(
    dead_writer: Path, sweep: Callable[[Path], list[Path]]
) -> None:
    assert dead_writer.read_text() == "old"
    assert len(leftovers(dead_writer.parent)) == 1
    assert len(sweep(dead_writer.parent)) == 1
    assert not leftovers(dead_writer.parent)
    write_atomic(dead_writer, "new")
    assert dead_writer.read_text() == "new"


def test_sweeping_a_shared_folder_spares_living_writers(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic_writer(path) as f:
        f.write(b"in work")
        assert not sweep_dead(tmp_path)
    assert path.read_text() == "in work"


def test_parent_folders_are_made(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x" / "y" / "z", "1")
    assert (tmp_path / "x" / "y" / "z").read_text() == "1"


def test_documents_refuse_what_json_cannot_say() -> None:
    with pytest.raises(ValueError):
        json_bytes({"a": float("nan")})


# --- journals --------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200).map(lambda b: b.replace(b"\n", b" ")), max_size=8), st.integers(0, 2000))
@settings(max_examples=60, deadline=None)
def test_a_journal_cut_anywhere_keeps_every_whole_record_and_takes_new_ones(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], at: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    data = path.read_bytes()[:at]
    path.write_bytes(data)
    whole = data.split(b"\n")[:-1]
    journal = Journal(path)
    journal.append(b"next")
    journal.close()
    assert list(Journal(path).lines()) == [*whole, b"next"]


def test_a_torn_line_longer_than_a_block_is_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b"first\n" + b"x" * 200_000)
    journal = Journal(path)
    journal.append(b"second")
    journal.close()
    assert path.read_bytes() == b"first\nsecond\n"


def test_every_record_is_synced_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", failing(errno.EIO))
        with pytest.raises(OSError):
            journal.append(b"lost")
    journal.close()


def test_a_journal_whose_disk_was_full_goes_on_without_a_torn_record(tmp_path: Path) -> None:
    """The same process goes on after a failed append (a disk that had room again): the next record starts on a line of its own."""
    script = """
import resource, signal, sys
from pipeline.base.files import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(sys.argv[1])
journal.append(b"a" * 50)
resource.setrlimit(resource.RLIMIT_FSIZE, (80, resource.RLIM_INFINITY))
try:
    journal.append(b"b" * 50)
    sys.exit("the limit did not bite")
except OSError:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(b"c" * 50)
"""
    path = tmp_path / "j"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert path.read_bytes().split(b"\n") == [b"a" * 50, b"c" * 50, b""]
