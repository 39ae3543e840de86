"""TriviaQA, the official JSON (`{"Data": [...]}`): trivia questions with many aliases to an answer, read without their documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item
from pipeline.sources.lines import json_document

REMEDY = "This kind reads the official TriviaQA JSON; see docs/data.md."


class _Answer(msgspec.Struct, rename="pascal"):
    value: str
    aliases: list[str] = []
    normalized_aliases: list[str] = []
    human_answers: list[str] = []
    """Only in the verified sets."""


class _Question(msgspec.Struct, rename="pascal"):
    question_id: str
    question: str
    question_source: str | None = None
    answer: _Answer | None = None


class _File(msgspec.Struct):
    questions: list[_Question] = msgspec.field(name="Data")


def items(path: Path, shown: str, source: Mapping[str, Any], type: str) -> Iterator[tuple[Item, str]]:
    """The questions in file order, under their official ids, once each.

    The answers are the aliases (and `HumanAnswers`) as written. The official script scores against `NormalizedAliases` and never reads
    `Value`: they are kept in `meta.normalized_aliases`, and `Value` is an answer only where there is no alias.

    Files that merge the Wikipedia and the web domain repeat ids: such a question is the same one over other documents, so its aliases are
    joined. Raises ConfigError where a repeated id has another question, or a question has no answer (as in the test files).
    """
    dataset = source.get("dataset") or "triviaqa"
    found: dict[str, tuple[Item, str]] = {}
    for n, row in enumerate(json_document(path, shown, _File, REMEDY).questions):
        where = f"{shown}:$.Data[{n}]"
        if row.answer is None:
            remedy = "The test files have none: use a dev file."
            raise ConfigError(f"question {row.question_id!r} has no Answer", where=where, remedy=remedy)
        item = _item(row, row.answer, dataset)
        if (before := found.get(item.id)) is None:
            found[item.id] = (item, where)
            continue
        kept = before[0]
        if kept.question != item.question:
            fact = f"the id {item.id!r} stands twice with different questions, first at {before[1]}"
            raise ConfigError(fact, where=where, remedy="Give every question its own id.")
        kept.answers = _joined(kept.answers, item.answers)
        kept.meta["normalized_aliases"] = _joined(kept.meta["normalized_aliases"], item.meta["normalized_aliases"])
    yield from found.values()


def _item(row: _Question, answer: _Answer, dataset: str) -> Item:
    answers = _joined(answer.aliases, answer.human_answers) or [answer.value]
    meta: dict[str, Any] = {"normalized_aliases": _joined(answer.normalized_aliases, [])}
    if answer.human_answers:
        meta["human_answers"] = answer.human_answers
    if row.question_source:
        meta["question_source"] = row.question_source
    return Item(dataset=dataset, id=row.question_id, question=row.question.strip(), answers=answers, meta=meta)


def _joined(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))
