"""Anthropic's wire format and ours: bodies out, results in, and the marks that tell whose a batch is. Nothing here talks to anyone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.base.digests import sha256_bytes
from pipeline.base.rows import Failure, Outcome, RequestRow, ResultRow, Usage
from pipeline.providers.chat import clean, failed_row

OLD_VERSION, NEW_VERSION = "2023-06-01", "2026-10-21"
"""The later one refuses temperature, top_p and top_k, even at their defaults."""
SAMPLING = ("temperature", "top_p", "top_k")
NO_EFFECT = {"temperature": 1.0, "top_p": 1.0}
"""Settings at the API's default: left out, which says the same under every version."""
UNKNOWN_HERE = frozenset({"seed", "n", "stream"})
"""Settings that Anthropic does not have and that change no single answer's distribution."""
PASSED_ON = frozenset(
    {"metadata", "service_tier", "thinking", "tools", "tool_choice", "output_config", "context_management", "container", "cache_control"}
)
FIELDS = PASSED_ON | UNKNOWN_HERE | {"messages", "max_tokens", "stop", *SAMPLING}
OUTCOMES: dict[str, Outcome] = {
    "end_turn": "answered",
    "stop_sequence": "answered",
    "tool_use": "answered",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
    "pause_turn": "truncated",
    "refusal": "refused",
}


def mark_of(key: str) -> str:
    """The submission's mark in its wire ids: 16 hex of its key, so that results prove whose they are."""
    return sha256_bytes(key.encode("utf-8"))[:16]


def wire_id(mark: str, number: int) -> str:
    """The wire custom_id of row `number`, from 0: `<mark>-<number>`."""
    return f"{mark}-{number}"


def row_number(mark: str, wire: str) -> int | None:
    """The row of a wire id, None where it carries another mark."""
    head, _, tail = wire.rpartition("-")
    return int(tail) if head == mark and tail.isascii() and tail.isdigit() else None


def params_of(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The Messages body of a chat body: leading system messages on top, `stop` as stop_sequences, settings without effect left out."""
    messages = list(body.get("messages") or [])
    system = []
    while messages and messages[0].get("role") in ("system", "developer"):
        system.append(messages.pop(0)["content"])
    params: dict[str, Any] = {"model": model, "max_tokens": body.get("max_tokens"), "messages": messages}
    if system:
        plain = all(isinstance(part, str) for part in system)
        params["system"] = "\n\n".join(system) if plain else [block for part in system for block in _blocks(part)]
    if stop := body.get("stop"):
        params["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    sent = PASSED_ON.union(SAMPLING)
    return params | {name: value for name, value in body.items() if name in sent and value is not None and NO_EFFECT.get(name) != value}


def body_faults(row: RequestRow) -> Iterator[str]:
    """What Anthropic would refuse in this row beyond the faults of any chat body."""
    body, roles = row.body, [m.get("role") for m in row.body.get("messages") or [] if isinstance(m, dict)]
    if body.get("max_tokens") is None:
        yield f"{row.custom_id}: max_tokens is required"
    while roles and roles[0] in ("system", "developer"):
        roles.pop(0)
    if not roles or roles[0] != "user":
        yield f"{row.custom_id}: the first message after the system prompt is not the user's"
    if set(roles) - {"user", "assistant"}:
        yield f"{row.custom_id}: roles after the first are user and assistant only, not {', '.join(sorted(map(str, set(roles))))}"


def result_from(custom_id: str, result: Any, raw: str) -> ResultRow:
    """The result row of a line's `result`. `raw` is kept where it is not understood."""
    kind = result.get("type") if isinstance(result, dict) else None
    if kind == "succeeded" and isinstance(result.get("message"), dict):
        return _answer(custom_id, result["message"])
    if kind == "errored":
        error = result.get("error")
        return failed_row(custom_id, error, request_id=error.get("request_id") if isinstance(error, dict) else None)
    if kind in ("canceled", "expired"):
        return ResultRow(
            custom_id=custom_id, outcome="failed", error=Failure(code=kind, message=f"The batch was over ({kind}) before this row ran.")
        )
    return failed_row(custom_id, None, default_code="not_understood", raw=raw)


def _answer(custom_id: str, message: Mapping[str, Any]) -> ResultRow:
    blocks = [block for block in message.get("content") or [] if isinstance(block, dict)]
    reason = message.get("stop_reason")
    return ResultRow(
        custom_id=custom_id,
        outcome=OUTCOMES.get(str(reason), "answered"),
        text=clean("".join(str(block.get("text") or "") for block in blocks if block.get("type") == "text")),
        finish_reason=reason,
        request_id=message.get("id"),
        model=message.get("model"),
        usage=usage_of(message.get("usage") or {}),
        tool_calls=[block for block in blocks if block.get("type") == "tool_use"] or None,
        reasoning=clean("".join(str(block.get("thinking") or "") for block in blocks if block.get("type") == "thinking")) or None,
    )


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Tokens; input is what came fresh, what was written to the cache and what was read from it."""
    fresh, written, read = (
        int(usage.get(name) or 0) for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    return Usage(prompt_tokens=fresh + written + read, completion_tokens=int(usage.get("output_tokens") or 0), cached_tokens=read)


def _blocks(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
