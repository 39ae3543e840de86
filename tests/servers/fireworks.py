"""A Fireworks batch inference server for tests: `python -m tests.servers.fireworks --port N --state FILE --seed S`.

Jobs progress by count of polls: VALIDATING, PENDING, RUNNING (half of the rows answered and billed), COMPLETED.

Faults of jobs, taken when a job is created (`on` matches `JOB <id>`) or, for those marked *, when its results are asked for:
`stuck` (stays PENDING), `fail` (FAILED with `message`), `expire` / `cancel` / `early_stop` (ends half-way, with what it has),
`error_rows` (`count` rows go to error-data, unbilled), `missing_rows` (`count` rows are in neither file, unbilled),
`duplicate_rows`, `foreign_rows`, `refusals`, `filtered`, `bad_line`*, `expired_url`* (a signed URL is refused), `vanish` (after the
end, the job's record is gone, its output dataset stays), `strange_state` (the state is `JOB_STATE_DEFRAGMENTING` for a poll).

Options: `duplicate_status` (409 or 400), `dedupe` (true; false makes a second job under the same id), `prefix` (false drops
`JOB_STATE_`), `upload_polls` (looks at a dataset before it is READY), `server_output_id` (refuses a client-chosen output dataset),
`running_polls` (looks at a job before it ends), `cancellable` (true: takes `:cancel`, which no documentation names),
`dataset_problem` (why no dataset becomes READY).
"""

from __future__ import annotations

import json
import random
import re
import secrets
import sqlite3
import time
from typing import Any

from tests.servers.common import App, Request, Response, completion, main

ROLES = {"system", "user", "assistant", "tool", "developer"}
AT_CREATION = (
    *("stuck", "fail", "expire", "cancel", "early_stop", "error_rows", "missing_rows", "duplicate_rows", "foreign_rows"),
    *("refusals", "filtered", "vanish", "strange_state"),
)
ENDS = {"expire": "EXPIRED", "cancel": "CANCELLED", "early_stop": "EARLY_STOPPED"}
NOT_FOUND = {"code": 5, "message": "resource not found", "details": []}
BAD_KEY = {
    "error": {"message": "The API key you provided is invalid.", "param": None, "code": "UNAUTHORIZED", "type": "error"},
    "request_id": "req-1",
}
EXPIRED_URL = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code><Message>Invalid argument.</Message></Error>"


