"""SQuAD 2.0, the official JSON: questions over passages of Wikipedia articles, about half of them unanswerable in the dev set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item
from pipeline.sources.lines import json_document

REMEDY = "This kind reads the official SQuAD JSON; fetch it with: python -m scripts.fetch_data squad_v2"


class _Answer(msgspec.Struct):
    text: str


class _Question(msgspec.Struct):
    id: str
    question: str
    answers: list[_Answer]
    is_impossible: bool = False  # SQuAD 1.1 has no such field


class _Paragraph(msgspec.Struct):
    context: str
    qas: list[_Question]


class _Article(msgspec.Struct):
    title: str
    paragraphs: list[_Paragraph]


class _File(msgspec.Struct):
    data: list[_Article]


def items(path: Path, shown: str, source: Mapping[str, Any], type: str) -> Iterator[tuple[Item, str]]:
    """The questions in file order, under their official ids.

    Unanswerable is `is_impossible`; the `plausible_answers` of such questions are not gold and are not read. Gold answers are kept once
    each. White space around a question (768 of the dev set's have some) is dropped. The cluster is the article's title, or with
    `cluster: passage` the passage (`<title>#<number from 0>`); the title also stands in `meta.title`.
    """
    by = source.get("cluster", "article")
    if by not in ("article", "passage"):
        raise ConfigError(f"cluster {by!r} is not known to squad_v2", where=shown, remedy="Use article (the default) or passage.")
    dataset = source.get("dataset") or "squad_v2"
    for a, article in enumerate(json_document(path, shown, _File, REMEDY).data):
        for p, paragraph in enumerate(article.paragraphs):
            cluster = article.title if by == "article" else f"{article.title}#{p}"
            for q, question in enumerate(paragraph.qas):
                where = f"{shown}:$.data[{a}].paragraphs[{p}].qas[{q}]"
                yield (
                    Item(
                        dataset=dataset,
                        id=question.id,
                        question=question.question.strip(),
                        answers=list(dict.fromkeys(answer.text for answer in question.answers)),
                        context=paragraph.context,
                        is_unanswerable=question.is_impossible,
                        meta={"title": article.title},
                        cluster=cluster,
                    ),
                    where,
                )
