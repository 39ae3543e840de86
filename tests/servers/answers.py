"""What a test server answers: by the hash of the request alone, so that runs with and without kills are the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.digests import canonical_json, uniform

ABSTENTION = "I don't know."


def golds_from(paths: Iterable[str | Path]) -> dict[str, list[str]]:
    """`{question: gold answers}` of JSONL files whose lines hold at least `question` and `answers` (item files do)."""
    golds: dict[str, list[str]] = {}
    for path in paths:
        with open(path, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f if line.strip()]
        golds.update({row["question"].strip(): list(row.get("answers", [])) for row in rows})
    return golds


def answer(body: Mapping[str, Any], golds: Mapping[str, Sequence[str]] | None = None, seed: int = 0) -> tuple[str, str, dict[str, Any]]:
    """(text, finish_reason, usage) of a chat body: the same for the same body, whatever happened on the way.

    Where the question is found in `golds`, the answer is right with a probability between 0.35 and 0.75 that depends on the system
    prompt alone, so that two prompts truly differ. The rest are abstentions and wrong words. Longer than `max_tokens` is cut.
    """
    messages = [m for m in body.get("messages", []) if isinstance(m, dict)]
    system = "\n".join(_text(m) for m in messages if m.get("role") in ("system", "developer"))
    user = next((_text(m) for m in reversed(messages) if m.get("role") == "user"), "")
    luck = uniform("luck", str(seed), canonical_json(dict(body)).decode())
    right = 0.35 + 0.4 * uniform("prompt", str(seed), system)
    known = _gold(user, golds or {})
    if luck < right:
        text = (known[0] if known else ABSTENTION) if known is not None else _word(user, luck)
    elif luck < right + (1 - right) * 0.3:
        text = ABSTENTION
    else:
        text = _word(user, luck)
    prompt_tokens = sum(4 + _tokens(_text(m)) for m in messages)
    limit = body.get("max_tokens")
    cut = isinstance(limit, int) and _tokens(text) > limit
    if cut:
        text = text.encode("utf-8")[: int(limit or 0) * 4].decode("utf-8", "ignore")
    completion_tokens = _tokens(text)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": _tokens(system)},
    }
    return text, "length" if cut else "stop", usage


def completion(body: Mapping[str, Any], model: str, golds: Mapping[str, Sequence[str]] | None = None, seed: int = 0) -> dict[str, Any]:
    """A `chat.completion` object with `answer(body)`; id and time derive from the body."""
    text, finish_reason, usage = answer(body, golds, seed)
    mark = int(uniform("id", model, canonical_json(dict(body)).decode()) * 16**12)
    return {
        "id": f"chatcmpl-{mark:012x}",
        "object": "chat.completion",
        "created": 1788062136,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": usage,
    }


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8")) // 4)


def _gold(user: str, golds: Mapping[str, Sequence[str]]) -> Sequence[str] | None:
    lines = [line.strip() for line in user.splitlines()]
    for line in reversed(lines):
        for candidate in (line, line.partition(":")[2].strip()):
            if candidate in golds:
                return golds[candidate]
    return next((golds[question] for question in golds if question in user), None)


def _word(user: str, luck: float) -> str:
    words = re.findall(r"\w{3,}", user) or ["nothing"]
    return words[int(luck * 1_000_003) % len(words)]
