"""Ways to damage a file, drawn from a seeded generator: what disks, editors, merges and crashes do, and worse."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    7,
    10**30,
    0.5,
    "",
    "x",
    [],
    {},
    [[]],
    {"a": 1},
    "2026-01-31T10:00:00Z",
    "0" * 64,
    "failed",
    "published",
)
Mutation = Callable[[bytes, random.Random], bytes]


def _span(data: bytes, rng: random.Random, most: int = 40) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randrange(1, most))


def truncated(data: bytes, rng: random.Random) -> bytes:
    """Cut off, as by a full disk."""
    return data[: rng.randrange(len(data) + 1)]


def cut(data: bytes, rng: random.Random) -> bytes:
    """A span is missing."""
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One bit is another."""
    if not data:
        return b"\x01"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    """A span reads as zeros, as after a power loss."""
    start, end = _span(data, rng, 400)
    return data[:start] + bytes(end - start) + data[end:]


def inserted(data: bytes, rng: random.Random) -> bytes:
    """Foreign bytes in the middle, as of a merge."""
    at = rng.randrange(len(data) + 1)
    return (
        data[:at]
        + rng.choice(
            (b"<<<<<<< HEAD\n", b"\x00", b"\xff\xfe", b'"', b"}", b",", b"\n", b"NaN", bytes(rng.randrange(256) for _ in range(5)))
        )
        + data[at:]
    )


def replaced(data: bytes, rng: random.Random) -> bytes:
    """Something else altogether."""
    deep = rng.choice((70, 1000, 100_000))
    return rng.choice(
        (
            b"",
            b"{}",
            b"[]",
            b"null",
            b"3",
            b'"x"',
            b"\x00" * 64,
            b"[" * deep + b"]" * deep,
            b'{"a":' * deep + b"1" + b"}" * deep,
            b"not JSON",
        )
    )


def with_bom(data: bytes, _rng: random.Random) -> bytes:
    """Saved by an editor that writes a byte order mark."""
    return b"\xef\xbb\xbf" + data


def doubled_line(data: bytes, rng: random.Random) -> bytes:
    """A line stands twice: a duplicate key, or a duplicate row."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data + b"\n"
    at = rng.randrange(len(lines))
    return b"".join([*lines[: at + 1], lines[at], *lines[at + 1 :]])


def swapped_lines(data: bytes, rng: random.Random) -> bytes:
    """Two lines changed places."""
    lines = data.splitlines(keepends=True)
    if len(lines) > 1:
        a, b = rng.sample(range(len(lines)), 2)
        lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def other_digit(data: bytes, rng: random.Random) -> bytes:
    """One digit is another: still valid, no longer true."""
    digits = [i for i, c in enumerate(data) if 48 <= c <= 57]
    if not digits:
        return data + b"7"
    at = rng.choice(digits)
    return data[:at] + str(rng.randrange(10)).encode() + data[at + 1 :]


def other_number(data: bytes, rng: random.Random) -> bytes:
    """A number became NaN, infinite, enormous."""
    at = rng.choice([i for i, c in enumerate(data) if 48 <= c <= 57] or [0])
    return data[:at] + rng.choice((b"NaN", b"Infinity", b"1e999", b"9" * 5000, b"-1")) + data[at + 1 :]


def other_value(data: bytes, rng: random.Random) -> bytes:
    """A value of the document became another, perhaps of another type; a key went, or one came."""
    first, newline, rest = data.partition(b"\n") if data[:1] == b"{" and data[1:2] != b"\n" else (data, b"", b"")
    try:
        document = json.loads(first)
    except (ValueError, RecursionError):
        return flipped(data, rng)
    places = list(_places(document))
    if not places:
        return b"{}"
    holder, key = rng.choice(places)
    what = rng.randrange(5)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[rng.choice(("unknown", "schema_version", "legacy", ""))] = rng.choice(WRONG)
    elif what == 2:
        holder[key] = rng.choice(places)[0]
    else:
        holder[key] = rng.choice(WRONG)
    try:
        return json.dumps(document, indent=None if newline else 2).encode() + newline + rest
    except ValueError:  # it now contains itself
        return b"{}"


def surrogate(data: bytes, rng: random.Random) -> bytes:
    """A text holds half of a surrogate pair, as of an emoji that was cut in two: JSON that cannot be written again."""
    quotes = [i for i, c in enumerate(data) if c == 34]
    at = rng.choice(quotes) + 1 if quotes else 0
    return data[:at] + b"\\ud83d" + data[at:]


def crlf(data: bytes, _rng: random.Random) -> bytes:
    """Copied by way of another system."""
    return data.replace(b"\n", b"\r\n")


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for i in range(len(value)):
            yield value, i
            yield from _places(value[i])


# --- what stands in a file's place, and what other files say ----------------------------------------------------------------

MARK = "what a person put here"
Displacement = Callable[[Path, Sequence[Path], random.Random], None]
"""Of a file, given others that are its like: those of the same name of other shards, trials and runs, and of another time."""


def deleted(path: Path, _like: Sequence[Path], _rng: random.Random) -> None:
    """It is gone."""
    path.unlink()


def folder(path: Path, _like: Sequence[Path], rng: random.Random) -> None:
    """A folder has its name, empty or not."""
    path.unlink()
    path.mkdir()
    if rng.random() < 0.5:
        (path / "note.txt").write_text(MARK)


def dangling(path: Path, _like: Sequence[Path], rng: random.Random) -> None:
    """A link to nowhere, or to itself."""
    path.unlink()
    path.symlink_to(rng.choice(("nowhere", path.name)))


def exchanged(path: Path, like: Sequence[Path], rng: random.Random) -> None:
    """It holds what a file of its name elsewhere holds: whole, valid, and about something else, or of another time."""
    if like:
        path.write_bytes(rng.choice(like).read_bytes())


def folder_exchanged(path: Path, like: Sequence[Path], rng: random.Random) -> None:
    """All files beside it are those of another folder: each fits the others, none fits the run."""
    if like:
        other = rng.choice(like).parent
        for name in sorted(p.name for p in other.iterdir() if p.is_file()):
            (path.parent / name).write_bytes((other / name).read_bytes())


DISPLACEMENTS: tuple[Displacement, ...] = (deleted, folder, dangling, exchanged, exchanged, folder_exchanged)

MUTATIONS: tuple[Mutation, ...] = (
    truncated, cut, flipped, zeroed, inserted, replaced, with_bom, doubled_line, swapped_lines, surrogate, crlf,
    other_digit, other_number, other_value, other_value, other_value,
)  # fmt: skip
