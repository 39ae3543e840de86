"""Fetching against a local server: whole, resumed, verified, and plain words where it fails."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.base.errors import StepError, UsageError
from pipeline.sources import locate, read
from pipeline.sources.download import download
from scripts import fetch_data

ROOT = Path(__file__).parents[1]
BYTES = bytes(range(256)) * 2000
SHA = hashlib.sha256(BYTES).hexdigest()
ITEMS = b'{"dataset": "d", "id": "1", "question": "q?", "answers": ["a"]}\n'


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut` breaks the connection after so many bytes, `ranges` and `etag` are what the server can do."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/set.json": BYTES}
        self.cut: int | None = None
        self.ranges = True
        self.etag: str | None = '"v1"'
        self.asked: list[tuple[str, str | None]] = []

    def url(self, path: str = "/set.json") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        data = self.server.files.get(self.path.partition("?")[0])
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        same = self.headers.get("If-Range") in (None, self.server.etag)
        partly = bool(wanted) and self.server.ranges and same
        if partly and start >= len(data):
            self.send_error(416)
            return
        rest = data[start:] if partly else data
        self.send_response(206 if partly else 200)
        self.send_header("Content-Length", str(len(rest)))
        if partly:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(rest if self.server.cut is None else rest[: self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    """Whole and verified; the second call asks nothing of the server."""
    target = tmp_path / "raw" / "set.json"
    assert download(server.url(), target, SHA) is True
    assert target.read_bytes() == BYTES
    assert download(server.url(), target, SHA) is False
    assert len(server.asked) == 1
    assert leftovers(target.parent) == []


@pytest.mark.parametrize("sha", [SHA, None], ids=["declared", "undeclared"])
def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path, sha: str | None) -> None:
    """The break is told, nothing lies at the target, and the next call asks only for the rest."""
    target = tmp_path / "set.json"
    server.cut = 100_000
    with pytest.raises(StepError, match="broke") as e:
        download(server.url(), target, sha)
    assert e.value.exit_code == 1
    assert not target.exists()
    server.cut = None
    assert download(server.url(), target, sha) is True
    assert server.asked[-1][1] == "bytes=100000-"
    assert target.read_bytes() == BYTES
    assert leftovers(tmp_path) == []


def test_another_version_is_not_glued_to_the_beginning_of_the_first(server: Server, tmp_path: Path) -> None:
    """Where the file changed between two calls, all of it is fetched anew."""
    target = tmp_path / "set.json"
    server.cut = 1000
    with pytest.raises(StepError):
        download(server.url(), target)
    server.cut, server.etag, server.files["/set.json"] = None, '"v2"', BYTES[::-1]
    assert download(server.url(), target)
    assert target.read_bytes() == BYTES[::-1]


@pytest.mark.parametrize("fault", ["no ranges", "no version"])
def test_a_server_that_cannot_resume_is_asked_for_all(server: Server, tmp_path: Path, fault: str) -> None:
    """Without ranges, or with neither version nor sha256, the beginning is thrown away."""
    target = tmp_path / "set.json"
    server.ranges, server.etag = fault != "no ranges", None if fault == "no version" else '"v1"'
    server.cut = 1000
    with pytest.raises(StepError):
        download(server.url(), target)
    server.cut = None
    assert download(server.url(), target)
    assert target.read_bytes() == BYTES
    assert (server.asked[-1][1] is None) == (fault == "no version")


def test_a_whole_part_is_verified_and_published(server: Server, tmp_path: Path) -> None:
    """Killed between the last byte and the renaming: the server has nothing more, the sha256 tells that all of it is there."""
    target = tmp_path / "set.json"
    (tmp_path / ".set.json.part").write_bytes(BYTES)
    assert download(server.url(), target, SHA)
    assert target.read_bytes() == BYTES
    (tmp_path / ".other.json.part").write_bytes(BYTES + b"too long")
    assert download(server.url(), tmp_path / "other.json", SHA)
    assert (tmp_path / "other.json").read_bytes() == BYTES


def test_wrong_bytes_are_thrown_away(server: Server, tmp_path: Path) -> None:
    """A sha256 that differs publishes nothing and leaves nothing to resume from."""
    with pytest.raises(StepError, match=f"has the sha256 {SHA}, not 0000"):
        download(server.url(), tmp_path / "set.json", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_different_file_in_the_way_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    """The user may have put it there."""
    (tmp_path / "set.json").write_text("mine")
    with pytest.raises(StepError, match="Move it away"):
        download(server.url(), tmp_path / "set.json", SHA)
    assert (tmp_path / "set.json").read_text() == "mine"
    assert server.asked == []


def test_server_errors_and_other_schemes_are_told(server: Server, tmp_path: Path) -> None:
    """404 names the URL and what to do without network; file: is refused."""
    with pytest.raises(StepError, match=r"nowhere: the server answers 404 .*Without network: .*set.json"):
        download(server.url("/nowhere"), tmp_path / "set.json")
    with pytest.raises(UsageError, match="only http"):
        download("file:///etc/hostname", tmp_path / "set.json")


def test_the_script_fetches_and_says_so(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name; a second run says that it is there already; one failure does not keep the others from coming."""
    known = {"good": fetch_data.Dataset(server.url(), SHA), "bad": fetch_data.Dataset(server.url("/nowhere"))}
    monkeypatch.setattr(fetch_data, "OFFICIAL", known)
    assert fetch_data.main(["--dest", str(tmp_path), "bad", "good"]) == 1
    shown = capsys.readouterr()
    assert f"set.json: fetched, sha256 {SHA}" in shown.out
    assert shown.err.startswith("error: http://127.0.0.1")
    assert fetch_data.main(["--dest", str(tmp_path), "good"]) == 0
    assert "there already" in capsys.readouterr().out
    assert fetch_data.main(["--dest", str(tmp_path), "other"]) == 2
    assert "Known: good, bad" in capsys.readouterr().err


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(ITEMS)
            tar.addfile(info, io.BytesIO(ITEMS))
    return buffer.getvalue()


