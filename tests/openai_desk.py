"""What the tests of OpenAI's Batch API share: a server, a provider that is quick enough for a test, and the recorded examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.providers.http import Patience
from pipeline.providers.openai_batch import OpenAIBatchProvider
from tests.servers.harness import ServerProcess

KEY = "sk-test-0123456789"


def example(name: str) -> str:
    """A recorded message, byte for byte."""
    return (Path(__file__).parent / "examples" / "openai" / name).read_text("utf-8")


def openai_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """The body of a fixture: a running server that the SDK's own variables lead to."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ServerProcess("openai", tmp_path / "remote") as running:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{running.url}/v1")
        yield running


def provider(**settings: Any) -> OpenAIBatchProvider:
    """The provider, quick."""
    quick = {"patience": Patience(deadline=5.0, initial=0.01, longest=0.05), "look_again_after": (0.01, 0.02, 0.05)}
    return OpenAIBatchProvider(**(quick | settings))


def bill(server: ServerProcess) -> dict[str, int]:
    """Rows billed, requests among them, rows billed once more than needed."""
    return server.admin("summary")
