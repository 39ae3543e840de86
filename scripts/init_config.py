"""The text of the config that `scripts.init` writes: YAML with a remark where a reader will want to change something."""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from pipeline.base.errors import UsageError
from scripts.init_data import Data


def compose(args: argparse.Namespace, arms: dict[str, str | None], data: Data, instruction: str) -> str:
    """The config's text. Raises UsageError for a price that is no pair of numbers."""
    treatments = [name for name in arms if name != "control"]
    provider: dict[str, Any] = {"name": args.provider}
    if args.base_url:
        provider["base_url"] = args.base_url
    # Anthropic's current API takes no sampling parameters at all.
    free = args.provider != "anthropic"
    scorers = metrics(args.metric, args.range)
    primary: dict[str, Any] = {"metric": scorers[0]["name"] if scorers else "correct", "type": data.type, "alternative": "two-sided"}
    if args.margin is not None:
        primary["margin"] = args.margin
    blocks = [
        "# Every key is described in schemas/eval_config.schema.json; all paths are relative to the folder of dodo.py.",
        _yaml(title=f"{', '.join(treatments)} against control"),
        _yaml(provider=provider, model_id=args.model),
        _yaml(temps=[0.0] if free else ["default"], top_p=1.0 if free else None, max_new_tokens={f"{data.type}_book": 64}),
        "# The arms; more can be added, each is compared with `control`.",
        _yaml(arms={name: {"prompt": prompt} for name, prompt in arms.items()}, contrasts="all_vs_control"),
        _yaml(sources={f"{data.type}_book": [data.source]}, task_instructions={f"{data.type}_book": instruction}),
        "# What the verdict is about. `margin` is the smallest difference that matters: with it the verdict may be `equivalent`.",
        _yaml(primary=primary),
        *([_yaml(metrics=scorers)] if scorers else []),
        *([_yaml(subgroups=args.subgroup)] if args.subgroup else []),
    ]
    if args.provider not in ("local", "vllm_file"):
        blocks += _pricing(args.price)
    return "\n".join(blocks)


def metrics(given: list[str], limits: str | None) -> list[dict[str, Any]]:
    """`[NAME=]USE` flags as the config's `metrics`, all of the range `limits`; the name is by default the function's."""
    named = [text.partition("=") if "=" in text else (text.rpartition(":")[2], "=", text) for text in given]
    rest = {} if limits is None else {"range": _pair(limits, "--range", "range", "As in 0,1.")}
    return [{"name": name, "use": use, **rest} for name, _equals, use in named]


def parse_price(text: str) -> list[float]:
    """`0.15,0.60` as dollars per million tokens in and out. Raises UsageError."""
    return _pair(text, "--price", "price", "Dollars per million tokens in and out, as in 0.15,0.60.")


def _pricing(price: str | None) -> list[str]:
    if price is None:
        return [
            "# Give input_per_million and output_per_million (dollars) instead, and costs are planned, capped (max_usd) and reported.",
            _yaml(pricing={"allow_unpriced": True}),
        ]
    given, out = parse_price(price)
    return [_yaml(pricing={"input_per_million": given, "output_per_million": out})]


def _pair(text: str, flag: str, what: str, remedy: str) -> list[float]:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no {what}", where=flag, remedy=remedy) from None
    return [first, second]


def _yaml(**values: Any) -> str:
    # A key a line, what belongs to it inside braces where it is short: PyYAML would put plain values into braces too.
    styles = {key: None if isinstance(value, (dict, list)) else False for key, value in values.items()}
    return "".join(
        yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, default_flow_style=styles[key], width=120)
        for key, value in values.items()
    )
