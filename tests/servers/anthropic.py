"""A test server of Anthropic's Message Batches: inline creates, lists, results by URL, and a bill of every row that succeeded.

Batches advance with every call of the API (by count, not by time), whether anyone looks at them or not: an orphaned batch costs.
Counts other than `processing` stay 0 until a batch has ended, as with the real one. Faults beyond those of the transport are met by
`POST /v1/messages/batches` and shape the batch it makes:
  hide {lists: n}            lists lag: the next n lists do not show it
  expire {share}             ends when that share of its rows has run, the rest expired
  rows {errored, invalid, max_tokens, refusal: n}     so many rows end that way
  rows {missing, duplicated, foreign, invalid_utf8, torn_row: n}    so many lines of the results are spoiled
  foreign_url                results_url names another host
Options: steps (portions in which a batch runs, default 3), replay {"GET /path": "body"} (recorded answers, byte for byte),
offender "post" (default) or "row": where temperature under the new version is refused.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.servers.answers import completion
from tests.servers.common import App, Request, Response, main
from tests.servers.outputs import shuffled, spoiled

NEW_VERSION = "2026-10-21"
REMOVED = ("temperature", "top_p", "top_k")
PLANS = ("hide", "expire", "rows", "foreign_url")
CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def error_body(kind: str, message: str) -> dict[str, Any]:
    """Anthropic's error object."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


