"""A row with any columns as an Item: which column means what is declared, all others go to `meta`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.base.digests import sha256_bytes
from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item

FIELDS = ("id", "question", "answers", "context", "is_unanswerable", "cluster", "dataset", "messages")
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}


class Columns:
    """The mapping from item fields to column names: `{question: text, answers: label}`; a field that is not named has its own name."""

    def __init__(self, source: Mapping[str, Any], default_dataset: str, shown: str) -> None:
        """Read `columns`, `answer_separator`, `cluster` and `dataset` of a source. Raises ConfigError for an unknown field."""
        declared = dict(source.get("columns") or {})
        if "cluster" in source:
            declared.setdefault("cluster", source["cluster"])
        if unknown := sorted(set(declared) - set(FIELDS)):
            raise ConfigError(
                f"columns.{unknown[0]} is no field of an item",
                where=shown,
                remedy=f"Fields: {', '.join(FIELDS)}; other columns go to meta by themselves.",
            )
        self.names = {field: declared.get(field, field) for field in FIELDS}
        self.declared = declared
        self.separator: str | None = source.get("answer_separator")
        self.dataset = source.get("dataset") or default_dataset

    def check_present(self, present: Iterable[str], where: str) -> None:
        """Raise ConfigError where a declared column, or the question's, is not among those present."""
        names = list(present)
        for field in ["question", *self.declared]:
            if self.names[field] not in names:
                raise ConfigError(
                    f"there is no column {self.names[field]!r} (for {field})",
                    where=where,
                    remedy=f"Columns here: {', '.join(names)}. Say which is meant: columns: {{{field}: NAME}}.",
                )

    def item(self, row: Mapping[str, Any], where: str) -> Item:
        """The item of one row; without an `id` its id is 12 hex of question and context. Raises ConfigError naming `where`."""
        get = {field: row.get(name) for field, name in self.names.items()}
        question = _text(get["question"], "question", where) or ""
        if not question:
            raise ConfigError("the question is empty", where=where, remedy="Write the question, or take the row out.")
        context = _text(get["context"], "context", where)
        used = set(self.names.values())
        return Item(
            dataset=_text(get["dataset"], "dataset", where) or self.dataset,
            id=_text(get["id"], "id", where) or sha256_bytes(f"{question}\x1f{context or ''}".encode())[:12],
            question=question,
            answers=self._answers(get["answers"], where),
            context=context,
            is_unanswerable=_truth(get["is_unanswerable"], where),
            messages=_messages(get["messages"], where),
            meta={name: value for name, value in row.items() if name not in used},
            cluster=_text(get["cluster"], "cluster", where),
        )

    def _answers(self, value: Any, where: str) -> list[str]:
        if isinstance(value, list):
            given = [_text(part, "answers", where) for part in value]
        elif isinstance(value, str) and self.separator:
            given = [part.strip() for part in value.split(self.separator)]
        else:
            given = [_text(value, "answers", where)]
        return list(dict.fromkeys(part for part in given if part))


def _text(value: Any, field: str, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise ConfigError(f"{field} is {value!r}, not a text", where=where, remedy="Give a text or a number.")


def _truth(value: Any, where: str) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    if (word := str(value).strip().casefold()) in TRUTH:
        return TRUTH[word]
    raise ConfigError(f"is_unanswerable is {value!r}", where=where, remedy="Write true or false.")


def _messages(value: Any, where: str) -> list[dict[str, Any]] | None:
    if value is None or value == "":
        return None
    if isinstance(value, list) and all(isinstance(message, dict) for message in value):
        return value
    remedy = 'Give [{"role": "user", "content": ...}, ...] in a JSONL file.'
    raise ConfigError("messages is not a list of messages", where=where, remedy=remedy)
