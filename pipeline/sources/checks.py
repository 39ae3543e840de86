"""What every item must satisfy, whatever it was read from: refused with its place and what to do, never mended silently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item

ROLES = ("user", "assistant", "tool")


def checked(rows: Iterable[tuple[Item, str]], type: str) -> Iterator[tuple[Item, str]]:
    """The rows, each valid as a question of this type (`open` or `closed`) and with a `dataset|id` of its own.

    Raises ConfigError for the first that is not.
    """
    places: dict[str, str] = {}
    for item, place in rows:
        check(item, type, place)
        if item.key in places:
            raise ConfigError(
                f"the id {item.id!r} of dataset {item.dataset!r} stands twice, first at {places[item.key]}",
                where=place,
                remedy="Give every item its own id, or the two sources different datasets.",
            )
        places[item.key] = place
        yield item, place


def check(item: Item, type: str, place: str) -> None:
    """Raise ConfigError naming `place` where the item is no valid question of this type."""

    def refuse(fact: str, remedy: str) -> ConfigError:
        return ConfigError(f"item {item.id!r}: {fact}", where=place, remedy=remedy)

    if not item.question.strip():
        raise refuse("the question is empty", "Write the question, or take the row out.")
    if not item.id.strip() or not item.id.isprintable():
        raise refuse("the id is blank or holds control characters", "Use letters, digits, - and _ for ids.")
    if "|" in item.dataset or not item.dataset.isprintable() or not item.dataset.strip():
        raise refuse(f"the dataset name {item.dataset!r} cannot be used", "A name is not blank and holds no | or control character.")
    if not all(answer.strip() for answer in item.answers):
        raise refuse("one of the answers is empty", "Take it out of the list.")
    if item.is_unanswerable and item.answers:
        raise refuse("it is unanswerable but has answers", "Take out the answers, or say is_unanswerable: false.")
    if not item.is_unanswerable and not item.answers:
        raise refuse("it has no answers", "Give at least one right answer, or say is_unanswerable: true.")
    if item.cluster is not None and not item.cluster.strip():
        raise refuse("the cluster is blank", "Name the cluster, or leave it out.")
    if type == "open" and not (item.context or "").strip():
        raise refuse("an open-book item needs a context", "Give the passage, or name the file under sources.closed_book.")
    if type == "closed" and item.context is not None:
        raise refuse("a closed-book item has no context", "Take the context out, or name the file under sources.open_book.")
    if item.messages is not None and (fault := _messages_fault(item.messages)):
        raise refuse(fault, 'A message is {"role": "user" or "assistant", "content": ...}; the system prompt is the arm\'s own.')


def _messages_fault(messages: list[dict[str, Any]]) -> str | None:
    if not messages:
        return "messages is an empty list"
    for number, message in enumerate(messages):
        if message.get("role") not in ROLES:
            return f"messages[{number}].role is {message.get('role')!r}, not one of {', '.join(ROLES)}"
        content = message.get("content")
        if not (isinstance(content, (str, list)) and content) and not message.get("tool_calls"):
            return f"messages[{number}] has no content"
    return None