def test_members_are_taken_out_of_an_archive(server: Server, tmp_path: Path) -> None:
    """TriviaQA comes as an archive; a damaged or incomplete one is told."""
    server.files["/t.tar.gz"] = archive("qa/dev.json", "qa/other.json")
    dataset = fetch_data.Dataset(server.url("/t.tar.gz"), members=("qa/dev.json",), prefix="trivia")
    assert list(fetch_data.fetch(dataset, tmp_path / "t.tar.gz")) == [(tmp_path / "trivia-dev.json", True)]
    assert (tmp_path / "trivia-dev.json").read_bytes() == ITEMS
    assert list(fetch_data.fetch(dataset, tmp_path / "t.tar.gz")) == [(tmp_path / "trivia-dev.json", False)]
    for name, data in [("lacking", archive("qa/else.json")), ("torn", server.files["/t.tar.gz"][:60]), ("none", b"hello")]:
        server.files[f"/{name}.tar.gz"] = data
        broken = fetch_data.Dataset(server.url(f"/{name}.tar.gz"), members=("qa/dev.json",), prefix=name)
        with pytest.raises(StepError, match="cannot be taken out"):
            list(fetch_data.fetch(broken, tmp_path / f"{name}.tar.gz"))
        assert not (tmp_path / f"{name}-dev.json").exists()


@pytest.mark.parametrize("declared", [True, False])
def test_what_a_config_names_is_fetched_to_where_it_is_read(server: Server, tmp_path: Path, declared: bool) -> None:
    """`--config` fetches the URLs of its sources; `pipeline.sources.read` then finds them."""
    server.files["/items.jsonl"] = ITEMS
    sha = f", sha256: {hashlib.sha256(ITEMS).hexdigest()}" if declared else ""
    config = tmp_path / "c.yaml"
    config.write_text(f"sources:\n  closed_book:\n    - {{kind: jsonl, url: '{server.url('/items.jsonl')}'{sha}}}\n")
    from pipeline.config import read_yaml

    source = read_yaml(config)[0]["sources"]["closed_book"][0]
    assert not locate(source, tmp_path).exists()
    assert fetch_data.main(["--config", str(config), "--dest", str(tmp_path / "data" / "raw")]) == 0
    assert [item.id for item, _place in read(source, tmp_path, "closed")] == ["1"]


def test_without_network_the_script_says_plainly_what_to_do(tmp_path: Path) -> None:
    """As a user sees it: exit 1, one line for each file, where to put it by hand, no traceback. The proxy stands for a dead network."""
    dead = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **dead, "no_proxy": "", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    command = [sys.executable, "-m", "scripts.fetch_data", "--dest", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: https://") and "put it at" in line for line in lines)
    assert fetch_data.OFFICIAL["squad_v2"].sha256 in lines[0]  # type: ignore[operator]


def test_known_checksums_are_those_of_the_official_bytes() -> None:
    """What the script verifies is what the official files are."""
    from shared_data import shared

    for name, file in [("squad_v2", "squad/dev-v2.0.json"), ("nq_open", "nq/NQ-open.dev.jsonl")]:
        assert hashlib.sha256(shared(file).read_bytes()).hexdigest() == fetch_data.OFFICIAL[name].sha256
