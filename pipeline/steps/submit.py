"""submit: turns shards into jobs under way, each recorded in `submission.json` before the first remote call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.steps.context import Context

SETTINGS: tuple[str, ...] = ()  # the shard's bytes hold all that matters
CODE: tuple[str, ...] = ()  # a refactoring never bills


def inputs(ctx: Context) -> list[Path]:
    """The shard."""
    return [ctx.run.shard_paths(ctx.the_shard).rows]


def targets(ctx: Context) -> list[Path]:
    """The submission's record."""
    return [ctx.run.shard_paths(ctx.the_shard).submission]


def run(ctx: Context) -> dict[str, Any]:
    """Reuse what the answer store has, send what is owed, as far as slots and money allow."""
    queue = ctx.run.queue
    shard = queue.shards[ctx.the_shard.name]
    if ctx.run.options.retry_failed:
        shard.retry_failed()
    queue.submit(shard.name)
    return {"requests": shard.requests, "reused": shard.record["reused"]["requests"], "state": shard.record["state"]}
