"""poll: turns jobs under way into `results.jsonl`, one row per request, and sends follow-ups for what is still owed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.base.errors import Stopped
from pipeline.base.files import put_aside
from pipeline.steps.context import Context

SETTINGS: tuple[str, ...] = ()
CODE: tuple[str, ...] = ()


def inputs(ctx: Context) -> list[Path]:
    """The shard."""
    return [ctx.run.shard_paths(ctx.the_shard).rows]


def targets(ctx: Context) -> list[Path]:
    """The shard's answers."""
    return [ctx.run.shard_paths(ctx.the_shard).results]


def run(ctx: Context) -> dict[str, Any]:
    """Wait for the shard's answers (with `--no_wait`: look once)."""
    this, paths = ctx.run, ctx.run.shard_paths(ctx.the_shard)
    shard = this.queue.shards[ctx.the_shard.name]
    if shard.published and not published_intact(ctx):
        beside = f" (it lies beside as {put_aside(paths.results).name})" if paths.results.exists() else ""
        this.notice(f"{shard.name}: results.jsonl is missing or damaged{beside}; it is gathered again, nothing is sent for what is known")
        shard.recollect()
    if this.options.no_wait and not shard.published:
        this.queue.look_once()
        if not shard.published:
            raise Stopped(f"{shard.name} is not finished yet (--no_wait)", remedy="Jobs go on without us: run again later.")
    this.queue.wait(shard.name)
    record = shard.record
    return {"requests": shard.requests, "failed": len(record["failed"]), "attempts": len(record["attempts"]), "file": paths.results.name}


def published_intact(ctx: Context) -> bool:
    """True where results.jsonl is the file that was published."""
    this, paths = ctx.run, ctx.run.shard_paths(ctx.the_shard)
    results = this.queue.shards[ctx.the_shard.name].record["results"]
    return results is not None and this.cache.matches(paths.results, results["size"], results["sha256"])
