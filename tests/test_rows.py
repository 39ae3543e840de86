"""The row formats: the typed decoders and the published schemas accept and refuse the same lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.base import schemas
from pipeline.base.errors import ManifestError
from pipeline.base.rows import Item, RequestRow, ResultRow, encode, read_rows

KINDS: dict[str, Any] = {"item": Item, "request_row": RequestRow, "result_row": ResultRow}

PLACE = {"dataset": "d", "item_id": "1", "type": "open", "temp": 0.0, "sample_index": 0}
WHOLE: dict[str, dict[str, Any]] = {
    "item": {
        "dataset": "d", "id": "1", "question": "q?", "answers": ["a"], "context": "c", "is_unanswerable": False,
        "messages": [{"role": "user", "content": "x"}], "meta": {"k": [1, None]}, "cluster": "c",
    },
    "request_row": {"custom_id": "a" * 32, "answer_key": "k", "place": PLACE, "body": {"messages": []}},
    "result_row": {
        "custom_id": "a" * 32, "outcome": "failed", "text": "", "finish_reason": "stop", "request_id": "r", "model": "m",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 0, "reasoning_tokens": 0}, "confidence": -0.5,
        "tool_calls": [{}], "reasoning": "r", "error": {"code": "c", "message": "m"}, "raw": "{",
    },
}  # fmt: skip
REQUIRED = {
    "item": {"dataset", "id", "question", "answers"},
    "request_row": {"custom_id", "answer_key", "place", "body"},
    "result_row": {"custom_id", "outcome"},
}
ALL = list(WHOLE)


def decodes(line: bytes, name: str) -> bool:
    try:
        msgspec.json.decode(line, type=KINDS[name])
    except msgspec.ValidationError:
        return False
    return True


def conforms(line: bytes, name: str) -> bool:
    return not schemas.problems(schemas.parse_json(line), name)


def agree(value: Any, name: str) -> bool:
    """The verdict of both; fails where they differ."""
    line = json.dumps(value).encode()
    verdict = decodes(line, name)
    assert conforms(line, name) == verdict, line
    return verdict


@pytest.mark.parametrize("name", ALL)
def test_whole_rows_are_accepted_and_survive_a_round_trip(name: str) -> None:
    """Every field filled; decoding and encoding gives the same row."""
    assert agree(WHOLE[name], name)
    row = msgspec.json.decode(json.dumps(WHOLE[name]).encode(), type=KINDS[name])
    assert msgspec.json.decode(encode(row), type=KINDS[name]) == row
    assert agree(json.loads(encode(row)), name)


@pytest.mark.parametrize("name", ALL)
def test_exactly_the_required_fields_are_required(name: str) -> None:
    """Each field left out in turn, and one too many."""
    for field in WHOLE[name]:
        assert agree({k: v for k, v in WHOLE[name].items() if k != field}, name) == (field not in REQUIRED[name])
    assert not agree({**WHOLE[name], "more": 1}, name)
    assert not agree([WHOLE[name]], name)


REFUSED: list[tuple[str, str, Any]] = [
    ("item", "dataset", ""), ("item", "id", ""), ("item", "id", 7), ("item", "question", ""), ("item", "question", None),
    ("item", "answers", "a"), ("item", "answers", None), ("item", "answers", ["a", None]), ("item", "context", 1),
    ("item", "is_unanswerable", None), ("item", "is_unanswerable", 1), ("item", "messages", ["hello"]), ("item", "messages", {}),
    ("item", "meta", None), ("item", "meta", []), ("item", "cluster", 3),
    ("request_row", "custom_id", "a" * 65), ("request_row", "custom_id", ""), ("request_row", "custom_id", "a b"),
    ("request_row", "custom_id", "ä"),
    ("request_row", "answer_key", ""), ("request_row", "body", []), ("request_row", "place", {**PLACE, "type": "both"}),
    ("request_row", "place", {**PLACE, "temp": "hot"}), ("request_row", "place", {**PLACE, "temp": True}),
    ("request_row", "place", {**PLACE, "temp": None}),
    ("request_row", "place", {**PLACE, "sample_index": -1}), ("request_row", "place", {**PLACE, "sample_index": 0.5}),
    ("request_row", "place", {**PLACE, "x": 1}), ("request_row", "place", {}),
    ("result_row", "outcome", "ok"), ("result_row", "outcome", None), ("result_row", "text", None), ("result_row", "usage", None),
    ("result_row", "usage", {"prompt_tokens": -1}), ("result_row", "usage", {"prompt_tokens": "1"}),
    ("result_row", "usage", {"total_tokens": 1}),
    ("result_row", "usage", {"prompt_tokens": True}), ("result_row", "confidence", "high"), ("result_row", "confidence", True),
    ("result_row", "tool_calls", {}), ("result_row", "error", "bad"), ("result_row", "error", {"code": "c"}),
    ("result_row", "error", {"code": None, "message": "m"}), ("result_row", "error", {"code": "c", "message": "m", "x": 1}),
]  # fmt: skip
ACCEPTED: list[tuple[str, str, Any]] = [
    ("item", "answers", []), ("item", "answers", [""]), ("item", "context", None), ("item", "messages", None), ("item", "messages", []),
    ("item", "messages", [{}]), ("item", "cluster", None), ("item", "meta", {"": {}}), ("item", "question", " "),
    ("request_row", "place", {**PLACE, "temp": "default"}), ("request_row", "place", {**PLACE, "temp": 1}), ("request_row", "body", {}),
    ("request_row", "custom_id", "a"), ("request_row", "custom_id", "-_Z9" * 16),
    ("result_row", "usage", {}), ("result_row", "error", None), ("result_row", "tool_calls", []), ("result_row", "confidence", -3),
    ("result_row", "confidence", None), ("result_row", "usage", {"prompt_tokens": 10**30}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "field", "value"), REFUSED)
def test_what_both_refuse(name: str, field: str, value: Any) -> None:
    """Wrong types, empty names, unknown words, out of range."""
    assert not agree({**WHOLE[name], field: value}, name)


@pytest.mark.parametrize(("name", "field", "value"), ACCEPTED)
def test_what_both_accept(name: str, field: str, value: Any) -> None:
    """The edges of what is allowed."""
    assert agree({**WHOLE[name], field: value}, name)


@pytest.mark.parametrize("outcome", ["answered", "truncated", "refused", "filtered", "failed"])
def test_the_five_outcomes(outcome: str) -> None:
    """Each is known to both."""
    assert agree({**WHOLE["result_row"], "outcome": outcome}, "result_row")


def test_the_one_difference_is_a_count_with_a_zero_fraction() -> None:
    """JSON Schema cannot tell 1.0 from 1; the decoder refuses it. The schema says so in words."""
    row = {**WHOLE["result_row"], "usage": {"prompt_tokens": 1.0}}
    line = json.dumps(row).encode()
    assert conforms(line, "result_row")
    assert not decodes(line, "result_row")
    count = schemas.schema("result_row")["properties"]["usage"]["properties"]["prompt_tokens"]
    assert "1, not 1.0" in count["description"]


texts = st.text(max_size=5)
fractions = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x != int(x))
scalars = st.none() | st.booleans() | st.integers() | fractions | texts | st.sampled_from(["default", "open", "failed"])
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8)


@st.composite
def nearly(draw: st.DrawFn) -> tuple[str, Any]:
    """A whole row with some fields, also nested ones, left out or replaced by anything."""
    name = draw(st.sampled_from(ALL))
    row = json.loads(json.dumps(WHOLE[name]))
    for _ in range(draw(st.integers(0, 3))):
        nested = [value for value in row.values() if isinstance(value, dict) and value]
        target = draw(st.sampled_from([row, *nested]))
        key = draw(st.sampled_from(sorted(target)) if target else texts)
        if draw(st.booleans()):
            target[key] = draw(anything)
        else:
            target.pop(key, None)
    return name, row


@settings(max_examples=400, deadline=None, derandomize=True)
@given(nearly())
@example(("item", None))
def test_decoder_and_schema_agree_on_generated_rows(case: tuple[str, Any]) -> None:
    """Rows that are nearly right: refused by both or by neither."""
    name, row = case
    agree(row, name)


def test_reading_names_the_line_that_is_no_row(tmp_path: Path) -> None:
    """`read_rows` streams; the broken line is told as file:line."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps(WHOLE["item"]).encode() + b'\n{"dataset": 1}\n')
    rows = read_rows(path, Item)
    assert next(rows).key == "d|1"
    with pytest.raises(ManifestError, match=r"x.jsonl:2: not a valid Item"):
        next(rows)


def test_a_row_nested_absurdly_deep_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"custom_id": "x", "outcome": "answered", "tool_calls": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(ManifestError, match=r"results.jsonl:1"):
        list(read_rows(path, ResultRow))
