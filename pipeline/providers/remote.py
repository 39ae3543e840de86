"""From a config's `provider` to the adapter that speaks to it. Each is imported only when it is the one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pipeline.base.errors import ConfigError, StepError
from pipeline.providers.protocol import Limits, Provider

EXTRA = {"fireworks": "fireworks", "openai": "openai", "anthropic": "anthropic", "openai_compatible": "openai"}


def make_remote(name: str, settings: Mapping[str, Any]) -> Provider:
    """The provider `name` with its `settings`. Raises ConfigError (unknown option), StepError (its package is not installed)."""
    try:
        return _make(name, settings)
    except ModuleNotFoundError as e:
        raise StepError(f"provider {name} needs the package {e.name}", remedy=f"Install it: pip install 'abiding[{EXTRA.get(name, name)}]'") from e


def _make(name: str, settings: Mapping[str, Any]) -> Provider:
    if name == "fireworks":
        from pipeline.providers.fireworks import FireworksProvider

        return FireworksProvider(settings)
    if name == "openai":
        from pipeline.providers.openai_batch import OpenAIBatchProvider as made
    elif name == "anthropic":
        from pipeline.providers.anthropic_batch import AnthropicBatchProvider as made  # type: ignore[assignment]
    elif name == "openai_compatible":
        from pipeline.providers.openai_compatible import OpenAICompatibleProvider as made  # type: ignore[assignment]
    else:
        from pipeline.providers.vllm_file import VllmFileProvider as made  # type: ignore[assignment]
    provider: Provider = made(**_arguments(made, settings))
    return _limited(provider, settings)


def _arguments(made: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and `provider.options` that the adapter's constructor takes. Raises ConfigError for an option it does not know."""
    known = set(inspect.signature(made).parameters)
    given = {k: v for k, v in settings.items() if k in known}
    for key, value in (settings.get("options") or {}).items():
        if key not in known:
            raise ConfigError(f"{settings['name']} has no option {key!r}", where=f"provider.options.{key}", remedy=f"Known: {', '.join(sorted(known))}.")
        given[key] = value
    return given


def _limited(provider: Provider, settings: Mapping[str, Any]) -> Provider:
    """The provider with the limits that the config sets in place of its own."""
    own = provider.limits()
    merged = Limits(*(settings.get(field, getattr(own, field)) for field in ("max_rows", "max_bytes", "max_concurrent_jobs", "max_enqueued_tokens")))
    provider.limits = lambda: merged  # type: ignore[method-assign]
    return provider
