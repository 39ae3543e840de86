"""Live requests to a server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp's server, or a hosted one.

None of them has jobs or idempotency: a repeated request is generated, and perhaps paid, again. What is not repeated is what the
journal holds; a kill costs at most the requests in flight. Their sampling defaults differ, so every field is sent.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pipeline.base.errors import ConfigError, StepError
from pipeline.base.rows import RequestRow, ResultRow
from pipeline.providers.chat import error_parts, failed_row, result_from_chat
from pipeline.providers.checks import row_faults
from pipeline.providers.http import TRANSIENT, bare_url, fault_of, redact, require_safe_url, retry_after
from pipeline.providers.live import LiveProvider, Transient
from pipeline.providers.openai_lines import worded
from pipeline.providers.sdk import OUT_OF_MONEY

COMMON = {"top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
NEUTRAL: dict[str, dict[str, Any]] = {
    "llama.cpp": {**COMMON, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "cache_prompt": False},
    "vllm": {**COMMON, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "ollama": COMMON,
    "other": {"top_p": 1.0},
}
"""What `no further constraint` is called, by kind of server: sent where the request sets a temperature and says nothing else.

llama.cpp's prompt cache changes answers (its README warns of it); `cache_prompt: true` in the request's body turns it on.
"""
OWNERS = {"llamacpp": "llama.cpp", "vllm": "vllm", "library": "ollama"}


class OpenAICompatibleProvider(LiveProvider):
    """Answers requests through `POST {base_url}/chat/completions`, `workers` at a time."""

    name = "openai_compatible"

    def __init__(
        self,
        base_url: str | None = None,
        *,
        workers: int = 4,
        timeout_seconds: float = 600.0,
        server_kind: str = "auto",
        allow_http: bool = False,
        slice_seconds: float = 0.5,
        max_tries: int = 8,
        first_delay: float = 0.5,
    ) -> None:
        """`base_url` (default $OPENAI_BASE_URL) with or without `/v1`; `server_kind` is auto or a key of NEUTRAL.

        `timeout_seconds` bounds one answer. `allow_http` permits plain http to another machine. Raises ConfigError.
        """
        super().__init__(workers, slice_seconds, max_tries, first_delay)
        import httpx

        url = base_url or os.environ.get("OPENAI_BASE_URL")
        if not url:
            raise ConfigError(
                "no server named", where="provider.base_url", remedy="Set it, or $OPENAI_BASE_URL, such as http://127.0.0.1:8000/v1"
            )
        if server_kind not in ("auto", *NEUTRAL):
            raise ConfigError(
                f"unknown kind {server_kind!r}", where="provider.options.server_kind", remedy=f"One of auto, {', '.join(NEUTRAL)}."
            )
        if not allow_http:
            require_safe_url(url, "provider.base_url (provider.options.allow_http permits http to another machine)")
        self.base_url = url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else "/v1")
        key = os.environ.get("OPENAI_COMPATIBLE_API_KEY") or (None if base_url else os.environ.get("OPENAI_API_KEY"))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=workers, max_keepalive_connections=workers)
        timeout = httpx.Timeout(timeout_seconds, connect=10.0)
        self._client = httpx.Client(headers=headers, timeout=timeout, limits=limits, follow_redirects=False)
        self._errors = (httpx.HTTPError, httpx.StreamError)
        self._unreached = (httpx.ConnectError, httpx.ConnectTimeout)
        self._kind = None if server_kind == "auto" else server_kind
        self._build: dict[str, Any] = {}
        self._probing = threading.Lock()

    def check(self, rows: Iterator[RequestRow]) -> list[str]:
        """Faults found before anything is asked. Any field is let through: servers differ in what they know."""
        return list(row_faults(rows))

    def wire_body(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:
        """What is sent: the request's settings, and the neutral value of every other one that the kind of server has.

        Without a temperature (`temps: [default]`) the server's own defaults are meant: then nothing is added.
        """
        given = {name: value for name, value in body.items() if value is not None}
        neutral = NEUTRAL[self._kind or "other"] if "temperature" in given else {}
        return {"model": model, **neutral, **given, "stream": False}

    def answer(self, row: RequestRow, model: str) -> ResultRow:
        """One completion. A bad request is a failed row; a busy, broken or absent server is Transient; a bad key stops the run."""
        if self._kind is None:
            with self._probing:
                self._kind = self._kind or self._probe()
        body = msgspec.json.encode(self.wire_body(row.body, model))
        # vLLM takes this as the request's own id, so that its log can be matched.
        headers = {"Content-Type": "application/json", "X-Request-Id": row.custom_id}
        reply = self._call("POST", "/chat/completions", content=body, headers=headers)
        if 200 <= reply.status_code < 300:
            result = result_from_chat(row.custom_id, self._object(reply))
            path_of_theirs = result.model is not None and PurePath(result.model).is_absolute()
            return msgspec.structs.replace(result, model=model) if path_of_theirs else result
        return self._refusal(row, reply)

    def close(self) -> None:
        """Finish what is in flight, close the connections."""
        super().close()
        self._client.close()

    def provenance(self) -> Mapping[str, Any]:
        """The server's kind, and what it says of itself."""
        return {"base_url": bare_url(self.base_url), "server_kind": self._kind, "workers": self.workers, **self._build}

    def _call(self, method: str, path: str, root: bool = False, **more: Any) -> Any:
        url = (self.base_url.removesuffix("/v1") if root else self.base_url) + path
        try:
            return self._client.request(method, url, **more)
        except self._errors as e:
            away = isinstance(e, self._unreached)
            raise Transient(fault_of(e, f"{bare_url(url)}").fact, code="no_answer", whole_server=away) from None

    def _object(self, reply: Any) -> dict[str, Any]:
        try:
            value = json.loads(reply.content.decode("utf-8"))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Transient(f"the reply is no JSON object but {redact(reply.text)[:60]!r}", code="garbled")
        return value

    def _refusal(self, row: RequestRow, reply: Any) -> ResultRow:
        status, error = reply.status_code, _error_of(reply)
        code, message = error_parts(error, f"http_{status}")
        fact = f"{bare_url(self.base_url)}: HTTP {status} {code}: {redact(message)[:300]}"
        if status in (401, 403):
            raise StepError(fact, remedy="Set $OPENAI_COMPATIBLE_API_KEY to a key that this server takes.")
        if status == 402 or code in OUT_OF_MONEY:
            raise StepError(fact, remedy="Add credit to the account, then run again.")
        if status == 404:
            raise StepError(fact, remedy=f"Is the model right? {self.base_url}/models lists those that the server has.")
        if status in (429, 503):
            raise Transient(fact, code=code, retry_after=retry_after(reply.headers), whole_server=True)
        if status in TRANSIENT:
            raise Transient(fact, code=code, retry_after=retry_after(reply.headers))
        return failed_row(row.custom_id, error, default_code=f"http_{status}")

    def _probe(self) -> str:
        """The kind of server, by what its list of models says, or its root."""
        reply = self._call("GET", "/models")
        if reply.status_code in (401, 403, 429, 503):
            raise self._probe_fault(reply)
        kind = "llama.cpp" if str(reply.headers.get("server", "")).lower().startswith("llama.cpp") else None
        if kind is None and reply.status_code == 200:
            models = self._object(reply).get("data")
            owner = models[0].get("owned_by") if isinstance(models, list) and models and isinstance(models[0], dict) else None
            kind = OWNERS.get(str(owner))
        if kind is None and "ollama is running" in self._call("GET", "/", root=True).text.lower():
            kind = "ollama"
        about = {"llama.cpp": ("/props", "build_info"), "vllm": ("/version", "version"), "ollama": ("/api/version", "version")}.get(
            kind or ""
        )
        if about:
            said = self._call("GET", about[0], root=True)
            facts = self._object(said) if said.status_code == 200 else {}
            self._build = {name: facts[name] for name in (about[1], "total_slots") if name in facts}
        return kind or "other"

    def _probe_fault(self, reply: Any) -> Exception:
        fact = f"{bare_url(self.base_url)}/models: HTTP {reply.status_code}"
        if reply.status_code in (401, 403):
            return StepError(fact, remedy="Set $OPENAI_COMPATIBLE_API_KEY to a key that this server takes.")
        return Transient(fact, code="busy", retry_after=retry_after(reply.headers), whole_server=True)


def _error_of(reply: Any) -> Any:
    try:
        return worded(json.loads(reply.content.decode("utf-8")))
    except ValueError:
        return redact(reply.text)[:300]