class AnthropicServer(App):
    """A test server of Anthropic's Message Batches."""

    tables = """
        CREATE TABLE IF NOT EXISTS batches(n INTEGER PRIMARY KEY, id TEXT, batch TEXT, plan TEXT, version TEXT,
            hidden INTEGER, done INTEGER);
        CREATE TABLE IF NOT EXISTS requests(batch_id TEXT, number INTEGER, custom_id TEXT, params TEXT);
        CREATE TABLE IF NOT EXISTS results(batch_id TEXT, number INTEGER, custom_id TEXT, result TEXT);
        CREATE TABLE IF NOT EXISTS posts(n INTEGER PRIMARY KEY, headers TEXT, body BLOB);
    """

    def handle(self, request: Request) -> Response:
        """Answer one call; every call moves all batches on."""
        recorded = self.state.option("replay", {}).get(f"{request.method} {request.path}")
        if recorded is not None:
            return Response(recorded.replace("{origin}", self.url()).encode("utf-8"))
        if not (request.headers.get("authorization", "").startswith("Bearer ") or request.headers.get("x-api-key")):
            return Response(error_body("authentication_error", "x-api-key header is required"), 401)
        if not request.headers.get("anthropic-version"):
            return Response(error_body("invalid_request_error", "anthropic-version: header is required"), 400)
        for row in self.state.rows("SELECT * FROM batches ORDER BY n"):
            batch = json.loads(row["batch"])
            if batch["processing_status"] != "ended":
                self._advance(row["n"], batch, json.loads(row["plan"]), row["done"], row["version"])
        match request.method, request.path.split("/")[2:]:
            case "POST", ["messages", "batches"]:
                return self._create(request)
            case "GET", ["messages", "batches"]:
                return self._list(request)
            case "GET", ["messages", "batches", name]:
                return self._with_batch(name, lambda row: Response(json.loads(row["batch"])))
            case "POST", ["messages", "batches", name, "cancel"]:
                return self._with_batch(name, self._cancel)
            case "GET", ["messages", "batches", name, "results"]:
                return self._with_batch(name, self._results)
        return Response(error_body("not_found_error", "Not found"), 404)

    def _create(self, request: Request) -> Response:
        self.state.do("INSERT INTO posts(headers, body) VALUES (?,?)", json.dumps(dict(request.headers)), request.body)
        requests, version = request.json().get("requests"), request.headers["anthropic-version"]
        if fault := self._fault_of(requests, version):
            return Response(error_body("invalid_request_error", fault), 400)
        plan: dict[str, Any] = {}
        for kind in PLANS:
            if found := self.state.take([kind], f"{request.method} {request.path}"):
                plan[kind] = found
        n, now = self.state.rows("SELECT COUNT(*) AS n FROM batches")[0]["n"] + 1, datetime.now(timezone.utc)
        batch = {
            "id": f"msgbatch_{n:024x}",
            "type": "message_batch",
            "processing_status": "in_progress",
            "request_counts": {"processing": len(requests), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": _stamp(now),
            "expires_at": _stamp(now + timedelta(hours=24)),
            "ended_at": None,
            "cancel_initiated_at": None,
            "archived_at": None,
            "results_url": None,
        }
        hidden = plan.get("hide", {}).get("lists", 0)
        values = (n, batch["id"], json.dumps(batch), json.dumps(plan), version, hidden)
        self.state.do("INSERT INTO batches VALUES (?,?,?,?,?,?,0)", *values)
        for number, row in enumerate(requests):
            self.state.do("INSERT INTO requests VALUES (?,?,?,?)", batch["id"], number, row["custom_id"], json.dumps(row["params"]))
        return Response(batch)

    def _fault_of(self, requests: Any, version: str) -> str | None:
        if not isinstance(requests, list) or not requests:
            return "requests: at least one is required"
        ids = [row.get("custom_id", "") for row in requests]
        if not all(CUSTOM_ID.fullmatch(custom_id) for custom_id in ids):
            return "requests: custom_id must match ^[a-zA-Z0-9_-]{1,64}$"
        if len(set(ids)) < len(ids):
            return "requests: custom_id must be unique"
        if self.state.option("offender", "post") == "post":
            return next((fault for row in requests if (fault := _sampling_fault(row["params"], version))), None)
        return None

    def _list(self, request: Request) -> Response:
        entries, limit, after = list(self._visible()), int(request.query.get("limit", 20)), request.query.get("after_id")
        if after:
            ids = [entry["id"] for entry in entries]
            entries = entries[ids.index(after) + 1 :] if after in ids else []
        page = entries[:limit]
        ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        return Response({"data": page, "has_more": len(entries) > limit, **ends})

    def _visible(self) -> Iterator[dict[str, Any]]:
        for row in self.state.rows("SELECT * FROM batches ORDER BY n DESC"):
            if row["hidden"] > 0:
                self.state.do("UPDATE batches SET hidden = hidden - 1 WHERE n=?", row["n"])
            else:
                yield json.loads(row["batch"])

    def _with_batch(self, name: str, then: Any) -> Response:
        row = self.state.one("SELECT * FROM batches WHERE id=?", name)
        return then(row) if row is not None else Response(error_body("not_found_error", f"Batch {name} not found"), 404)

    def _cancel(self, row: Any) -> Response:
        batch = json.loads(row["batch"])
        if batch["processing_status"] == "ended":
            return Response(error_body("invalid_request_error", "Batch has ended."), 400)
        batch.update(processing_status="canceling", cancel_initiated_at=_stamp(datetime.now(timezone.utc)))
        self._save(row["n"], batch)
        return Response(batch)

    def _save(self, n: int, batch: dict[str, Any]) -> None:
        self.state.do("UPDATE batches SET batch=? WHERE n=?", json.dumps(batch), n)

    def _advance(self, n: int, batch: dict[str, Any], plan: dict[str, Any], done: int, version: str) -> None:
        total, rest = batch["request_counts"]["processing"], "canceled"
        if batch["processing_status"] != "canceling":
            upto, rest = min(total, done + -(-total // int(self.state.option("steps", 3)))), "expired"
            if expire := plan.get("expire"):
                upto = min(upto, int(total * float(expire.get("share", 0.5))))
            rows = self.state.rows(
                "SELECT * FROM requests WHERE batch_id=? AND number>=? AND number<? ORDER BY number", batch["id"], done, upto
            )
            for row in rows:
                self._answer(batch, row, plan, version)
            self.state.do("UPDATE batches SET done=? WHERE n=?", upto, n)
            if upto < total and not (expire and upto == done):
                return
            done = upto
        for row in self.state.rows("SELECT * FROM requests WHERE batch_id=? AND number>=?", batch["id"], done):
            self._keep(batch, row, {"type": rest})
        counts = dict.fromkeys(batch["request_counts"], 0)
        for row in self.state.rows("SELECT result FROM results WHERE batch_id=?", batch["id"]):
            counts[json.loads(row["result"])["type"]] += 1
        origin = "http://127.0.0.1:9" if "foreign_url" in plan else self.url()
        url = f"{origin}/v1/messages/batches/{batch['id']}/results"
        batch.update(processing_status="ended", request_counts=counts, ended_at=_stamp(datetime.now(timezone.utc)), results_url=url)
        self._save(n, batch)

    def _keep(self, batch: dict[str, Any], row: Any, result: dict[str, Any]) -> None:
        self.state.do("INSERT INTO results VALUES (?,?,?,?)", batch["id"], row["number"], row["custom_id"], json.dumps(result))

    def _answer(self, batch: dict[str, Any], row: Any, plan: dict[str, Any], version: str) -> None:
        """Answer one row, and bill it if it succeeded."""
        spoilt = plan.get("rows", {})
        kinds = [kind for kind in ("errored", "invalid", "max_tokens", "refusal") for _ in range(spoilt.get(kind, 0))]
        kind = kinds[row["number"]] if row["number"] < len(kinds) else ""
        params = json.loads(row["params"])
        fault = _sampling_fault(params, version) or ("bad row" if kind == "invalid" else None)
        if fault or kind == "errored":
            body = error_body("invalid_request_error", fault) if fault else error_body("api_error", "Internal server error")
            return self._keep(batch, row, {"type": "errored", "error": body})
        system = params.get("system")
        messages = [{"role": "system", "content": system}, *params["messages"]] if system else params["messages"]
        body = {**params, "messages": messages}
        answer = completion(body, params["model"], self.golds, self.seed)
        text, usage = answer["choices"][0]["message"]["content"], answer["usage"]
        cached = min(usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"])
        stop = kind or ("max_tokens" if answer["choices"][0]["finish_reason"] == "length" else "end_turn")
        message = {
            "id": answer["id"].replace("chatcmpl-", "msg_"),
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": [] if kind == "refusal" else [{"type": "text", "text": text}],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {
                "input_tokens": usage["prompt_tokens"] - cached,
                "output_tokens": usage["completion_tokens"],
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": cached,
                "service_tier": "batch",
            },
        }
        self.state.bill(batch["id"], [(row["custom_id"], usage["total_tokens"])])
        return self._keep(batch, row, {"type": "succeeded", "message": message})

    def _results(self, row: Any) -> Response:
        batch, plan = json.loads(row["batch"]), json.loads(row["plan"])
        if batch["processing_status"] != "ended":
            return Response(error_body("invalid_request_error", "Batch is still processing."), 400)
        lines = []
        for result in self.state.rows("SELECT * FROM results WHERE batch_id=? ORDER BY number", batch["id"]):
            line = {"custom_id": result["custom_id"], "result": json.loads(result["result"])}
            lines.append((result["custom_id"], json.dumps(line, ensure_ascii=False).encode()))
        lines = spoiled(shuffled(lines, self.seed, batch["id"]), plan.get("rows", {}))
        return Response(b"".join(line + b"\n" for _, line in lines), content_type="application/binary")


def _sampling_fault(params: dict[str, Any], version: str) -> str | None:
    sent = [name for name in REMOVED if name in params]
    return f"{sent[0]}: Extra inputs are not permitted" if version >= NEW_VERSION and sent else None


def _stamp(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


if __name__ == "__main__":
    sys.exit(main(AnthropicServer))
