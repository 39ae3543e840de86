"""Puts the queue together for a run: its provider, the answer store, prices, the money cap, and a shard per shard of the layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.base.digests import sha256_bytes
from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item
from pipeline.local_model import find_model
from pipeline.providers.live import LiveProvider
from pipeline.providers.money import Budget, price_of
from pipeline.providers.protocol import Provider
from pipeline.providers.queue import Queue
from pipeline.providers.shard import Desk, Shard
from pipeline.records.answers import AnswerStore
from pipeline.records.refill import refill
from pipeline.steps.context import Run

HOURS = 3600.0
POLL_SECONDS = {"local": 0.0, "simulated": 0.0, "openai_compatible": 0.0}
DEFAULT_POLL_SECONDS = 30.0


def secrets_from_dotenv(root: Path) -> None:
    """Take keys from `.env` beside `dodo.py`; what the environment has already wins."""
    path = root / ".env"
    if path.is_file():
        from dotenv import dotenv_values

        for name, value in dotenv_values(path).items():
            if value is not None:
                os.environ.setdefault(name, value)


def make_provider(this: Run) -> Provider:
    """The provider of the config, imported only now. Raises ConfigError or StepError where it cannot work here."""
    config = this.experiment.config
    settings: dict[str, Any] = dict(config["provider"])
    name = settings["name"]
    secrets_from_dotenv(this.root)
    if name == "simulated":
        from pipeline.providers.simulated import SimulatedProvider

        arms = this.experiment.arms
        for arm in settings.get("accuracy", {}):
            if arm not in arms:
                raise ConfigError(
                    f"there is no arm {arm!r}", where=config.where(f"provider.accuracy.{arm}"), remedy=f"Known arms: {', '.join(arms)}."
                )
        accuracy: dict[str, float] = {}
        for arm, p in settings.get("accuracy", {}).items():
            sent = sha256_bytes((arms[arm].prompt or "").strip().encode())  # as build sends it
            if accuracy.setdefault(sent, p) != p:
                raise ConfigError(
                    f"arm {arm!r} sends the same system prompt as another of a different accuracy",
                    where=config.where(f"provider.accuracy.{arm}"),
                    remedy="Give both the same: the simulated provider goes by the prompt.",
                )
        return SimulatedProvider(this.paths.simulated_remote, Oracle(this), settings, accuracy)
    if name == "local":
        from pipeline.providers.local import LocalProvider

        models = {u.model.id: find_model(u.model.id, settings.get("model_path"), this.root) for u in this.experiment.units.values()}
        return LocalProvider(settings, models, this.paths.folder / "local_model.log")
    from pipeline.providers.remote import make_remote

    return make_remote(name, settings, this.paths)


class Oracle:
    """Looks up items by dataset and id, for the simulated remote; the items are read when the first one is asked for."""

    def __init__(self, this: Run) -> None:
        self._this, self._by_key = this, dict[tuple[str, str], Item]()

    def __call__(self, dataset: str, item_id: str) -> Item:
        """The item."""
        if not self._by_key:
            self._by_key = {(i.dataset, i.id): i for items in self._this.items.values() for i in items}
        return self._by_key[dataset, item_id]


def make_queue(this: Run) -> Queue:
    """The queue of all shards that are built."""
    exp, config = this.experiment, this.experiment.config
    settings = config["provider"]
    provider = make_provider(this)
    store = AnswerStore(this.paths.answers_db)
    if store.set_aside is not None:
        this.notice(f"the answer store was corrupt and lies beside as {store.set_aside.name}")
    if not store.filled and (added := refill(store, this.paths.folder.parent, this.notice)):
        this.notice(f"the answer store is new: {added} answers of the runs were put into it")
    desk = Desk(
        run_id=this.paths.run_id,
        provider=provider,
        provider_name=exp.provider,
        store=store,
        events=this.events,
        budget=Budget(config.get("max_usd")),
        generation=this.state["generation"] if this.state else 0,
        max_attempts=settings.get("max_attempts", 3),
        notice=this.notice,
    )
    if isinstance(provider, LiveProvider):
        provider.stop_requested = this.stop.requested
    shards = []
    for slug, refs in this.layout.items():
        model = exp.units[slug].model.id
        price = price_of(model, settings, config["pricing"], use_batch=config.get("use_batch_api", True))
        shards += [
            Shard(desk, this.shard_paths(ref), unit=slug, key=ref.key, model=model, sha256=ref.sha256, requests=ref.requests, price=price)
            for ref in refs
            if ref.sha256 is not None
        ]
    for shard in shards:
        desk.budget.spent += shard.charged_usd()
    limits = provider.limits()
    slots = [n for n in (this.options.max_concurrent_jobs, limits.max_concurrent_jobs) if n is not None]
    return Queue(
        shards,
        this.stop,
        slots=min(slots) if slots else None,
        limits=limits,
        poll_seconds=settings.get("poll_seconds", POLL_SECONDS.get(exp.provider, DEFAULT_POLL_SECONDS)),
        start_timeout=settings.get("start_timeout_hours", 26.0) * HOURS,
        progress=lambda event, shard: this.progress(event, shard.name),
        no_wait=this.options.no_wait,
    )
