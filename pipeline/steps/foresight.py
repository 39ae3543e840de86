"""What would fail after all answers are paid for is told before the first request: metrics, the primary comparison, subgroups."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.base.errors import ConfigError
from pipeline.base.rows import Item
from pipeline.config import Config
from pipeline.experiment import TYPES
from pipeline.steps.context import Run


def check(this: Run) -> None:
    """Raise ConfigError where scoring or statistics could not be done as the config has them."""
    from pipeline.scoring.metrics import load
    from pipeline.steps.score import scoring_settings

    for metric in scoring_settings(this).metrics:
        load(metric, this.root)
    check_primary(this)
    check_subgroups(this.experiment.config, (item for kind in TYPES for item in this.items[kind]))


def check_primary(this: Run) -> None:
    """Raise ConfigError where the primary metric, type or temperature is none that this experiment has."""
    from pipeline.scoring.settings import CORE_METRICS

    config, primary = this.experiment.config, this.experiment.primary
    own = [metric["name"] for metric in config.get("metrics") or []]
    name = primary["metric"]
    if name not in (*CORE_METRICS, *own) and not any(name.startswith(f"{known}_") for known in own):
        remedy = f"Known: {', '.join((*CORE_METRICS, *own))}; one of your own stands under metrics."
        raise ConfigError(f"there is no metric {name!r}", where=config.where("primary.metric"), remedy=remedy)
    kind = primary["type"]
    if kind != "all" and not this.items[kind]:
        remedy = "Write all, or the type of the items there are."
        raise ConfigError(f"there are no {kind}-book items", where=config.where("primary.type"), remedy=remedy)
    temps = list(dict.fromkeys(temp for trial in this.experiment.trials.values() for temp in trial.temps))
    if primary["temperature"] not in temps:
        remedy = f"There are {', '.join(map(str, temps))}."
        raise ConfigError(f"nothing is asked at {primary['temperature']}", where=config.where("primary.temperature"), remedy=remedy)


def check_subgroups(config: Config, items: Iterable[Item]) -> None:
    """Raise ConfigError for a declared subgroup that is in no item's metadata."""
    factors = config.get("subgroups") or []
    if not factors:
        return
    names: dict[str, None] = {}
    for item in items:
        names.update(dict.fromkeys(name for name, value in item.meta.items() if value not in (None, "")))
    for number, factor in enumerate(factors):
        if factor not in names:
            remedy = f"Metadata here: {', '.join(names) or 'none'}."
            raise ConfigError(f"no item has {factor!r} in its meta", where=config.where(f"subgroups.{number}"), remedy=remedy)
