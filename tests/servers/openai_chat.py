"""A test server of live chat completions in the manner of llama.cpp's server, vLLM or Ollama, with a bill of every generation.

The three differ in their models list, error bodies, health and version calls; option `kind` (llama.cpp, vllm, ollama, other) chooses.
Options: refuse {custom_id: status} (a request that always fails so), key (demanded as bearer token), model (the only one known),
loading n (the next n calls find the model loading: 503). A row is known by its X-Request-Id. Faults: those of the transport.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.servers.answers import completion
from tests.servers.common import App, Request, Response, main

WORDS = {
    400: ("invalid_request_error", "bad request"),
    401: ("authentication_error", "Invalid API Key"),
    404: ("not_found_error", "model 'm' not found"),
    413: ("exceed_context_size_error", "the request exceeds the available context size"),
    429: ("rate_limit_error", "slow down"),
    500: ("server_error", "internal error"),
    503: ("unavailable_error", "Loading model"),
}


class ChatServer(App):
    """A test server of live chat completions."""

    tables = "CREATE TABLE IF NOT EXISTS posts(n INTEGER PRIMARY KEY, headers TEXT, body BLOB);"

    def handle(self, request: Request) -> Response:
        """Answer one call."""
        recorded = self.state.option("replay", {}).get(f"{request.method} {request.path}")
        if recorded is not None:
            return Response(recorded.encode("utf-8"))
        kind, key = self.state.option("kind", "llama.cpp"), self.state.option("key")
        if key and request.headers.get("authorization") != f"Bearer {key}":
            return self._error(kind, 401)
        if loading := int(self.state.option("loading", 0)):
            self.state.set_options({"loading": loading - 1})
            return self._error(kind, 503)
        match request.method, request.path:
            case "GET", "/health" if kind in ("llama.cpp", "vllm"):
                return Response({"status": "ok"} if kind == "llama.cpp" else b"")
            case "GET", "/v1/models":
                owner = {"llama.cpp": "llamacpp", "vllm": "vllm", "ollama": "library"}.get(kind, "someone")
                return Response({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": owner}]})
            case "GET", "/props" if kind == "llama.cpp":
                return Response({"total_slots": 1, "model_path": "/models/m.gguf", "build_info": "b1-test"})
            case ("GET", "/version") | ("GET", "/api/version") if kind in ("vllm", "ollama"):
                return Response({"version": "0.33.0"})
            case "GET", "/" if kind == "ollama":
                return Response(b"Ollama is running", content_type="text/plain")
            case "POST", "/v1/chat/completions":
                return self._complete(request, kind)
        return self._error(kind, 404)

    def _error(self, kind: str, status: int) -> Response:
        word, message = WORDS.get(status, ("error", "error"))
        bodies: dict[str, Any] = {
            "llama.cpp": {"error": {"code": status, "message": message, "type": word}},
            "vllm": {"error": {"message": message, "type": word, "param": None, "code": status}},
            "ollama": {"error": message},
        }
        return Response(bodies.get(kind, {"error": {"message": message, "type": word, "param": None, "code": word}}), status)

    def _complete(self, request: Request, kind: str) -> Response:
        custom_id, body = request.headers.get("x-request-id", ""), request.json()
        self.state.do("INSERT INTO posts(headers, body) VALUES (?,?)", json.dumps(dict(request.headers)), request.body)
        if status := self.state.option("refuse", {}).get(custom_id):
            return self._error(kind, int(status))
        if self.state.option("model") not in (None, body["model"]):
            return self._error(kind, 404)
        asked = {name: value for name, value in body.items() if name in ("messages", "max_tokens", "temperature", "seed", "top_p")}
        answer = completion(asked, body["model"], self.golds, self.seed)
        if kind == "llama.cpp":
            answer["model"] = "/models/m.gguf"
        if kind == "ollama":
            del answer["usage"]["prompt_tokens_details"]
        self.state.bill("live", [(custom_id, answer["usage"]["total_tokens"])])
        return Response(answer)


if __name__ == "__main__":
    sys.exit(main(ChatServer))
