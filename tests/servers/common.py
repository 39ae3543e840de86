"""What the test servers share: state that survives a kill, a bill of every billable row, answers by hash, faults on demand.

A server is an `App`: it answers `Request` with `Response` under one lock, keeps all it knows in SQLite, and runs as a process of
its own on 127.0.0.1. Faults come from `POST /_admin/faults` or from a file; an entry is
`{"kind": "drop_reply", "on": "POST .*/batchInferenceJobs", "times": 1, "skip": 0, ...}` where `on` is a regular expression over
`METHOD path`. Faults of the transport (`TRANSPORT_FAULTS`) work on every server; each server documents its own further kinds.
"""

from __future__ import annotations

import abc
import argparse
import json
import re
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pipeline.base.digests import uniform
from tests.servers.answers import answer, completion, golds_from

TRANSPORT_FAULTS = {
    "status": "answer with `status` (default 503), perhaps `retry_after` seconds and a `body`, without doing the work",
    "reset": "reset the connection without doing the work",
    "drop_reply": "do the work, then reset the connection",
    "reply_status": "do the work, then answer with `status` (default 502)",
    "html": "do the work, then answer 200 with an HTML page",
    "garbage": "do the work, then answer 200 with half of the JSON",
    "truncate": "announce the whole body, send half of it, close",
    "slow": "send the body in `pieces` (default 4) with `delay` seconds (default 0.05) between",
    "invalid_utf8": "spoil one byte in the middle of the body",
}
__all__ = ["App", "Request", "Response", "State", "answer", "completion", "golds_from", "main", "serve"]
CHAOS = ("status", "reset", "drop_reply", "reply_status", "html", "truncate")


