"""What the optional analyses of the stats step need besides scores: dollars per answer, and how far passages support the answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from pipeline.experiment import TYPES, Temp, Trial
from pipeline.providers.money import price_of
from pipeline.scoring.predictions import Prediction, groups, read
from pipeline.steps.context import Run

CONDITIONS = ("control", "treatment")


def usd_of_items(this: Run, trial: Trial, temp: Temp) -> dict[str, tuple[float, float]] | None:
    """item_key -> dollars of an answer (mean over replicates) in control and treatment, for items that both arms were asked.

    Tokens as the provider counted them at the price of each arm's model. None where a model has no price, or nothing costs anything.
    """
    config = this.experiment.config
    provider, pricing, batch = config["provider"], config["pricing"], config.get("use_batch_api", True)
    prices = [price_of(unit.model.id, provider, pricing, use_batch=batch) for unit in (trial.control, trial.treatment)]
    if any(price is None for price in prices) or not any(price.input or price.output for price in prices if price):
        return None
    found: dict[str, dict[str, float]] = {}
    for group in _at(this, trial, temp):
        price = prices[CONDITIONS.index(group[0].condition)]
        assert price is not None
        usd = sum(price.usd(int(p.prompt_tokens or 0), int(p.completion_tokens or 0), _cached(p)) for p in group)
        found.setdefault(_key(group[0]), {})[group[0].condition] = usd / len(group)
    return {key: (usd["control"], usd["treatment"]) for key, usd in found.items() if len(usd) == 2}


def support_of_items(this: Run, trial: Trial, temp: Temp, settings: Any) -> Mapping[str, tuple[list[Any], list[Any]]]:
    """item_key -> for each arm, of each answer to an item with a passage: (tokens in the passage, tokens), or None for an abstention.

    `settings` are the ScoringSettings by which the unsupported rate was scored.
    """
    from pipeline.scoring.answers import AnswerTest, ItemScorer
    from pipeline.scoring.items import ItemIndex
    from pipeline.scoring.normalise import normaliser
    from pipeline.scoring.score_rows import find_item

    test = AnswerTest(settings)
    found: dict[str, dict[str, list[tuple[int, int] | None]]] = {}
    with ExitStack() as stack:
        indexes = {kind: stack.enter_context(ItemIndex(this.item_file(kind))) for kind in TYPES}
        for group in _at(this, trial, temp):
            item = find_item(indexes, group[0], this.paths.trial(trial.slug).predictions)
            if item.context is None:
                continue
            kind, scorer = test.kind(item.dataset), ItemScorer(item, settings, test)
            normalise = normaliser(kind)
            found.setdefault(item.key, {})[group[0].condition] = [
                None
                if scorer.score(p.response_text, p.outcome).abstained
                else settings.support.counted(p.response_text, normalise(p.response_text), item.context, kind)
                for p in group
            ]
    return {key: (answers["control"], answers["treatment"]) for key, answers in found.items() if len(answers) == 2}


def _at(this: Run, trial: Trial, temp: Temp) -> Any:
    """The replicates of each item and condition at one temperature."""
    rows = read(this.paths.trial(trial.slug).predictions)
    return groups(p for p in rows if (p.temp if p.temp == "default" else float(p.temp)) == temp)


def _cached(p: Prediction) -> int:
    return min(int(p.cached_tokens or 0), int(p.prompt_tokens or 0))


def _key(p: Prediction) -> str:
    return f"{p.dataset}|{p.item_id}"
