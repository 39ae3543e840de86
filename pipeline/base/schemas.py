"""Documents and their JSON Schemas (2020-12): validated on every write and on every read.

The schemas lie in `schemas/` beside the package's folder; they are part of the project, not of a run.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.errors import ManifestError
from pipeline.base.files import json_bytes, read_file, write_atomic
from pipeline.base.shapes import SHAPES

MAX_DEPTH = 60
"""Levels of nesting that a document may have: ours have ten."""
SCHEMA_DIR = Path(__file__).resolve().parents[2] / "schemas"


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """The schema `schemas/<name>.schema.json`."""
    loaded: dict[str, Any] = json.loads((SCHEMA_DIR / f"{name}.schema.json").read_text("utf-8"))
    return loaded


@functools.cache
def _validator(name: str) -> Any:
    import jsonschema  # here: a no-op run should not pay for it

    return jsonschema.Draft202012Validator(schema(name))


def problems(document: Any, name: str) -> list[str]:
    """What is wrong with `document` by schema `name`: `<JSON path>: <reason>` each, the deepest errors, in order."""
    from jsonschema.exceptions import best_match

    found = []
    for error in sorted(_validator(name).iter_errors(document), key=lambda e: [str(p) for p in e.absolute_path]):
        deepest = best_match([error])
        at = "$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in deepest.absolute_path)
        message = deepest.message if len(deepest.message) < 300 else deepest.message[:140] + " ... " + deepest.message[-140:]
        found.append(f"{at}: {message}")
    return found


def validate(document: Any, name: str, where: str | Path) -> None:
    """Raise ManifestError naming file, JSON path, found and expected where `document` breaks schema `name`."""
    if found := problems(document, name):
        raise ManifestError("; ".join(found[:3]), where=str(where), remedy=f"See schemas/{name}.schema.json.")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} stands twice")
        result[key] = value
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large a number")
    return value


def parse_json(data: bytes) -> Any:
    """Strict JSON: UTF-8 without BOM, no duplicate keys, no NaN, no absurd nesting, nothing that could not be written again.

    Raises ValueError with the reason.
    """
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner for value in level if isinstance(value, (dict, list)) for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            break
    else:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if b"\\u" in data:  # half of a surrogate pair can be read, but not written
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    return document


def read_document(path: str | Path, name: str) -> Any:
    """Read and validate a small JSON document. Where there is a type for it (`shapes`), that checks, and the schema explains.

    Raises FileNotFoundError where there is none, ManifestError (file, place, reason) where it is corrupt, breaks its schema, or is no file.
    """
    data = read_file(path)
    if name in SHAPES:
        try:
            _decoder(name).decode(data)
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # the slow way below says what is wrong
    try:
        document = parse_json(data)
    except ValueError as e:
        raise ManifestError(f"not readable as JSON: {e}", where=str(path)) from e
    validate(document, name, path)
    return document


@functools.cache
def _decoder(name: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(SHAPES[name])


def write_document(path: str | Path, document: Any, name: str) -> None:
    """Validate `document` and write it to `path` atomically. Raises ManifestError before anything is written."""
    data = json_bytes(document)
    try:
        if name not in SHAPES:
            raise msgspec.ValidationError
        _decoder(name).decode(data)
    except msgspec.ValidationError:
        validate(document, name, path)
    write_atomic(path, data)