class State:
    """The server's memory: one SQLite file, changed only inside `with state:` (one lock, one transaction)."""

    def __init__(self, path: str | Path, tables: str = "") -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self.db = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE IF NOT EXISTS bill(custom_id TEXT, job_id TEXT, billed_at REAL, tokens INTEGER);"
            "CREATE TABLE IF NOT EXISTS faults(id INTEGER PRIMARY KEY, kind TEXT, plan TEXT, left INTEGER, skip INTEGER);"
            "CREATE TABLE IF NOT EXISTS options(name TEXT PRIMARY KEY, value TEXT);"
            "CREATE TABLE IF NOT EXISTS log(id INTEGER PRIMARY KEY, method TEXT, path TEXT, status TEXT, fault TEXT, note TEXT);" + tables
        )

    def __enter__(self) -> State:
        self._lock.acquire()
        if self._depth == 0:
            self.db.execute("BEGIN IMMEDIATE")
        self._depth += 1
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.db.execute("COMMIT" if kind is None else "ROLLBACK")
        self._lock.release()

    def rows(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock:
            return self.db.execute(sql, args).fetchall()

    def one(self, sql: str, *args: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        return next(iter(self.rows(sql, *args)), None)

    def do(self, sql: str, *args: Any) -> int:
        """Execute a change; returns the number of rows changed."""
        with self:
            return self.db.execute(sql, args).rowcount

    def bill(self, job_id: str, rows: Iterable[tuple[str, int]]) -> None:
        """Charge (custom_id, tokens) rows to a job: a line each, never deduplicated."""
        with self:
            self.db.executemany("INSERT INTO bill VALUES (?,?,?,?)", [(c, job_id, time.time(), tokens) for c, tokens in rows])

    def option(self, name: str, default: Any = None) -> Any:
        """A switch of the server, set at the start or by `POST /_admin/options`."""
        row = self.one("SELECT value FROM options WHERE name=?", name)
        return default if row is None else json.loads(row["value"])

    def set_options(self, options: Mapping[str, Any]) -> None:
        """Set switches; they survive a restart."""
        for name, value in options.items():
            self.do("INSERT OR REPLACE INTO options VALUES (?,?)", name, json.dumps(value))

    def add_faults(self, plans: Iterable[Mapping[str, Any]]) -> None:
        """Arm faults, in the order given."""
        for plan in plans:
            values = (plan["kind"], json.dumps(plan), int(plan.get("times", 1)), int(plan.get("skip", 0)))
            self.do("INSERT INTO faults(kind, plan, left, skip) VALUES (?,?,?,?)", *values)

    def take(self, kinds: Iterable[str], what: str) -> dict[str, Any] | None:
        """The first armed fault of these kinds whose `on` is found in `what`, counted down; None where there is none."""
        wanted = set(kinds)
        with self:
            for row in self.rows("SELECT * FROM faults WHERE left != 0 ORDER BY id"):
                plan: dict[str, Any] = json.loads(row["plan"])
                if row["kind"] not in wanted or not re.search(plan.get("on", ""), what):
                    continue
                if row["skip"] > 0:
                    self.do("UPDATE faults SET skip = skip - 1 WHERE id=?", row["id"])
                    continue
                self.do("UPDATE faults SET left = left - 1 WHERE id=?", row["id"])
                return plan
        return None


# ---------------------------------------------------------------------------------------------------------------- HTTP


@dataclass
class Request:
    """One request as the app sees it. `origin` tells the API's port from further ones (`storage`)."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    origin: str = "api"

    def json(self) -> Any:
        """The body as JSON (None where empty). Raises ValueError."""
        return json.loads(self.body) if self.body else None

    def file(self, name: str = "file") -> tuple[str, bytes] | None:
        """(filename, bytes) of a multipart form field, None where it is not there."""
        found = re.search(r'boundary="?([^";,]+)"?', self.headers.get("content-type", ""))
        for part in self.body.split(b"--" + found.group(1).encode()) if found else []:
            head, _, content = part.partition(b"\r\n\r\n")
            if f'name="{name}"'.encode() in head:
                filename = re.search(rb'filename="([^"]*)"', head)
                return (filename.group(1).decode() if filename else ""), content.removesuffix(b"\r\n")
        return None

    def field(self, name: str) -> str | None:
        """A multipart form field as text, None where it is not there."""
        found = self.file(name)
        return None if found is None else found[1].decode("utf-8")


@dataclass
class Response:
    """What goes out: JSON unless `content_type` says otherwise."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def data(self) -> bytes:
        """The body's bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, ensure_ascii=False).encode("utf-8")


class App(abc.ABC):
    """Base of the servers. Subclasses set `tables`, implement `handle` and may name further ports in `origins`."""

    tables = ""
    origins: tuple[str, ...] = ("api",)

    def __init__(self, state: str | Path, seed: int = 0, golds: Mapping[str, Sequence[str]] | None = None) -> None:
        self.state = State(state, self.tables)
        self.seed, self.golds = seed, golds or {}
        self.ports: dict[str, int] = {}

    @abc.abstractmethod
    def handle(self, request: Request) -> Response:
        """Answer one request. Called under the state's lock, inside one transaction."""

    def url(self, origin: str = "api") -> str:
        """The base URL of one of this server's ports."""
        return f"http://127.0.0.1:{self.ports[origin]}"

    def answer(self, request: Request) -> tuple[Response | None, dict[str, Any]]:
        """(response, transport fault): None for a response that must not be sent."""
        what = f"{request.method} {request.path}"
        if request.path.startswith("/_admin/"):
            return self._admin(request), {}
        with self.state:
            fault = self.state.take(TRANSPORT_FAULTS, what) or self._chaos(what) or {}
            kind = fault.get("kind")
            response: Response | None
            if kind == "status":
                headers = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
                response = Response(fault.get("body", {"error": {"message": "try later"}}), fault.get("status", 503), headers)
            elif kind == "reset":
                response = None
            else:
                response = self.handle(request)
                response = self._spoil(response, fault)
            status = "none" if response is None else str(response.status)
            note = "bearer" if request.headers.get("authorization") else ""
            self.state.do(
                "INSERT INTO log(method, path, status, fault, note) VALUES (?,?,?,?,?)",
                request.method,
                f"{request.origin}:{request.path}",
                status,
                kind or "",
                note,
            )
        return response, fault

    def _spoil(self, response: Response, fault: Mapping[str, Any]) -> Response | None:
        kind, data = fault.get("kind"), response.data()
        if kind == "drop_reply":
            return None
        if kind == "reply_status":
            return Response({"error": {"message": "bad gateway"}}, fault.get("status", 502))
        if kind == "html":
            return Response(b"<!DOCTYPE html><html><body>Just a moment...</body></html>", content_type="text/html")
        if kind == "garbage":
            return Response(data[: len(data) // 2], response.status, response.headers, response.content_type)
        if kind == "invalid_utf8":
            at = len(data) // 2
            return Response(data[:at] + b"\xff" + data[at + 1 :], response.status, response.headers, response.content_type)
        return response

    def _chaos(self, what: str) -> dict[str, Any] | None:
        """With option `chaos` = p, every request meets a transport fault with probability p, by the count of requests."""
        share = float(self.state.option("chaos", 0))
        if not share:
            return None
        count = self.state.rows("SELECT COUNT(*) AS n FROM log")[0]["n"]
        luck = uniform("chaos", str(self.seed), str(count), what)
        if luck >= share:
            return None
        kind = CHAOS[int(luck / share * len(CHAOS))]
        return {"kind": kind, "status": 429, "retry_after": 0.05} if kind == "status" and count % 2 else {"kind": kind}

    def summary(self) -> dict[str, int]:
        """Rows billed, requests among them, and how many rows were billed once more than needed."""
        row = self.state.rows("SELECT COUNT(*) AS billed, COUNT(DISTINCT custom_id) AS requests FROM bill")[0]
        return {"billed": row["billed"], "requests": row["requests"], "duplicates": row["billed"] - row["requests"]}

    def _admin(self, request: Request) -> Response:
        name = request.path.removeprefix("/_admin/")
        if request.method == "POST" and name == "faults":
            self.state.add_faults(request.json())
        elif request.method == "POST" and name == "options":
            self.state.set_options(request.json())
        elif name == "clear_faults":
            self.state.do("DELETE FROM faults")
        elif name in ("bill", "log", "faults"):
            return Response([dict(row) for row in self.state.rows(f"SELECT * FROM {name}")])  # name is one of three
        elif name == "summary":
            return Response(self.summary())
        else:
            return Response({"error": f"no such admin call: {name}"}, 404)
        return Response({})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    app: App
    origin: str

    def log_message(self, *_: Any) -> None:
        """Nothing: the log is a table."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self._body()
        headers = {k.lower(): v for k, v in self.headers.items()}
        request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body, self.origin)
        response, fault = self.app.answer(request)
        if response is None:
            # Linger 0 makes the close a reset: the client cannot know whether the work was done.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self._send(response, fault)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, response: Response, fault: Mapping[str, Any]) -> None:
        data = response.data()
        self.send_response_only(response.status)
        self.send_header("Date", formatdate(time.time(), usegmt=True))
        for name, value in {"Content-Type": response.content_type, "Content-Length": str(len(data)), **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if fault.get("kind") == "truncate":
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif fault.get("kind") == "slow":
            size = max(1, len(data) // int(fault.get("pieces", 4)))
            for start in range(0, len(data), size):
                self.wfile.write(data[start : start + size])
                self.wfile.flush()
                time.sleep(float(fault.get("delay", 0.05)))
        else:
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away is what these tests are about
            super().handle_error(request, client_address)


def serve(app: App, port: int = 0) -> list[ThreadingHTTPServer]:
    """Listen on 127.0.0.1 (`port` for the API, free ones for further origins), a thread each; fills `app.ports`."""
    servers: list[ThreadingHTTPServer] = []
    for number, origin in enumerate(app.origins):
        handler = type("Handler", (_Handler,), {"app": app, "origin": origin})
        server = _Server(("127.0.0.1", port if number == 0 else 0), handler)
        app.ports[origin] = server.server_address[1]
        servers.append(server)
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return servers


def _serve_soon(app: App, port: int) -> list[ThreadingHTTPServer]:
    """`serve`, waiting up to five seconds for a predecessor to leave the port."""
    for _ in range(50):
        try:
            return serve(app, port)
        except OSError:
            time.sleep(0.1)
    return serve(app, port)


def main(app_class: type[App], argv: Sequence[str] | None = None) -> int:
    """Command line of every server: serve until SIGTERM or SIGINT. Prints one line, `listening on URL`, when it is ready."""
    parser = argparse.ArgumentParser(description=app_class.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--state", default=":memory:", help="SQLite file; the server resumes from it")
    parser.add_argument("--seed", type=int, default=0, help="of answers, order of rows and chaos")
    parser.add_argument(
        "--answers", nargs="*", default=[], metavar="FILE", help="JSONL with question and answers: some answers will be right"
    )
    parser.add_argument("--faults", help='JSON file: {"options": {...}, "faults": [...]}')
    parser.add_argument("--until-eof", action="store_true", help="serve until standard input ends, then say what was billed")
    options = parser.parse_args(argv)
    app = app_class(options.state, options.seed, golds_from(options.answers))
    if options.faults:
        plan = json.loads(Path(options.faults).read_text("utf-8"))
        app.state.set_options(plan.get("options", {}))
        app.state.add_faults(plan.get("faults", []))
    try:
        servers = _serve_soon(app, options.port)
    except OSError as e:
        print(f"error: cannot listen on 127.0.0.1:{options.port}: {e.strerror}", file=sys.stderr)
        return 1
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    print(f"listening on {app.url()}", flush=True)
    if options.until_eof:
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), done.set()), daemon=True).start()
    done.wait()
    if options.until_eof:
        print(
            "test server: {billed} rows billed for {requests} requests, {duplicates} of them twice".format(**app.summary()), file=sys.stderr
        )
    for server in servers:
        server.shutdown()
    return 0
