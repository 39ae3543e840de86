"""sha256 of files, remembered by stamp (size, mtime_ns, ctime_ns, inode): a file that nobody touched is not read again."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec

from pipeline.base.digests import sha256_bytes, sha256_file
from pipeline.base.errors import ManifestError
from pipeline.base.files import not_a_file, read_file, write_atomic

Stamp = tuple[int, int, int, int]


class Saved(msgspec.Struct):
    """The cache's file: what is known, and the digest of it, so that a damaged digest of a file is not believed."""

    sha256: str
    known: msgspec.Raw


def stamp_of(path: str | Path) -> Stamp:
    """(size, mtime_ns, ctime_ns, inode). Raises FileNotFoundError."""
    st = os.stat(path)
    return st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino


class DigestCache:
    """Digests by path. A lost or corrupt cache costs a re-hash, never more; `verify=True` hashes everything once anew."""

    def __init__(self, path: Path, root: Path, *, verify: bool = False) -> None:
        """`path` is the cache's file; names in it are relative to `root`, so that a moved project keeps its cache."""
        self._path, self._root, self._dirty = path, str(root) + os.sep, False
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, int, int, int, str]] = {}
        self._fresh: set[str] | None = set() if verify else None
        try:
            saved = msgspec.json.decode(read_file(path), type=Saved)
            if sha256_bytes(bytes(saved.known)) == saved.sha256:
                self._known = msgspec.json.decode(saved.known, type=dict[str, tuple[int, int, int, int, str]])
        except (FileNotFoundError, ManifestError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # everything is hashed once anew
        self._dirty = not self._known

    def sha256(self, path: str | Path) -> str:
        """The file's sha256 (64 hex). Raises FileNotFoundError."""
        name = str(path).removeprefix(self._root)
        stamp = stamp_of(path)
        known = self._known.get(name)
        if known is not None and known[:4] == stamp and (self._fresh is None or name in self._fresh):
            return known[4]
        value = sha256_file(path)
        with self._lock:
            if stamp_of(path) == stamp:  # unchanged while it was read
                self._known[name] = (*stamp, value)
                self._dirty = True
                if self._fresh is not None:
                    self._fresh.add(name)
        return value

    def matches(self, path: str | Path, size: int, sha256: str) -> bool:
        """True where the file exists with that size and digest. Sizes are compared first: a torn file is not read."""
        try:
            with not_a_file(path):
                return os.stat(path).st_size == size and self.sha256(path) == sha256
        except (FileNotFoundError, NotADirectoryError, ManifestError):
            return False

    def save(self) -> None:
        """Keep what was learned for the next process (atomic; nothing is written when nothing is new)."""
        with self._lock:
            if self._dirty and self._known:
                known = msgspec.json.encode(self._known)
                write_atomic(self._path, msgspec.json.encode(Saved(sha256_bytes(known), msgspec.Raw(known))))
                self._dirty = False
