"""Faults of requests that a provider would find only after the upload, found before: one bad row can fail a whole job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.base.rows import RequestRow

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def row_faults(rows: Iterable[RequestRow], *, fields: frozenset[str] | None = None, max_temperature: float = 2.0) -> Iterator[str]:
    """One line per fault, `<custom_id>: <what is wrong>`. `fields` are the body's keys that the provider knows, None for any."""
    seen: set[str] = set()
    for row in rows:
        if row.custom_id in seen:
            yield f"{row.custom_id}: stands twice in the shard"
        seen.add(row.custom_id)
        yield from (f"{row.custom_id}: {fault}" for fault in _body_faults(row.body, fields, max_temperature))


def _body_faults(body: dict[str, Any], fields: frozenset[str] | None, max_temperature: float) -> Iterator[str]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "has no messages"
    else:
        yield from _message_faults(messages)
    unknown = sorted(key for key, value in body.items() if value is not None and fields is not None and key not in fields)
    if unknown:
        yield f"the provider knows no {', '.join(unknown)}"
    if body.get("stream"):
        yield "stream is not for batches"
    if body.get("n") not in (None, 1):
        yield f"n is {body['n']}; replicates are requests of their own"
    temperature, limit = body.get("temperature"), body.get("max_tokens")
    if temperature is not None and not (_number(temperature) and 0 <= temperature <= max_temperature):
        yield f"temperature is {temperature!r}, not a number from 0 to {max_temperature:g}"
    if limit is not None and not (isinstance(limit, int) and limit >= 1):
        yield f"max_tokens is {limit!r}, not a whole number from 1"


def _message_faults(messages: list[Any]) -> Iterator[str]:
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            yield f"messages[{number}] is no object"
        elif message.get("role") not in ROLES:
            yield f"messages[{number}] has role {message.get('role')!r}"
        elif message["role"] != "assistant" and not message.get("content"):
            yield f"messages[{number}] is empty"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
