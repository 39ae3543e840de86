"""Bytes to rows: lines of JSON and whole JSON documents, with the line of what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from pipeline.base.errors import ConfigError

Kind = TypeVar("Kind")
BOM = b"\xef\xbb\xbf"
NEWLINE = b"\n"
UTF8 = "Save the file as UTF-8."


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1; a byte order mark at its start is dropped."""
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            text = line.removeprefix(BOM) if number == 1 else line
            if text and not text.isspace():
                yield number, text


def decode_utf8(line: bytes, where: str) -> str:
    """The text of a line. Raises ConfigError naming the byte that is no UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ConfigError(f"not UTF-8: byte {e.start + 1} of the line is 0x{line[e.start]:02x}", where=where, remedy=UTF8) from None


def json_rows(path: Path, shown: str, kind: type[Kind], remedy: str) -> Iterator[tuple[Kind, str]]:
    """The lines of a JSONL file decoded as `kind`, each with its `file:line`. Raises ConfigError for a line that is not, and for one in
    which a key stands twice."""
    decoder = msgspec.json.Decoder(kind)
    fields: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    for number, line in numbered_lines(path):
        where = f"{shown}:{number}"
        try:
            row = decoder.decode(line)
            _refuse_doubles(line, fields or tuple(cast("dict[str, Any]", row)))
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            decode_utf8(line, where)  # where that is the fault, it says which byte
            raise ConfigError(f"not a valid line: {e}", where=where, remedy=remedy) from None
        except RecursionError:
            raise ConfigError("nested too deeply", where=where, remedy=remedy) from None
        except _Double as e:
            raise ConfigError(f"key {e.args[0]!r} stands twice", where=where, remedy="Keep one of the two.") from None
        yield row, where


class _Double(Exception):
    """A key stands twice in an object."""


def _refuse_doubles(line: bytes, keys: Iterable[str]) -> None:
    """Raise _Double where an object has a key twice: the decoder would silently take the last. Looks closely only where that may be."""
    if b"\\u" in line or any(line.count(f'"{key}"'.encode()) > 1 for key in keys):
        json.loads(line, object_pairs_hook=_pairs)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _value in pairs]
        raise _Double(next(key for key in keys if keys.count(key) > 1))
    return found


def json_document(path: Path, shown: str, kind: type[Kind], remedy: str) -> Kind:
    """A whole JSON file decoded as `kind`; fields that `kind` does not name are skipped. Raises ConfigError naming line or JSON path."""
    data = path.read_bytes().removeprefix(BOM)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        for number, line in enumerate(data.split(NEWLINE), 1):
            decode_utf8(line, f"{shown}:{number}")
        if isinstance(e, msgspec.ValidationError):
            raise ConfigError(f"not the expected file: {e}", where=shown, remedy=remedy) from None
        byte = str(e).rpartition("(byte ")[2].rstrip(")")
        where = f"{shown}:{data.count(NEWLINE, 0, int(byte)) + 1}" if byte.isdigit() else shown
        raise ConfigError(f"not JSON: {e}", where=where, remedy=remedy) from None
    except RecursionError:
        raise ConfigError("nested too deeply", where=shown, remedy=remedy) from None
