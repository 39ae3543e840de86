"""What the tests of Anthropic's Message Batches share: a server, a provider that is quick enough for a test, recorded examples, a kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.providers.anthropic_batch import AnthropicBatchProvider
from pipeline.providers.http import Patience
from pipeline.providers.protocol import Submission
from tests.servers.harness import ServerProcess
from tests.submissions import Recorder

KEY = "sk-ant-test-0123456789"
OTHER = "ab-ffffffffffffffffffff-g0-a1"
BATCHES = "/v1/messages/batches"


def example(name: str) -> str:
    """A recorded message, byte for byte."""
    return (Path(__file__).parent / "examples" / "anthropic" / name).read_text("utf-8")


def anthropic_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """The body of a fixture: a running server that the SDK's own variables lead to."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with ServerProcess("anthropic", tmp_path / "remote") as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        yield running


def provider(**settings: Any) -> AnthropicBatchProvider:
    """The provider, quick."""
    quick = {"patience": Patience(deadline=5.0, initial=0.01, longest=0.05), "look_again_after": (0.01, 0.02, 0.05)}
    return AnthropicBatchProvider(**(quick | settings))


def killed_after_create(sub: Submission) -> Recorder:
    """What is durable when a process dies between the reply to its create and the record of the job."""
    recorder = Recorder()
    provider().create(sub, {}, recorder)
    assert "job" not in recorder.ids
    return recorder
