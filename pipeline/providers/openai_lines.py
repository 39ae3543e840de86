"""Lines of OpenAI-style batch files, as OpenAI and `vllm run-batch` write them, and the words for their errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.base.rows import RequestRow, ResultRow
from pipeline.providers.chat import failed_row, result_from_chat
from pipeline.providers.sdk import text_of

URL = "/v1/chat/completions"


def request_line(row: RequestRow, body: Mapping[str, Any]) -> dict[str, Any]:
    """A line of an input file, with this body (its model included)."""
    return {"custom_id": row.custom_id, "method": "POST", "url": URL, "body": body}


def result_from_line(custom_id: str, row: Mapping[str, Any], line: bytes) -> ResultRow:
    """A line of an output or error file as a result. Only status 200 is an answer; what is not understood keeps its `raw`."""
    response, error = row.get("response"), row.get("error")
    if not isinstance(response, dict):
        return failed_row(custom_id, worded(error), default_code="no_response", raw=None if error else text_of(line))
    status, body = response.get("status_code"), response.get("body")
    if status == 200 and isinstance(body, dict):
        return result_from_chat(custom_id, body)
    said = error or (body.get("error") if isinstance(body, dict) else None)
    raw, request_id = None if said else text_of(line), response.get("request_id") or None
    return failed_row(custom_id, worded(said), request_id=request_id, default_code=f"http_{status}", raw=raw)


def worded(error: Any) -> Any:
    """An error object under its name: llama.cpp and vLLM repeat the HTTP status as `code`, the word is then `type`."""
    while isinstance(error, dict) and isinstance(error.get("error"), (dict, str)):
        error = error["error"]
    if isinstance(error, dict) and isinstance(error.get("code"), int) and error.get("type"):
        return {name: value for name, value in error.items() if name != "code"}
    return error
