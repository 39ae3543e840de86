"""costs: turns the tokens of the answers used into `costs.json`, whoever paid for them and when."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from pipeline.base.schemas import write_document
from pipeline.providers.money import price_of
from pipeline.steps.context import Context

SETTINGS = ("pricing", "use_batch_api")
CODE = ("pipeline/steps/costs.py", "pipeline/providers/money.py")
TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
PENNIES = 9  # digits of a dollar that are kept: a millionth of a token's price is not money


def inputs(ctx: Context) -> list[Path]:
    """Predictions hold each answer's tokens."""
    return [ctx.run.paths.trial(ctx.the_trial.slug).predictions]


def targets(ctx: Context) -> list[Path]:
    """`costs.json`."""
    return [ctx.run.paths.trial(ctx.the_trial.slug).costs]


def run(ctx: Context) -> dict[str, Any]:
    """Add up tokens and price them by each arm's model."""
    this, trial = ctx.run, ctx.the_trial
    config = this.experiment.config
    csv.field_size_limit(sys.maxsize)
    sums = {c: dict.fromkeys(("requests", "answers", "failed", *TOKENS), 0) for c in ("control", "treatment")}
    with open(inputs(ctx)[0], encoding="utf-8", newline="") as f:
        reader = csv.reader(f)
        at = {name: i for i, name in enumerate(next(reader))}
        columns, condition, outcome = [(name, at[name]) for name in TOKENS], at["condition"], at["outcome"]
        for row in reader:
            into = sums[row[condition]]
            into["requests"] += 1
            into["failed" if row[outcome] == "failed" else "answers"] += 1
            for name, i in columns:
                into[name] += int(row[i] or 0)
    prices, by_condition = {}, {}
    total: float | None = 0.0
    for condition_name, found in sums.items():
        model = trial.unit(condition_name).model  # type: ignore[arg-type]
        price = price_of(model.id, config["provider"], config["pricing"], use_batch=config.get("use_batch_api", True))
        usd = (
            None if price is None else round(price.usd(found["prompt_tokens"], found["completion_tokens"], found["cached_tokens"]), PENNIES)
        )
        prices[model.alias] = None if price is None else price.document()
        by_condition[condition_name] = {**found, "usd": usd, "model": model.alias}
        total = None if usd is None or total is None else round(total + usd, PENNIES)
    summed = {name: sums["control"][name] + sums["treatment"][name] for name in sums["control"]}
    document = {"schema_version": 1, **summed, "usd": total, "price": prices, "by_condition": by_condition}
    write_document(targets(ctx)[0], document, "costs")
    return {"usd": total, "total_tokens": summed["total_tokens"]}
