"""The types that check documents by the thousand accept and refuse what their schemas do."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.base.schemas import problems
from pipeline.base.shapes import SHAPES

EXAMPLES = Path(__file__).parent / "examples"
CASES = [(name, path) for name in SHAPES for path in sorted((EXAMPLES / name).glob("*.json"))]
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, "", "x", "a\n", [], {}, [1], [0, 1, 2], {"x": 1}, "2026-01-01T00:00:00Z\n", "f" * 64, "default"),
)


def accepts(name: str, document: Any) -> bool:
    """Whether the type takes the document."""
    try:
        msgspec.json.decode(json.dumps(document).encode(), type=SHAPES[name])
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{n}-{p.stem}" for n, p in CASES])
def test_examples_agree(name: str, path: Path) -> None:
    """Each example passes both or neither."""
    document = json.loads(path.read_bytes())
    assert accepts(name, document) == (problems(document, name) == [])


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into a document."""
    yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*at, key))


def put(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A copy of the document with `value` at a path."""
    changed = copy.deepcopy(document)
    into = changed
    for key in at[:-1]:
        into = into[key]
    into[at[-1]] = value
    return changed


@pytest.mark.parametrize("name", SHAPES)
def test_every_place_agrees(name: str) -> None:
    """An odd value at any place, a missing key and an additional one are refused by both or by neither."""
    path = next(p for n, p in CASES if n == name and p.stem.startswith("pass"))
    document = json.loads(path.read_bytes())
    checked = 0
    for at in places(document):
        changed = [put(document, at, odd) for odd in ODD] if at else []
        target = document
        for key in at:
            target = target[key]
        if isinstance(target, dict):
            changed.append(put(document, at, {**target, "surplus": 1}) if at else {**document, "surplus": 1})
        if at and isinstance(at[-1], str):
            without = copy.deepcopy(document)
            parent = without
            for key in at[:-1]:
                parent = parent[key]
            del parent[at[-1]]
            changed.append(without)
        for candidate in changed:
            found = problems(candidate, name)
            assert accepts(name, candidate) == (not found), (at, found)
            checked += 1
    assert checked > 300
