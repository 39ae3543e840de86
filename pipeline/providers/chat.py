"""OpenAI-style chat completions, and the errors that stand in for them, as result rows.

Every server says the same things a little differently. Here they become the five outcomes: `answered`, `truncated` (the token limit
cut it), `refused` (the model would not), `filtered` (a filter would not let it) and `failed`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pipeline.base.rows import Failure, Outcome, ResultRow, Usage
from pipeline.providers.http import redact

TRUNCATED = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"})
FILTERED = frozenset({"content_filter", "content_policy_violation", "content_filtered", "safety"})
REFUSED = frozenset({"refusal", "refused"})
FAILED = frozenset({"error", "failed", "cancelled", "abort", "aborted"})


def result_from_chat(custom_id: str, completion: Mapping[str, Any], request_id: str | None = None) -> ResultRow:
    """The result row of one `chat.completion` object. Never raises: what is not understood is a failed row with its `raw`.

    `request_id` defaults to the completion's own `id`. Only the first choice counts: abiding asks for one (`n = 1`).
    """
    request_id = request_id or _text_or_none(completion.get("id"))
    usage = usage_from(completion.get("usage"))
    if completion.get("error"):
        return failed_row(custom_id, completion["error"], request_id=request_id, usage=usage)
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return ResultRow(
            custom_id=custom_id,
            outcome="failed",
            request_id=request_id,
            usage=usage,
            error=Failure(code="no_choice", message="The completion holds no message."),
            raw=clean(json.dumps(completion, ensure_ascii=False, default=str)),
        )
    finish_reason = _text_or_none(choice.get("finish_reason"))
    refusal = _text_of(message.get("refusal"))
    text = _text_of(message.get("content"))
    outcome = _outcome(finish_reason, refusal)
    calls = message.get("tool_calls")
    return ResultRow(
        custom_id=custom_id,
        outcome=outcome,
        text=text or refusal,
        finish_reason=finish_reason,
        request_id=request_id,
        model=_text_or_none(completion.get("model")),
        usage=usage,
        confidence=mean_logprob(choice.get("logprobs")),
        tool_calls=_clean_tree(calls) if isinstance(calls, list) and calls else None,
        reasoning=_text_of(message.get("reasoning_content") or message.get("reasoning")) or None,
        error=Failure(code="error", message=f"The server ended the answer with finish_reason {finish_reason!r}.")
        if outcome == "failed"
        else None,
    )


def failed_row(
    custom_id: str,
    error: Any,
    *,
    request_id: str | None = None,
    usage: Usage | None = None,
    raw: str | None = None,
    default_code: str = "error",
) -> ResultRow:
    """The result row of a request that has an error in place of an answer. A content filter's error is `filtered`, any other `failed`.

    `error` is whatever the server wrote: an object with code, type, message (perhaps nested once more under `error`), or a text.
    """
    code, message = error_parts(error, default_code)
    return ResultRow(
        custom_id=custom_id,
        outcome="filtered" if code in FILTERED else "failed",
        request_id=request_id,
        usage=usage or Usage(),
        error=Failure(code=code, message=redact(message)),  # servers echo keys
        raw=None if raw is None else redact(clean(raw)),
    )


def error_parts(error: Any, default_code: str = "error") -> tuple[str, str]:
    """(code, message) of an error object in any of the shapes seen; neither is ever empty."""
    while isinstance(error, dict) and isinstance(error.get("error"), (dict, str)):
        error = error["error"]
    if isinstance(error, dict):
        code = next((str(error[key]) for key in ("code", "type", "status") if error.get(key) not in (None, "")), default_code)
        message = next((str(error[key]) for key in ("message", "detail", "details") if error.get(key)), "")
        return clean(code), clean(message or json.dumps(error, ensure_ascii=False, default=str))
    return default_code, clean(str(error)) if error not in (None, "") else "no reason given"


def usage_from(usage: Any) -> Usage:
    """Token counts of a `usage` object; what is absent or not a count is 0."""
    usage = usage if isinstance(usage, dict) else {}
    prompt_details, completion_details = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(prompt_details.get("cached_tokens") if isinstance(prompt_details, dict) else None),
        reasoning_tokens=_count(completion_details.get("reasoning_tokens") if isinstance(completion_details, dict) else None),
    )


def mean_logprob(logprobs: Any) -> float | None:
    """Mean log-probability (nats) of the answer's tokens, None where the server gives none.

    Reads OpenAI's `content: [{logprob}]` and the older `token_logprobs: [..]`.
    """
    if not isinstance(logprobs, dict):
        return None
    content, older = logprobs.get("content"), logprobs.get("token_logprobs")
    if isinstance(content, list):
        values = [token.get("logprob") for token in content if isinstance(token, dict)]
    else:
        values = older if isinstance(older, list) else []
    numbers = [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)]
    return math.fsum(numbers) / len(numbers) if numbers else None


def clean(text: str) -> str:
    """`text` with lone surrogates (legal in JSON escapes, not in UTF-8) replaced by U+FFFD, so that it can be written."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _outcome(finish_reason: str | None, refusal: str) -> Outcome:
    reason = (finish_reason or "").lower()
    if reason in FILTERED:
        return "filtered"
    if refusal or reason in REFUSED:
        return "refused"
    if reason in TRUNCATED:
        return "truncated"
    return "failed" if reason in FAILED else "answered"


def _text_of(content: Any) -> str:
    """A message's text: a string, or the text parts of a list of parts."""
    if isinstance(content, str):
        return clean(content)
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return clean("".join(part for part in parts if isinstance(part, str)))
    return ""


def _text_or_none(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) and value else None


def _count(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0 else 0


def _clean_tree(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean_tree(v) for v in value]
    if isinstance(value, dict):
        return {clean(str(k)): _clean_tree(v) for k, v in value.items()}
    return value if not isinstance(value, float) or math.isfinite(value) else None
