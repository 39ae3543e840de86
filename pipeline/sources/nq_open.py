"""NQ-open, the official JSONL: questions from web searches with short answers and no passages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.digests import sha256_bytes
from pipeline.base.rows import Item
from pipeline.sources.lines import json_rows

REMEDY = 'A line is {"question": ..., "answer": [...]}; fetch the official file with: python -m scripts.fetch_data nq_open'


class _Row(msgspec.Struct):
    question: str
    answer: list[str]


def question_id(question: str) -> str:
    """`nq-` and 12 hex of the question's sha256: the file has no ids, and this one survives a reordering or a subset."""
    return f"nq-{sha256_bytes(question.encode())[:12]}"


def items(path: Path, shown: str, source: Mapping[str, Any], type: str) -> Iterator[tuple[Item, str]]:
    """The questions in file order; a question that stands twice is a repeated id."""
    dataset = source.get("dataset") or "nq_open"
    for row, where in json_rows(path, shown, _Row, REMEDY):
        answers = list(dict.fromkeys(row.answer))
        yield Item(dataset=dataset, id=question_id(row.question), question=row.question.strip(), answers=answers), where
