"""Config to provider: settings reach it, unknown options are named, nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.base.errors import ConfigError
from pipeline.layout import RunPaths
from pipeline.providers.anthropic_batch import AnthropicBatchProvider
from pipeline.providers.openai_batch import OpenAIBatchProvider
from pipeline.providers.openai_compatible import OpenAICompatibleProvider
from pipeline.providers.remote import make_remote
from pipeline.providers.vllm_file import VllmFileProvider

pytest.importorskip("openai", reason="the package openai is not installed")
pytest.importorskip("anthropic", reason="the package anthropic is not installed")
pytest.importorskip("httpx", reason="the package httpx is not installed")

PATHS = cast(RunPaths, SimpleNamespace(folder=Path("experiments/run_r")))


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-test-0123456789")
        monkeypatch.delenv(f"{name}_BASE_URL", raising=False)


def make(name: str, **settings: Any) -> Any:
    return make_remote(name, {"name": name, **settings}, PATHS)


def test_settings_and_options_reach_the_provider() -> None:
    """Keys of `provider` and of `provider.options` land where they belong; keys that an adapter has no use for are left alone."""
    openai = make(
        "openai", max_rows=10, max_enqueued_tokens=5, poll_seconds=1, options={"max_tokens_field": "max_tokens", "retry_seconds": 9}
    )
    assert isinstance(openai, OpenAIBatchProvider)
    assert (openai.limits().max_rows, openai.limits().max_enqueued_tokens, openai.max_tokens_field) == (10, 5, "max_tokens")
    assert openai._remote.patience.deadline == 9
    anthropic = make("anthropic", max_rows=10**9, max_concurrent_jobs=3, options={"api_version": "2023-06-01"})
    assert isinstance(anthropic, AnthropicBatchProvider)
    assert (anthropic.limits().max_rows, anthropic.limits().max_concurrent_jobs, anthropic.api_version) == (100_000, 3, "2023-06-01")
    live = make("openai_compatible", base_url="http://127.0.0.1:1", workers=9, options={"server_kind": "vllm"})
    assert isinstance(live, OpenAICompatibleProvider) and (live.workers, live.base_url) == (9, "http://127.0.0.1:1/v1")
    live.close()
    vllm = make("vllm_file", options={"arguments": ["--dtype", "auto"]})
    assert isinstance(vllm, VllmFileProvider) and vllm.folder == Path("experiments/run_r/vllm")
    assert make("vllm_file", options={"folder": "/gpu/share"}).folder == Path("/gpu/share")


@pytest.mark.parametrize("name", ["openai", "anthropic", "openai_compatible", "vllm_file"])
def test_an_unknown_option_is_named_with_those_known(name: str) -> None:
    """A misspelt option is not ignored."""
    with pytest.raises(ConfigError, match=r"provider\.options\.tempo: .* has no option 'tempo'.*Known: "):
        make(name, options={"tempo": 1})
    with pytest.raises(ConfigError, match="unknown provider 'x'"):
        make("x")


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_plain_http_to_another_machine_is_refused(name: str) -> None:
    """Keys, prompts and answers do not travel in the clear."""
    with pytest.raises(Exception, match="not https"):
        make(name, base_url="http://10.0.0.5/v1")
