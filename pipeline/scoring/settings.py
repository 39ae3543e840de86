"""The slice of the config that scoring reads: metrics, abstention patterns, the unsupported rule, kinds of dataset."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.scoring.abstention import DEFAULT_PATTERNS
from pipeline.scoring.normalise import KINDS
from pipeline.scoring.support import STRATEGIES, Support

CORE_METRICS = ("em", "f1", "abstain_rate", "false_answer_rate", "unsupported_rate", "correct")
"""Columns that are always there (each with its `_std`); metrics of the config come beside them."""
TAKEN = frozenset(CORE_METRICS) | {
    "item_key",
    "type",
    "condition",
    "temp",
    "dataset",
    "cluster",
    "n",
    "failed",
    "truncated",
    "refused",
    "confidence",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Metric:
    """One metric of the config. `use` is `module:function` or the name of a built-in one; `range` is (lowest, highest) or None."""

    name: str
    use: str
    range: tuple[float, float] | None = None
    higher_is_better: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def worst(self) -> float | None:
        """The value of a request that has no whole answer: the bad end of the range, or None (undefined) where there is no range."""
        return None if self.range is None else self.range[0 if self.higher_is_better else 1]


@dataclass(frozen=True)
class ScoringSettings:
    """All that scoring depends on besides its input files and its code."""

    metrics: tuple[Metric, ...] = ()
    support: Support = field(default_factory=Support)
    patterns: tuple[str, ...] = DEFAULT_PATTERNS
    kinds: Mapping[str, str] = field(default_factory=dict)
    slow_seconds: float = 1.0
    """A call of a metric that takes longer is reported."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ScoringSettings:
        """Read `{metrics, unsupported{strategy, threshold, min_token_overlap}, abstention{patterns}, kinds, slow_seconds}`, all optional.

        In `abstention.patterns` the word `default` stands for the built-in patterns. Raises ConfigError naming the key path.
        """
        _only(config, {"metrics", "unsupported", "abstention", "kinds", "slow_seconds"}, "scoring")
        kinds = dict(config.get("kinds") or {})
        for dataset, kind in kinds.items():
            if kind not in KINDS:
                raise ConfigError(f"{kind!r} is no kind of scoring", where=f"kinds.{dataset}", remedy=f"Use one of {', '.join(KINDS)}.")
        metrics = tuple(_metric(m, f"metrics[{i}]") for i, m in enumerate(config.get("metrics") or []))
        seen: set[str] = set(TAKEN)
        for i, m in enumerate(metrics):
            if m.name in seen:
                raise ConfigError(f"the column {m.name!r} is taken", where=f"metrics[{i}].name", remedy="Give the metric another name.")
            seen.add(m.name)
        return cls(
            metrics,
            _support(config.get("unsupported") or {}),
            _patterns(config.get("abstention") or {}),
            kinds,
            float(config.get("slow_seconds", 1.0)),
        )


def _only(given: Any, known: set[str], where: str) -> None:
    if not isinstance(given, Mapping):
        raise ConfigError(f"expected keys and values, found {given!r}", where=where, remedy="As in docs/scoring.md.")
    if unknown := sorted(set(map(str, given)) - known):
        raise ConfigError(f"unknown key {unknown[0]!r}", where=where, remedy=f"Known keys: {', '.join(sorted(known))}.")


def _share(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"expected a number from 0 to 1, found {value!r}", where=where)
    return float(value)


def _support(given: Mapping[str, Any]) -> Support:
    _only(given, {"strategy", "threshold", "min_token_overlap"}, "unsupported")
    default = Support()
    strategy = given.get("strategy", default.strategy)
    if strategy not in STRATEGIES:
        raise ConfigError(f"{strategy!r} is no strategy", where="unsupported.strategy", remedy=f"Use one of {', '.join(STRATEGIES)}.")
    return Support(
        strategy,
        _share(given.get("threshold", default.threshold), "unsupported.threshold"),
        _share(given.get("min_token_overlap", default.min_token_overlap), "unsupported.min_token_overlap"),
    )


def _patterns(given: Mapping[str, Any]) -> tuple[str, ...]:
    _only(given, {"patterns"}, "abstention")
    patterns = given.get("patterns")
    if patterns is None:
        return DEFAULT_PATTERNS
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(p, str) and p for p in patterns):
        raise ConfigError("expected a list of regular expressions", where="abstention.patterns")
    return tuple(p for given_pattern in patterns for p in (DEFAULT_PATTERNS if given_pattern == "default" else (given_pattern,)))


def _metric(given: Any, where: str) -> Metric:
    if isinstance(given, str):  # a built-in one, by its name alone
        given = {"name": given}
    _only(given, {"name", "use", "range", "higher_is_better", "options"}, where)
    name = given.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"expected a name of letters, digits and _, found {name!r}", where=f"{where}.name", remedy="As in: name: polite.")
    limits = given.get("range")
    if limits is not None:
        numbers = isinstance(limits, (list, tuple)) and all(isinstance(x, (int, float)) and math.isfinite(x) for x in limits)
        if not numbers or len(limits) != 2:
            raise ConfigError(f"expected [lowest, highest], found {limits!r}", where=f"{where}.range", remedy="As in: range: [0, 1].")
        if limits[0] >= limits[1]:
            fact = f"the lowest value {limits[0]} is not below the highest {limits[1]}"
            raise ConfigError(fact, where=f"{where}.range", remedy="Write the lowest first.")
        limits = (float(limits[0]), float(limits[1]))
    higher = given.get("higher_is_better", True)
    if not isinstance(higher, bool):
        fact = f"expected true or false, found {higher!r}"
        raise ConfigError(fact, where=f"{where}.higher_is_better", remedy="Leave it out where more is better.")
    options = given.get("options") or {}
    if not isinstance(options, Mapping) or not all(isinstance(k, str) for k in options):
        raise ConfigError(
            f"expected keys and values, found {options!r}", where=f"{where}.options", remedy="As in: options: {word: please}."
        )
    return Metric(name, str(given.get("use") or name), limits, higher, dict(options))