class Fireworks(App):
    """Fireworks batch inference on 127.0.0.1, for tests."""

    origins = ("api", "storage")
    tables = (
        "CREATE TABLE IF NOT EXISTS datasets(account TEXT, id TEXT, state TEXT, declared TEXT, looks INTEGER DEFAULT 0,"
        " content BLOB, errors BLOB, PRIMARY KEY(account, id));"
        "CREATE TABLE IF NOT EXISTS jobs(number INTEGER PRIMARY KEY, account TEXT, id TEXT, body TEXT, output TEXT, state TEXT,"
        " polls INTEGER DEFAULT 0, message TEXT DEFAULT '', rows TEXT, done INTEGER DEFAULT 0, faults TEXT, created REAL, started REAL);"
        "CREATE TABLE IF NOT EXISTS signed(token TEXT PRIMARY KEY, account TEXT, dataset TEXT, file TEXT, expires REAL, size INTEGER);"
    )

    def handle(self, request: Request) -> Response:
        """Route one call of the API or of the storage behind signed URLs."""
        if request.origin == "storage":
            return self._storage(request)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not key or key == "bad":
            return Response(BAD_KEY, 403)
        found = re.fullmatch(r"/v1/accounts/([^/]+)/(datasets|batchInferenceJobs)(?:/([^/:]+))?(?::(\w+))?", request.path)
        if not found:
            return Response(NOT_FOUND, 404)
        account, kind, name, verb = found.groups()
        try:
            call = getattr(self, f"_{request.method.lower()}_{kind}{'_' + verb if verb else ''}{'' if name else '_all'}", None)
            return Response(NOT_FOUND, 404) if call is None else call(request, account, name)
        except (ValueError, KeyError, TypeError) as e:
            return Response({"code": 3, "message": f"invalid request: {e}", "details": []}, 400)

    def _exists(self, what: str) -> Response:
        status = int(self.state.option("duplicate_status", 409))
        return Response({"code": 6 if status == 409 else 3, "message": f"{what} already exists", "details": []}, status)

    # -------------------------------------------------------------------------------------------------- datasets

    def _dataset(self, account: str, name: str) -> sqlite3.Row | None:
        return self.state.one("SELECT * FROM datasets WHERE account=? AND id=?", account, name)

    def _post_datasets_all(self, request: Request, account: str, _: None) -> Response:
        body = request.json()
        if not body.get("dataset", {}).get("exampleCount"):
            return Response({"code": 3, "message": "example_count is required for uploaded datasets", "details": []}, 400)
        if self._dataset(account, body["datasetId"]):
            return self._exists(f"dataset {body['datasetId']}")
        declared = str(body["dataset"]["exampleCount"])
        self.state.do("INSERT INTO datasets(account, id, state, declared) VALUES (?,?,'UPLOADING',?)", account, body["datasetId"], declared)
        return self._get_datasets(request, account, body["datasetId"])

    def _get_datasets(self, _: Request, account: str, name: str) -> Response:
        row = self._dataset(account, name)
        if row is None:
            return Response(NOT_FOUND, 404)
        if row["state"] == "UPLOADED":
            ready = row["looks"] >= int(self.state.option("upload_polls", 1))
            self.state.do(
                "UPDATE datasets SET looks=looks+1, state=? WHERE account=? AND id=?", "READY" if ready else "UPLOADED", account, name
            )
        row = self._dataset(account, name)
        assert row is not None
        state = "READY" if row["state"] == "READY" else "UPLOADING"
        full = f"accounts/{account}/datasets/{name}"
        problem = self.state.option("dataset_problem")
        status = {"code": "INVALID_ARGUMENT", "message": problem} if problem else {"code": "OK", "message": ""}
        shown = "UPLOADING" if problem else state
        return Response({"name": full, "state": shown, "status": status, "exampleCount": row["declared"], "userUploaded": {}})

    def _delete_datasets(self, _: Request, account: str, name: str) -> Response:
        gone = self.state.do("DELETE FROM datasets WHERE account=? AND id=?", account, name)
        return Response({}) if gone else Response(NOT_FOUND, 404)

    def _post_datasets_upload(self, request: Request, account: str, name: str) -> Response:
        upload = request.file()
        if not self._dataset(account, name) or upload is None:
            return Response(NOT_FOUND, 404)
        self._receive(account, name, upload[1])
        reply = {"id": f"accounts/{account}/datasets/{name}", "object": "file", "bytes": len(upload[1]), "created_at": 1788061722}
        return Response(reply | {"filename": upload[0], "purpose": "dataset"})

    def _receive(self, account: str, name: str, content: bytes) -> None:
        self.state.do("UPDATE datasets SET state='UPLOADED', looks=0, content=? WHERE account=? AND id=?", content, account, name)

    def _post_datasets_getUploadEndpoint(self, request: Request, account: str, name: str) -> Response:
        if not self._dataset(account, name):
            return Response(NOT_FOUND, 404)
        sizes = request.json()["filenameToSize"]
        return Response({"filenameToSignedUrls": {file: self._sign(account, name, file, int(size)) for file, size in sizes.items()}})

    def _post_datasets_validateUpload(self, request: Request, account: str, name: str) -> Response:
        row = self._dataset(account, name)
        if row is None or request.json() != {}:
            return Response(NOT_FOUND, 404)
        return Response({}) if row["content"] is not None else Response({"code": 9, "message": "nothing was uploaded", "details": []}, 400)

    def _get_datasets_getDownloadEndpoint(self, request: Request, account: str, name: str) -> Response:
        if request.body:
            return Response({"code": 3, "message": "a GET must not carry a body", "details": []}, 400)
        row = self._dataset(account, name)
        if row is None or row["content"] is None:
            return Response(NOT_FOUND, 404)
        files = [f"dataset/{name}/BIJOutputSet.jsonl", f"dataset/{name}/error-data"]
        return Response({"filenameToSignedUrls": {file: self._sign(account, name, file) for file in files}})

    def _sign(self, account: str, dataset: str, file: str, size: int | None = None) -> str:
        token = secrets.token_hex(16)
        self.state.do("INSERT INTO signed VALUES (?,?,?,?,?,?)", token, account, dataset, file, time.time() + 599, size)
        return f"{self.url('storage')}/{file}?X-Goog-Expires=599&X-Goog-Signature={token}"

    def _storage(self, request: Request) -> Response:
        token = self.state.one("SELECT * FROM signed WHERE token=?", request.query.get("X-Goog-Signature", ""))
        if request.headers.get("authorization"):
            return Response(b"<Error><Code>InvalidAuthentication</Code></Error>", 401, content_type="application/xml")
        if token is None or token["expires"] < time.time() or self.state.take(["expired_url"], f"{request.method} {request.path}"):
            return Response(EXPIRED_URL, 400, content_type="application/xml")
        if request.method == "PUT":
            size = token["size"]
            if len(request.body) != size or request.headers.get("x-goog-content-length-range") != f"{size},{size}":
                return Response(b"<Error><Code>EntityTooSmall</Code></Error>", 400, content_type="application/xml")
            self._receive(token["account"], token["dataset"], request.body)
            return Response(b"", content_type="text/plain")
        row = self._dataset(token["account"], token["dataset"])
        if row is None:
            return Response(b"<Error><Code>NoSuchKey</Code></Error>", 404, content_type="application/xml")
        data = (row["errors"] or b"") if token["file"].endswith("error-data") else row["content"]
        if data and self.state.take(["bad_line"], f"{request.method} {request.path}"):
            data = data + b'{"custom_id": "torn, "resp\n'
        return Response(data, content_type="application/octet-stream")

    # ------------------------------------------------------------------------------------------------------ jobs

    def _job(self, account: str, name: str) -> sqlite3.Row | None:
        return self.state.one("SELECT * FROM jobs WHERE account=? AND id=? ORDER BY number DESC", account, name)

    def _post_batchInferenceJobs_all(self, request: Request, account: str, _: None) -> Response:
        body = request.json()
        name = request.query.get("batchInferenceJobId") or f"bij-{secrets.token_hex(4)}"
        if self._job(account, name) and self.state.option("dedupe", True):
            return self._exists(f"batch inference job {name}")
        parent = self._job(account, body["continuedFromJobName"].rsplit("/", 1)[-1]) if body.get("continuedFromJobName") else None
        if parent is not None:
            inherited = {k: v for k, v in json.loads(parent["body"]).items() if k in ("model", "inputDatasetId")}
            body = {**inherited, **body}
        if not re.fullmatch(r"accounts/[\w.-]+/models/[\w.-]+", body.get("model", "")):
            return Response({"code": 5, "message": f"model {body.get('model')!r} not found", "details": []}, 404)
        dataset = self._dataset(account, body["inputDatasetId"].rsplit("/", 1)[-1])
        if dataset is None or dataset["state"] != "READY":
            return Response({"code": 9, "message": "input dataset is not ready", "details": []}, 400)
        chosen = (body.get("outputDatasetId") or "").rsplit("/", 1)[-1]
        if chosen and self.state.option("server_output_id", False):
            return Response({"code": 3, "message": "output_dataset_id must not be set", "details": []}, 400)
        if chosen and self._dataset(account, chosen) and self.state.option("dedupe", True):
            return self._exists(f"output dataset {chosen}")
        output = chosen or f"bij-{secrets.token_hex(4)}"
        faults = {kind: plan for kind in AT_CREATION if (plan := self.state.take([kind], f"JOB {name}"))}
        rows = self._owed(account, parent) if parent is not None else dataset["content"].decode("utf-8", "replace")
        values = (account, name, json.dumps(body), output, "VALIDATING", rows, json.dumps(faults), time.time())
        self.state.do("INSERT INTO jobs(account, id, body, output, state, rows, faults, created) VALUES (?,?,?,?,?,?,?,?)", *values)
        return self._show(self._job(account, name))

    def _owed(self, account: str, parent: sqlite3.Row) -> str:
        output = self._dataset(account, parent["output"])
        lines = output["content"].decode().splitlines() if output else []
        have = {json.loads(line)["custom_id"] for line in lines if '"response"' in line}
        return "".join(line + "\n" for line in parent["rows"].splitlines() if json.loads(line)["custom_id"] not in have)

    def _get_batchInferenceJobs_all(self, request: Request, account: str, _: None) -> Response:
        size, start = min(int(request.query.get("pageSize", 50)), 200), int(request.query.get("pageToken") or 0)
        rows = self.state.rows("SELECT * FROM jobs WHERE account=? ORDER BY number", account)
        page = [self._show(row).body for row in rows[start : start + size]]
        following = str(start + size) if start + size < len(rows) else ""
        return Response({"batchInferenceJobs": page, "nextPageToken": following, "totalSize": len(rows)})

    def _get_batchInferenceJobs(self, _: Request, account: str, name: str) -> Response:
        row = self._job(account, name)
        if row is None or row["state"] == "GONE":
            return Response(NOT_FOUND, 404)
        for other in self.state.rows("SELECT * FROM jobs WHERE account=? AND id=?", account, name):
            self._progress(other)
        row = self._job(account, name)
        return Response(NOT_FOUND, 404) if row is None or row["state"] == "GONE" else self._show(row)

    def _delete_batchInferenceJobs(self, _: Request, account: str, name: str) -> Response:
        gone = self.state.do("UPDATE jobs SET state='DELETING_CLEANING_UP' WHERE account=? AND id=? AND state!='GONE'", account, name)
        return Response({}) if gone else Response(NOT_FOUND, 404)

    def _post_batchInferenceJobs_cancel(self, _: Request, account: str, name: str) -> Response:
        ended = ("COMPLETED", "FAILED", "EXPIRED", "CANCELLED", "EARLY_STOPPED", "GONE")
        row = self._job(account, name) if self.state.option("cancellable", False) else None
        if row is None or row["state"] in ended:
            return Response(NOT_FOUND, 404)
        self._set(row["number"], "CANCELLED")
        return Response({})

    def _show(self, row: sqlite3.Row | None) -> Response:
        assert row is not None
        body, account, faults = json.loads(row["body"]), row["account"], json.loads(row["faults"])
        state = row["state"]
        if "strange_state" in faults and row["polls"] == 2:
            state = "DEFRAGMENTING"
        total = len(row["rows"].splitlines())
        progress = None
        if row["done"] or state in ("RUNNING", "COMPLETED"):
            failed = self._failed(row)
            progress = {
                "percent": 100 * row["done"] // max(1, total),
                "totalInputRequests": total,
                "totalProcessedRequests": row["done"],
                "successfullyProcessedRequests": row["done"] - failed,
                "failedRequests": failed,
                "outputRows": row["done"] - failed,
            }
        return Response(
            {
                "name": f"accounts/{account}/batchInferenceJobs/{row['id']}",
                "state": ("JOB_STATE_" if self.state.option("prefix", True) else "") + state,
                "status": {"code": "OK" if state != "FAILED" else "INVALID_ARGUMENT", "message": row["message"]},
                "model": body["model"],
                "displayName": body.get("displayName", ""),
                "inputDatasetId": body["inputDatasetId"],
                "outputDatasetId": f"accounts/{account}/datasets/{row['output']}",
                "inferenceParameters": body.get("inferenceParameters"),
                "jobProgress": progress,
                "createTime": _rfc3339(row["created"]),
                "updateTime": _rfc3339(time.time()),
                "expireTime": _rfc3339(row["created"] + 86400),
                "lifecycle": {"runStartTime": _rfc3339(row["started"])} if row["started"] else {},
                "waitingOnCapacity": "stuck" in faults,
            }
        )

    def _failed(self, row: sqlite3.Row) -> int:
        output = self._dataset(row["account"], row["output"])
        return len((output["errors"] or b"").splitlines()) if output else 0

    def _progress(self, row: sqlite3.Row) -> None:
        """One poll has come: move the job on by one state."""
        number, faults, polls = row["number"], json.loads(row["faults"]), row["polls"] + 1
        self.state.do("UPDATE jobs SET polls=? WHERE number=?", polls, number)
        state = row["state"]
        if state == "DELETING_CLEANING_UP" or (state == "COMPLETED" and "vanish" in faults):
            self._set(number, "GONE")
        elif state == "VALIDATING":
            problem = faults["fail"].get("message", "internal error") if "fail" in faults else _invalid(row["rows"])
            self._set(number, "FAILED" if problem else "PENDING", problem)
        elif state == "PENDING" and "stuck" not in faults:
            self.state.do("UPDATE jobs SET started=? WHERE number=?", time.time(), number)
            self._work(row, faults, half=True)
            self._set(number, "RUNNING")
        elif state == "RUNNING" and polls >= 2 + int(self.state.option("running_polls", 1)):
            end = next((ENDS[kind] for kind in ENDS if kind in faults), None)
            if end is None:
                self._work(row, faults, half=False)
            self._set(number, end or "COMPLETED")

    def _set(self, number: int, state: str, message: str = "") -> None:
        self.state.do("UPDATE jobs SET state=?, message=? WHERE number=?", state, message, number)

    def _work(self, row: sqlite3.Row, faults: dict[str, Any], half: bool) -> None:
        """Answer and bill the first half of the rows, or the rest: answers, bill and progress in one transaction."""
        lines = [json.loads(line) for line in row["rows"].splitlines()]
        chance = random.Random(f"{self.seed}|{row['id']}")
        chance.shuffle(lines)
        middle = (len(lines) + 1) // 2
        mine = lines[:middle] if half else lines[middle:]
        n_errors = int(faults.get("error_rows", {}).get("count", 1)) if "error_rows" in faults and half else 0
        n_missing = int(faults.get("missing_rows", {}).get("count", 1)) if "missing_rows" in faults and not half else 0
        failed, mine = mine[:n_errors], mine[n_errors + n_missing :]
        model = json.loads(row["body"])["model"]
        good = [{"custom_id": line["custom_id"], "response": self._complete(line["body"], model, faults)} for line in mine]
        self.state.bill(row["id"], [(line["custom_id"], line["response"]["usage"]["total_tokens"]) for line in good])
        if "duplicate_rows" in faults:
            good.extend(good[:1])
        if "foreign_rows" in faults and good:
            good.append({**good[0], "custom_id": "f0" * 16})
        chance.shuffle(good)
        bad = [
            {"custom_id": line["custom_id"], "error": {"code": "internal", "message": "the row could not be processed"}} for line in failed
        ]
        self._append(row["account"], row["output"], _jsonl(good), _jsonl(bad))
        self.state.do("UPDATE jobs SET done=done+? WHERE number=?", len(good) + len(bad), row["number"])

    def _complete(self, body: dict[str, Any], model: str, faults: dict[str, Any]) -> dict[str, Any]:
        made = completion(body, model, self.golds, self.seed)
        if "refusals" in faults:
            made["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
        if "filtered" in faults:
            made["choices"][0] = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}
        return made

    def _append(self, account: str, name: str, content: bytes, errors: bytes) -> None:
        old = self._dataset(account, name)
        before, errors_before = (old["content"] or b"", old["errors"] or b"") if old else (b"", b"")
        self.state.do("INSERT OR REPLACE INTO datasets(account, id, state, declared, content, errors) VALUES (?,?,'READY','0',?,?)",
                      account, name, before + content, errors_before + errors)  # fmt: skip


def _invalid(rows: str) -> str:
    """Why the whole job fails, '' where all rows are well. The line number is off by one, as the real one's is unreliable."""
    seen = set()
    for number, line in enumerate(rows.splitlines()):
        try:
            row = json.loads(line)
            messages = row["body"]["messages"]
            if row["custom_id"] in seen:
                return f"line {number}: duplicate custom_id"
            seen.add(row["custom_id"])
            if not messages or any(m["role"] not in ROLES for m in messages):
                return f"line {number}: row {row['custom_id']}: invalid role"
        except (ValueError, KeyError, TypeError) as e:
            return f"line {number}: not a valid row: {type(e).__name__}"
    return "" if rows.strip() else "the input dataset is empty"


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for row in rows)


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


if __name__ == "__main__":
    raise SystemExit(main(Fireworks))
