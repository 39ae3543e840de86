"""The provider pages say what the code takes: options, defaults, limits, variables, commands."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.providers.anthropic_batch import AnthropicBatchProvider
from pipeline.providers.openai_batch import OpenAIBatchProvider
from pipeline.providers.openai_compatible import NEUTRAL, OpenAICompatibleProvider
from pipeline.providers.remote import PATIENCE, SETTINGS
from pipeline.providers.vllm_file import VllmFileProvider

pytest.importorskip("openai", reason="the package openai is not installed")
pytest.importorskip("anthropic", reason="the package anthropic is not installed")

PAGES = Path(__file__).parents[1] / "docs" / "providers"
PROVIDERS: dict[str, Any] = {
    "openai": OpenAIBatchProvider,
    "anthropic": AnthropicBatchProvider,
    "openai_compatible": OpenAICompatibleProvider,
    "vllm_file": VllmFileProvider,
}


def options_of(text: str) -> dict[str, str]:
    """Option -> default, of the table headed `option`."""
    table = text.split("| option |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", table, re.MULTILINE)
    return {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize("name", list(PROVIDERS))
def test_every_option_is_documented_and_every_documented_option_exists(name: str) -> None:
    """Both ways; and the defaults that the page names are the code's."""
    parameters = inspect.signature(PROVIDERS[name]).parameters
    documented = options_of((PAGES / f"{name}.md").read_text("utf-8"))
    patience = set(PATIENCE) if "patience" in parameters else set()
    assert set(documented) == set(parameters) - SETTINGS - {"patience", "notice"} | patience
    for option, said in documented.items():
        if option in parameters and parameters[option].default is not None:
            default = parameters[option].default
            said = said.strip().strip("`")
            expected = str(list(default)) if isinstance(default, tuple) else str(default)
            assert said == expected.removesuffix(".0").replace(".0,", ",").replace(".0]", "]").replace("False", "false"), option


@pytest.mark.parametrize("name", list(PROVIDERS))
def test_limits_timeouts_and_test_servers_are_as_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures in the text are the provider's own, and the servers that it names can be imported."""
    text = (PAGES / f"{name}.md").read_text("utf-8")
    parameters = inspect.signature(PROVIDERS[name]).parameters
    if "timeout_seconds" in parameters:
        assert f"`timeout_seconds` ({parameters['timeout_seconds'].default:g}," in text
    if "workers" in parameters:
        assert f"`workers` ({parameters['workers'].default}," in text
    if name in ("openai", "anthropic"):
        monkeypatch.setenv(f"{name.upper()}_API_KEY", "sk-test-0123456789")
        provider = PROVIDERS[name]()
        assert f"`max_rows` ({provider.limits().max_rows})" in text and f"`max_bytes` ({provider.limits().max_bytes})" in text
        assert f"({sum(provider.look_again_after):g} s)" in text
        assert (
            f"| {provider._remote.patience.deadline:g}, {provider._remote.patience.attempts}, {provider._remote.patience.initial} |" in text
        )
    for module in re.findall(r"python -m (tests\.servers\.\w+)", text):
        importlib.import_module(module)


def test_the_table_of_neutral_values_is_the_codes() -> None:
    """What the page says is sent to each kind of server is what is sent."""
    text = (PAGES / "openai_compatible.md").read_text("utf-8")
    for kind, fields in NEUTRAL.items():
        row = re.search(rf"^\| `{re.escape(kind)}` \| ([^|]+) \|", text, re.MULTILINE)
        assert row is not None
        said = row.group(1).replace("presence and frequency penalty 0", "presence_penalty 0, frequency_penalty 0")
        expected = {
            f"{name} {value:g}" if not isinstance(value, bool) else f"{name} {str(value).lower()}" for name, value in fields.items()
        }
        assert {part.strip() for part in said.split(",")} == expected
