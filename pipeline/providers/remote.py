"""From the config's `provider` to the provider itself, imported only when used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.base.errors import ConfigError
from pipeline.layout import RunPaths
from pipeline.providers.http import Patience
from pipeline.providers.protocol import Provider

P = TypeVar("P", bound=Provider)
OWN_KEYS = frozenset({"base_url", "timeout_seconds", "workers", "max_rows", "max_bytes", "max_concurrent_jobs", "max_enqueued_tokens"})
"""Keys of `provider` that an adapter may take as they are; `provider.options` holds the rest of its arguments."""
PATIENCE = {"retry_seconds": "deadline", "retry_attempts": "attempts", "retry_wait_seconds": "initial"}


def make_remote(name: str, settings: Mapping[str, Any], paths: RunPaths) -> Provider:
    """The provider `name` with the config's `provider` settings. Raises ConfigError (no key, no SDK, an unknown option)."""
    if name == "fireworks":
        from pipeline.providers.fireworks import FireworksProvider

        return FireworksProvider(settings)
    if name == "openai":
        from pipeline.providers.openai_batch import OpenAIBatchProvider

        return configured(OpenAIBatchProvider, settings)
    if name == "anthropic":
        from pipeline.providers.anthropic_batch import AnthropicBatchProvider

        return configured(AnthropicBatchProvider, settings)
    if name == "openai_compatible":
        from pipeline.providers.openai_compatible import OpenAICompatibleProvider

        return configured(OpenAICompatibleProvider, settings)
    if name == "vllm_file":
        from pipeline.providers.vllm_file import VllmFileProvider

        return configured(VllmFileProvider, settings, folder=Path(paths.folder, "vllm"))
    raise ConfigError(f"unknown provider {name!r}", where="provider.name", remedy="See docs/providers.")


def configured(kind: Callable[..., P], settings: Mapping[str, Any], **fixed: Any) -> P:
    """`kind` called with the settings it has parameters for, and with `provider.options`, which it must know.

    The options `retry_seconds`, `retry_attempts` and `retry_wait_seconds` become its `patience`.
    """
    parameters = set(inspect.signature(kind).parameters)
    own = {name: settings[name] for name in OWN_KEYS & parameters if name in settings}
    known = parameters - OWN_KEYS - {"patience", "notice", *fixed} | (set(PATIENCE) if "patience" in parameters else set())
    options = dict(settings.get("options") or {})
    if unknown := sorted(set(options) - known):
        raise ConfigError(f"unknown option {unknown[0]!r}", where="provider.options", remedy=f"Known: {', '.join(sorted(known))}.")
    patience = {PATIENCE[name]: options.pop(name) for name in PATIENCE if name in options}
    return kind(**own, **options, **fixed, **({"patience": Patience(**patience)} if patience else {}))
