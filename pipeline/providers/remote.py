"""From a config's `provider` to the adapter that speaks to it. Each is imported only when it is the one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError, StepError
from pipeline.layout import RunPaths
from pipeline.providers.http import Patience
from pipeline.providers.protocol import Limits, Provider

SETTINGS = frozenset({"base_url", "timeout_seconds", "workers"})
"""Keys of `provider` that adapters take; `provider.options` holds the rest of their arguments."""
PATIENCE = {"retry_seconds": "deadline", "retry_attempts": "attempts", "retry_wait_seconds": "initial"}
EXTRA = {"fireworks": "fireworks", "openai": "openai", "anthropic": "anthropic", "openai_compatible": "openai_compatible"}


def make_remote(name: str, settings: Mapping[str, Any], paths: RunPaths) -> Provider:
    """The provider `name` with its `settings`. Raises ConfigError (unknown option), StepError (its package is not installed).

    `vllm_file` keeps its files in the run's folder unless its options name another.
    """
    _hush_retries()
    try:
        return _make(name, settings, paths.folder)
    except ModuleNotFoundError as e:
        raise StepError(
            f"provider {name} needs the package {e.name}", remedy=f"Install it: pip install 'abiding[{EXTRA.get(name, name)}]'"
        ) from e


def _make(name: str, settings: Mapping[str, Any], folder: Path) -> Provider:
    if name == "fireworks":
        from pipeline.providers.fireworks import FireworksProvider

        return FireworksProvider(settings)
    made: Callable[..., Provider]
    fixed: dict[str, Any] = {}
    if name == "openai":
        from pipeline.providers.openai_batch import OpenAIBatchProvider as made
    elif name == "anthropic":
        from pipeline.providers.anthropic_batch import AnthropicBatchProvider as made
    elif name == "openai_compatible":
        from pipeline.providers.openai_compatible import OpenAICompatibleProvider as made
    elif name == "vllm_file":
        from pipeline.providers.vllm_file import VllmFileProvider as made

        fixed = {"folder": folder / "vllm"}
    else:
        raise ConfigError(f"unknown provider {name!r}", where="provider.name", remedy="See docs/providers.")
    return _limited(made(**fixed | _arguments(made, settings)), settings)


def _arguments(made: Callable[..., Provider], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and `provider.options` that the adapter's constructor takes. Raises ConfigError for an option it does not know.

    The options `retry_seconds`, `retry_attempts` and `retry_wait_seconds` become its `patience`.
    """
    parameters = set(inspect.signature(made).parameters)
    known = parameters - SETTINGS - {"patience", "notice"} | (set(PATIENCE) if "patience" in parameters else set())
    options = dict(settings.get("options") or {})
    for key in options:
        if key not in known:
            raise ConfigError(
                f"{settings['name']} has no option {key!r}", where=f"provider.options.{key}", remedy=f"Known: {', '.join(sorted(known))}."
            )
    patience = {PATIENCE[key]: options.pop(key) for key in PATIENCE if key in options}
    given = {key: settings[key] for key in SETTINGS & parameters if key in settings}
    return given | options | ({"patience": Patience(**patience)} if patience else {})


def _limited(provider: Provider, settings: Mapping[str, Any]) -> Provider:
    """The provider with the limits of the config, where they are lower than its own."""
    own, names = provider.limits(), ("max_rows", "max_bytes", "max_concurrent_jobs", "max_enqueued_tokens")
    both = [[n for n in (settings.get(name), getattr(own, name)) if n is not None] for name in names]
    merged = Limits(*(min(pair, default=None) for pair in both))
    provider.limits = lambda: merged  # type: ignore[method-assign]
    return provider


def _hush_retries() -> None:
    """stamina logs each retry as a warning to stderr; ours are told when they persist, with place and remedy."""
    import stamina.instrumentation

    stamina.instrumentation.set_on_retry_hooks([])
