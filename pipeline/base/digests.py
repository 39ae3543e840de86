"""Digests: one canonical JSON, one hash function, so that every name commits to the same bytes everywhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space: equal values give equal bytes.

    Raises ValueError for NaN and infinities, which JSON cannot say.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


def digest(value: Any) -> str:
    """sha256 (64 hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_bytes(data: bytes) -> str:
    """sha256 (64 hex) of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """sha256 (64 hex) of a file's bytes, read in blocks. Raises OSError where it cannot be read."""
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def uniform(*parts: str) -> float:
    """A number in [0, 1) that depends on `parts` alone: the first 53 bits of their sha256."""
    h = hashlib.sha256("\x1f".join(parts).encode("utf-8")).digest()
    return (int.from_bytes(h[:8], "big") >> 11) / (1 << 53)
