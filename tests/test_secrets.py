"""A canary for a key: it goes to the provider, in a header, and is nowhere else, also when the provider echoes it in every refusal."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.rows import Failure
from pipeline.providers.chat import failed_row
from pipeline.providers.http import HttpFault, fault_of, redact
from tests.project import Project, make
from tests.servers.harness import ServerProcess

CANARY = "sk-canary-4b1d9f07e2c35a68"
KEY = {
    "fireworks": "FIREWORKS_API_KEY",
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "openai_compatible": "OPENAI_COMPATIBLE_API_KEY",
}
SERVER = {"openai_compatible": "openai_chat"}
CREATE = {
    "fireworks": "POST .*/batchInferenceJobs$",
    "openai": "POST /v1/batches$",
    "anthropic": "POST /v1/messages/batches$",
    "openai_compatible": "POST /v1/chat/completions$",
}
LOOK = {"fireworks": "GET .*/batchInferenceJobs/", "openai": "GET /v1/batches", "anthropic": "GET /v1/messages/batches"}


def project_for(name: str, folder: Path, server: ServerProcess) -> Project:
    project = make(folder, items=2)
    patience: dict[str, Any] = {"retry_attempts": 2, "retry_wait_seconds": 0.01}
    if name in ("openai", "anthropic"):
        patience["look_again_after"] = [0.01]
    provider: dict[str, Any] = {
        "name": name,
        "base_url": f"{server.url}/v1" if name == "openai" else server.url,
        "poll_seconds": 0.02,
        "options": {"max_tries": 2, "first_delay": 0.01} if name == "openai_compatible" else patience,
    }
    if name == "fireworks":
        provider |= {"account_id": "acme"}
    project.configure(provider=provider, model_id="accounts/fireworks/models/m", temps=["default"], pricing={"allow_unpriced": True})
    return project


def said(project: Project, name: str, code: int) -> str:
    """What `doit run` wrote to both streams, and what the process list showed of it meanwhile."""
    child = project.child("run", env={KEY[name]: CANARY, "PATH": "/nowhere"})
    listed: set[bytes] = set()
    while True:
        try:
            out, err = child.communicate(timeout=0.2)
            break
        except subprocess.TimeoutExpired:
            listed.add(Path(f"/proc/{child.pid}/cmdline").read_bytes())
    assert child.returncode == code, out + err
    return out + err + repr(listed)


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every file below `folder`, and of every file packed into one."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()
            if path.name.endswith(".tar.gz"):
                with tarfile.open(path) as packed:
                    for member in packed.getmembers():
                        if (content := packed.extractfile(member)) is not None:
                            yield member.name, content.read()


@pytest.mark.parametrize("name", list(KEY))
def test_a_key_that_the_provider_echoes_shows_nowhere(tmp_path: Path, name: str) -> None:
    """A refused key, a refused request, a broken reply, failing looks, then success: every file, stream and argument list is searched."""
    module = {"openai_compatible": "httpx"}.get(name, name)
    pytest.importorskip(module, reason=f"the package {module} is not installed")
    with ServerProcess(SERVER.get(name, name), tmp_path / "remote") as server:
        project = project_for(name, tmp_path / "project", server)

        def echo(on: str, status: int) -> dict[str, Any]:
            error = {"message": f"Incorrect API key provided: {CANARY} (Authorization: Bearer {CANARY})", "type": "x", "code": "y"}
            return {"kind": "status", "on": on, "status": status, "body": {"type": "error", "error": error, "detail": CANARY}}

        server.faults(echo(CREATE[name], 401))
        text = said(project, name, 1)
        assert "401" in text, "the fault was never met"
        if name in LOOK:
            server.faults({**echo(LOOK[name], 500), "times": 2})
        server.faults(echo(CREATE[name], 500), echo(CREATE[name], 400))
        for _ in range(6):
            child = project.child("run", "--force", env={KEY[name]: CANARY, "PATH": "/nowhere"})
            text += "".join(child.communicate(timeout=120))
            if child.returncode == 0:
                break
        assert child.returncode == 0, text
        assert not [fault for fault in server.admin("faults") if fault["left"]], "a fault was never met"
    assert CANARY not in text
    files = dict(written(project.folder))
    assert any(file.endswith("report.html") for file in files) and any(file.endswith("events.jsonl") for file in files)
    assert [file for file, content in files.items() if CANARY.encode() in content] == []


def test_half_a_key_is_not_left_where_a_long_reply_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)

    class Response:
        status_code, headers, text = 401, dict[str, str](), "x" * 490 + CANARY

    class Refused(Exception):
        response = Response()

    fault = fault_of(Refused(), "look")
    assert isinstance(fault, HttpFault) and CANARY[:6] not in str(fault)


def test_a_failed_rows_reason_and_raw_line_hold_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    row = failed_row("c", {"code": "invalid_api_key", "message": f"bad key {CANARY}"}, raw=f'{{"key": "{CANARY}"}}')
    assert row.error == Failure(code="invalid_api_key", message="bad key ***") and CANARY not in str(row.raw)


def test_headers_of_ones_own_are_secrets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"x-proxy-pass: {CANARY}\nx-team: a")
    assert redact(f"refused: {CANARY}, team a") == "refused: ***, team a"
