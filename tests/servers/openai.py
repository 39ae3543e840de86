"""A test server of OpenAI's Batch API: files, batches, lists, results, and a bill of every row that ran.

Batches advance with every call of the API (by count, not by time), whether anyone looks at them or not: an orphaned batch costs.
Faults beyond those of the transport are met by `POST /v1/batches` and shape the batch it makes:
  hide {lists: n}        lists lag: the next n lists do not show it
  validation {line, code, message}   token_limit   stuck       fails validation (naming a line), fails by quota, never begins
  expire {share}         ends `expired` when that share of its rows has run
  rows {failed, status_0, filtered, truncated, refused: n}     so many rows end that way
  rows {missing, duplicated, foreign, invalid_utf8, torn_row: n}    so many lines of the result files are spoiled
Options: steps (portions in which a batch runs, default 3), replay {"GET /path": "body"} (recorded answers, byte for byte),
clock_ahead (seconds), keep_failing {custom_id: status} (rows that fail in every batch).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from tests.servers.answers import completion
from tests.servers.common import App, Request, Response, main
from tests.servers.outputs import shuffled, spoiled

URLS = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions"})
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
PLANS = ("hide", "validation", "token_limit", "stuck", "expire", "rows")
STAMPS = ("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at")


def error(status: int, message: str, code: str | None = None, param: str | None = None) -> Response:
    """OpenAI's error body."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return Response({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


