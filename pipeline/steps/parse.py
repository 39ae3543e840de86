"""parse: turns the shards' answers into `predictions.csv`, one row per request, in the order of the requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline.base.errors import ManifestError
from pipeline.base.files import atomic_writer
from pipeline.base.rows import Place, ResultRow, read_rows
from pipeline.base.tables import cell, joined
from pipeline.steps.context import Context, ShardRef

SETTINGS: tuple[str, ...] = ()
CODE = ("pipeline/steps/parse.py",)
COLUMNS = (
    "custom_id",
    "dataset",
    "item_id",
    "condition",
    "temp",
    "sample_index",
    "type",
    "request_id",
    "finish_reason",
    "response_text",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "outcome",
    "cached_tokens",
    "reasoning_tokens",
    "confidence",
    "error",
    "tool_calls",
    "unit",
)
OWN_IDS = ("local", "simulated")  # no remote side that names requests: the id derives from the custom_id, the same on every way there


class _Head(msgspec.Struct):
    """What parse needs of a request: its body is skipped, not decoded."""

    custom_id: str
    place: Place


def inputs(ctx: Context) -> list[Path]:
    """Requests and answers of both units."""
    shards = [ctx.run.shard_paths(shard) for _condition, shard in ctx.run.trial_shards(ctx.the_trial)]
    return [path for s in shards for path in (s.rows, s.results)]


def targets(ctx: Context) -> list[Path]:
    """`predictions.csv`."""
    return [ctx.run.paths.trial(ctx.the_trial.slug).predictions]


def run(ctx: Context) -> dict[str, Any]:
    """Write predictions.csv. Raises ManifestError (file:line) where requests and answers do not match one to one."""
    this = ctx.run
    own_ids = this.experiment.provider if this.experiment.provider in OWN_IDS else None
    counts = dict.fromkeys(("rows", "failed", "truncated", "refused"), 0)
    with atomic_writer(targets(ctx)[0]) as f:
        f.write(f"{joined(COLUMNS)}\n".encode())
        for condition, shard in this.trial_shards(ctx.the_trial):
            for head, result in answered(ctx, shard):
                counts["rows"] += 1
                if result.outcome in counts:
                    counts[result.outcome] += 1
                f.write(line(head, result, condition, shard.unit, own_ids).encode())
    return counts


def answered(ctx: Context, shard: ShardRef) -> Iterator[tuple[_Head, ResultRow]]:
    """Each request of a shard with its answer."""
    paths = ctx.run.shard_paths(shard)
    results = read_rows(paths.results, ResultRow)
    decode = msgspec.json.Decoder(_Head).decode
    with open(paths.rows, "rb") as f:
        for number, line in enumerate(f, 1):
            head, result = decode(line), next(results, None)
            if result is None or result.custom_id != head.custom_id:
                found = "nothing" if result is None else f"custom_id {result.custom_id}"
                raise ManifestError(
                    f"expected the answer to {head.custom_id}, found {found}",
                    where=f"{paths.results}:{number}",
                    remedy="Gather it again: doit run --verify",
                )
            yield head, result
    if next(results, None) is not None:
        raise ManifestError(
            "holds more answers than there are requests", where=str(paths.results), remedy="Gather it again: doit run --verify"
        )


def line(head: _Head, result: ResultRow, condition: str, unit: str, own_ids: str | None) -> str:
    """One line of predictions.csv, in the order of COLUMNS. The written form of a number is Python's shortest."""
    place, usage, error = head.place, result.usage, result.error
    request_id = f"{own_ids}-{head.custom_id}" if own_ids else cell(result.request_id or "")
    confidence = "" if result.confidence is None else result.confidence
    failure = cell(f"{error.code}: {error.message}") if error else ""
    tool_calls = cell(msgspec.json.encode(result.tool_calls).decode()) if result.tool_calls else ""
    return (
        f"{head.custom_id},{cell(place.dataset)},{cell(place.item_id)},{condition},{place.temp},{place.sample_index},{place.type},"
        f"{request_id},{cell(result.finish_reason or '')},{cell(result.text)},"
        f"{usage.prompt_tokens},{usage.completion_tokens},{usage.prompt_tokens + usage.completion_tokens},{result.outcome},"
        f"{usage.cached_tokens},{usage.reasoning_tokens},{confidence},{failure},{tool_calls},{cell(unit)}\n"
    )
