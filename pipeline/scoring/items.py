"""Items read by their key straight from the file, so that a million of them cost 20 bytes each and not their passages."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from pathlib import Path
from types import TracebackType

import msgspec

from pipeline.base.errors import ManifestError
from pipeline.base.rows import Item


class _Key(msgspec.Struct):
    dataset: str
    id: str


class ItemIndex:
    """The items of one JSONL file by `Item.key`. A context manager; holds hash, offset and length of each line, sorted by hash."""

    def __init__(self, path: str | Path) -> None:
        """Read the file once. Raises ManifestError naming file:line for a line that is no item."""
        import numpy as np  # here: a run with nothing to do should not pay for it

        self.path = Path(path)
        hashes, offsets, lengths = array("q"), array("q"), array("l")
        decoder, offset = msgspec.json.Decoder(_Key), 0
        with open(self.path, "rb") as f:
            for number, line in enumerate(f, 1):
                try:
                    key = decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                    raise ManifestError(f"not a valid Item: {e}", where=f"{self.path}:{number}") from e
                hashes.append(hash(f"{key.dataset}|{key.id}"))
                offsets.append(offset)
                lengths.append(len(line))
                offset += len(line)
        order = np.argsort(np.frombuffer(hashes, dtype=np.int64), kind="stable") if hashes else np.zeros(0, dtype=np.int64)
        self._hashes, self._offsets, self._lengths = (
            array(a.typecode, np.frombuffer(a, dtype=f"i{a.itemsize}")[order].tobytes() if a else b"") for a in (hashes, offsets, lengths)
        )
        self._decoder = msgspec.json.Decoder(Item)
        self._fd = os.open(self.path, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self._hashes)

    def get(self, key: str) -> Item | None:
        """The item of this key, or None. Raises ManifestError where its line is no valid item."""
        wanted = hash(key)
        at = bisect_left(self._hashes, wanted)
        while at < len(self._hashes) and self._hashes[at] == wanted:
            line = os.pread(self._fd, self._lengths[at], self._offsets[at])
            try:
                item = self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                raise ManifestError(f"not a valid Item: {e}", where=f"{self.path}, item {key}") from e
            if item.key == key:
                return item
            at += 1
        return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> ItemIndex:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