class OpenAIServer(App):
    """A test server of OpenAI's Batch API."""

    tables = """
        CREATE TABLE IF NOT EXISTS files(n INTEGER PRIMARY KEY, id TEXT, created_at INTEGER, filename TEXT, purpose TEXT, content BLOB);
        CREATE TABLE IF NOT EXISTS batches(n INTEGER PRIMARY KEY, id TEXT, batch TEXT, plan TEXT, hidden INTEGER, done INTEGER);
        CREATE TABLE IF NOT EXISTS results(batch_id TEXT, custom_id TEXT, file TEXT, line BLOB);
        CREATE TABLE IF NOT EXISTS posts(n INTEGER PRIMARY KEY, headers TEXT, body BLOB);
    """

    def handle(self, request: Request) -> Response:
        """Answer one call; every call moves all batches on."""
        recorded = self.state.option("replay", {}).get(f"{request.method} {request.path}")
        if recorded is not None:
            return Response(recorded.encode("utf-8"))
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return error(401, "You didn't provide an API key.", "invalid_api_key")
        for row in self.state.rows("SELECT * FROM batches ORDER BY n"):
            batch = json.loads(row["batch"])
            if batch["status"] in ACTIVE:
                self._advance(row["n"], batch, json.loads(row["plan"]), row["done"])
        match request.method, request.path.split("/")[2:]:
            case "POST", ["files"]:
                return self._upload(request)
            case "GET", ["files"]:
                return self._list(request, [self._file(row) for row in self.state.rows("SELECT * FROM files ORDER BY n DESC")])
            case "GET", ["files", name]:
                return self._with_file(name, lambda row: Response(self._file(row)))
            case "GET", ["files", name, "content"]:
                return self._with_file(name, lambda row: Response(row["content"], content_type="application/octet-stream"))
            case "POST", ["batches"]:
                return self._create(request)
            case "GET", ["batches"]:
                return self._list(request, list(self._visible()))
            case "GET", ["batches", name]:
                return self._with_batch(name, lambda n, batch: Response(batch))
            case "POST", ["batches", name, "cancel"]:
                return self._with_batch(name, self._cancel)
        return error(404, f"Invalid URL ({request.method} {request.path})")

    def _now(self) -> int:
        return int(time.time() + float(self.state.option("clock_ahead", 0)))

    # ------------------------------------------------------------------------------------------------------------- files

    def _upload(self, request: Request) -> Response:
        found, purpose = request.file(), request.field("purpose")
        if found is None or purpose != "batch":
            return error(400, "A file and purpose=batch are required.", "missing_required_parameter", "file")
        return Response(self._file(self._keep(found[0], purpose, found[1])))

    def _keep(self, filename: str, purpose: str, content: bytes) -> Any:
        n = self.state.rows("SELECT COUNT(*) AS n FROM files")[0]["n"] + 1
        self.state.do("INSERT INTO files VALUES (?,?,?,?,?,?)", n, f"file-{n:024x}", self._now(), filename, purpose, content)
        return self.state.one("SELECT * FROM files WHERE n=?", n)

    @staticmethod
    def _file(row: Any) -> dict[str, Any]:
        return {
            "id": row["id"],
            "object": "file",
            "bytes": len(row["content"]),
            "created_at": row["created_at"],
            "filename": row["filename"],
            "purpose": row["purpose"],
            "status": "processed",
            "expires_at": row["created_at"] + 30 * 86400,
        }

    def _with_file(self, name: str, then: Any) -> Response:
        row = self.state.one("SELECT * FROM files WHERE id=?", name)
        return then(row) if row is not None else error(404, f"No such File object: {name}")

    def _list(self, request: Request, entries: list[dict[str, Any]]) -> Response:
        limit, after = int(request.query.get("limit", 20)), request.query.get("after")
        if purpose := request.query.get("purpose"):
            entries = [entry for entry in entries if entry["purpose"] == purpose]
        if after:
            ids = [entry["id"] for entry in entries]
            entries = entries[ids.index(after) + 1 :] if after in ids else []
        page = entries[:limit]
        ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        return Response({"object": "list", "data": page, **ends, "has_more": len(entries) > limit})

    # ----------------------------------------------------------------------------------------------------------- batches

    def _create(self, request: Request) -> Response:
        self.state.do("INSERT INTO posts(headers, body) VALUES (?,?)", json.dumps(dict(request.headers)), request.body)
        asked = request.json()
        if asked.get("endpoint") not in URLS or asked.get("completion_window") != "24h" or not asked.get("input_file_id"):
            return error(400, "endpoint, completion_window and input_file_id are required.", "missing_required_parameter")
        plan: dict[str, Any] = {}
        for kind in PLANS:
            if fault := self.state.take([kind], f"{request.method} {request.path}"):
                plan[kind] = fault
        n, now = self.state.rows("SELECT COUNT(*) AS n FROM batches")[0]["n"] + 1, self._now()
        batch = {
            "id": f"batch_{n:024x}",
            "object": "batch",
            "endpoint": asked["endpoint"],
            "model": None,
            "input_file_id": asked["input_file_id"],
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "created_at": now,
            **dict.fromkeys(STAMPS),
            "expires_at": now + 86400,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": asked.get("metadata"),
            "usage": None,
        }
        self.state.do(
            "INSERT INTO batches VALUES (?,?,?,?,?,0)",
            n,
            batch["id"],
            json.dumps(batch),
            json.dumps(plan),
            plan.get("hide", {}).get("lists", 0),
        )
        return Response(batch)

    def _visible(self) -> Iterator[dict[str, Any]]:
        for row in self.state.rows("SELECT * FROM batches ORDER BY n DESC"):
            if row["hidden"] > 0:
                self.state.do("UPDATE batches SET hidden = hidden - 1 WHERE n=?", row["n"])
            else:
                yield json.loads(row["batch"])

    def _with_batch(self, name: str, then: Any) -> Response:
        row = self.state.one("SELECT * FROM batches WHERE id=?", name)
        return then(row["n"], json.loads(row["batch"])) if row is not None else error(404, f"No batch found with id '{name}'.")

    def _cancel(self, n: int, batch: dict[str, Any]) -> Response:
        if batch["status"] not in ACTIVE:
            return error(409, f"Cannot cancel a batch with status '{batch['status']}'.")
        self._set(n, batch, "cancelling", "cancelling_at")
        return Response(batch)

    def _set(self, n: int, batch: dict[str, Any], status: str, stamp: str | None = None) -> None:
        batch["status"] = status
        if stamp:
            batch[stamp] = self._now()
        self.state.do("UPDATE batches SET batch=? WHERE n=?", json.dumps(batch), n)

    def _advance(self, n: int, batch: dict[str, Any], plan: dict[str, Any], done: int) -> None:
        if batch["status"] == "validating" and "stuck" not in plan:
            if faults := self._faults_of(batch, plan):
                batch["errors"] = {"object": "list", "data": faults}
                return self._set(n, batch, "failed", "failed_at")
            batch["request_counts"]["total"] = len(self._input(batch))
            return self._set(n, batch, "in_progress", "in_progress_at")
        if batch["status"] == "cancelling":
            return self._finish(n, batch, plan, "cancelled", "batch_cancelled")
        if batch["status"] == "in_progress":
            total = batch["request_counts"]["total"]
            upto = min(total, done + -(-total // int(self.state.option("steps", 3))))
            expire = plan.get("expire")
            if expire:
                upto = min(upto, int(total * float(expire.get("share", 0.5))))
            self._run(batch, plan, done, upto)
            self.state.do("UPDATE batches SET done=? WHERE n=?", upto, n)
            if expire and upto in (done, total):
                return self._finish(n, batch, plan, "expired", "batch_expired")
            return self._set(n, batch, *(("finalizing", "finalizing_at") if upto == total else ("in_progress", None)))
        if batch["status"] == "finalizing":
            return self._finish(n, batch, plan, "completed", None)
        return None

    def _input(self, batch: dict[str, Any]) -> list[bytes]:
        row = self.state.one("SELECT content FROM files WHERE id=?", batch["input_file_id"])
        return [] if row is None else [line for line in row["content"].split(b"\n") if line.strip()]

    def _faults_of(self, batch: dict[str, Any], plan: dict[str, Any]) -> list[dict[str, Any]]:
        """Why validation fails. One bad line is enough for the whole file."""

        def fault(code: str, line: int | None, message: str, param: str | None = None) -> dict[str, Any]:
            return {"code": code, "line": line, "message": message, "param": param}

        if "token_limit" in plan:
            return [
                fault(
                    "token_limit_exceeded", None, "Enqueued token limit reached for m in organization org-1. Limit: 90,000 enqueued tokens."
                )
            ]
        if asked := plan.get("validation"):
            return [
                fault(asked.get("code", "missing_required_parameter"), asked.get("line"), asked.get("message", "bad line"), "body.messages")
            ]
        lines, seen, found = self._input(batch), set(), []
        if not lines:
            return [fault("invalid_file", None, f"No such file: {batch['input_file_id']}")]
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                messages, custom_id = row["body"]["messages"], row["custom_id"]
                batch["model"] = row["body"]["model"]
            except (ValueError, KeyError, TypeError):
                found.append(fault("missing_required_parameter", number, "You must provide a value for this parameter.", "body.messages"))
                continue
            if custom_id in seen:
                found.append(fault("duplicate_custom_id", number, "The custom_id is not unique.", "custom_id"))
            if row.get("url") != batch["endpoint"] or row.get("method") != "POST":
                found.append(fault("mismatched_endpoint", number, "The url does not match the batch.", "url"))
            if not messages or any(message.get("role") not in ROLES for message in messages):
                found.append(fault("invalid_value", number, "Invalid messages.", "body.messages"))
            seen.add(custom_id)
        return found

    def _run(self, batch: dict[str, Any], plan: dict[str, Any], start: int, stop: int) -> None:
        """Answer rows start..stop and bill those that got an answer."""
        kinds = [
            kind for kind in ("failed", "status_0", "filtered", "truncated", "refused") for _ in range(plan.get("rows", {}).get(kind, 0))
        ]
        fails: dict[str, int] = self.state.option("keep_failing", {})
        for index, line in enumerate(self._input(batch)[start:stop], start):
            row = json.loads(line)
            kind = kinds[index] if index < len(kinds) else ""
            status = 0 if kind == "status_0" else 500 if kind == "failed" else int(fails.get(row["custom_id"], 200))
            body = dict(row["body"], max_tokens=row["body"].get("max_completion_tokens", row["body"].get("max_tokens")))
            answer = completion(body, row["body"]["model"], self.golds, self.seed)
            choice = answer["choices"][0]
            choice["message"]["refusal"] = None
            answer["usage"]["completion_tokens_details"] = {"reasoning_tokens": 0}
            if kind in ("filtered", "truncated"):
                choice["finish_reason"] = {"filtered": "content_filter", "truncated": "length"}[kind]
            if kind == "refused":
                choice["message"].update(content=None, refusal="I can't help with that.")
            failure = {"error": {"message": "The server had an error.", "type": "server_error", "param": None, "code": "server_error"}}
            self._result(
                batch, row["custom_id"], {"status_code": status, "request_id": f"req_{index}", "body": answer if status == 200 else failure}
            )
            counted = "completed" if status in (0, 200) else "failed"
            batch["request_counts"][counted] += 1
            if status == 200:
                usage = answer["usage"]
                self.state.bill(batch["id"], [(row["custom_id"], usage["total_tokens"])])
                self._add_usage(batch, usage)

    @staticmethod
    def _add_usage(batch: dict[str, Any], usage: dict[str, Any]) -> None:
        total = batch["usage"] or {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        }
        total["input_tokens"] += usage["prompt_tokens"]
        total["input_tokens_details"]["cached_tokens"] += usage["prompt_tokens_details"]["cached_tokens"]
        total["output_tokens"] += usage["completion_tokens"]
        total["total_tokens"] += usage["total_tokens"]
        batch["usage"] = total

    def _result(self, batch: dict[str, Any], custom_id: str, response: Any, failure: Any = None) -> None:
        n = self.state.rows("SELECT COUNT(*) AS n FROM results")[0]["n"]
        line = {"id": f"batch_req_{n:024x}", "custom_id": custom_id, "response": response, "error": failure}
        kind = "output" if response and response["status_code"] in (0, 200) else "error"
        self.state.do("INSERT INTO results VALUES (?,?,?,?)", batch["id"], custom_id, kind, json.dumps(line, ensure_ascii=False).encode())

    def _finish(self, n: int, batch: dict[str, Any], plan: dict[str, Any], status: str, code: str | None) -> None:
        ran = {row["custom_id"] for row in self.state.rows("SELECT custom_id FROM results WHERE batch_id=?", batch["id"])}
        for line in self._input(batch) if code else ():
            if (custom_id := json.loads(line)["custom_id"]) not in ran:
                why = {"code": code, "message": "This request could not be executed before the completion window expired."}
                self._result(batch, custom_id, None, why)
        for kind in ("output", "error"):
            rows = self.state.rows("SELECT custom_id, line FROM results WHERE batch_id=? AND file=?", batch["id"], kind)
            lines = shuffled([(row["custom_id"], row["line"]) for row in rows], self.seed, batch["id"])
            lines = spoiled(lines, plan.get("rows", {})) if kind == "output" else lines
            if lines:
                content = b"".join(line + b"\n" for _, line in lines)
                batch[f"{kind}_file_id"] = self._keep(f"{batch['id']}_{kind}.jsonl", "batch_output", content)["id"]
        self._set(n, batch, status, f"{status}_at")


if __name__ == "__main__":
    sys.exit(main(OpenAIServer))
