"""What an analysis is told: its settings (from the config) and the facts of each trial. Plain data, no numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.base.errors import ConfigError

Temp = float | Literal["default"]
Alternative = Literal["two-sided", "greater"]
Counted = tuple[int, int] | None
OUTCOMES = ("failed", "truncated", "refused")


@dataclass(frozen=True)
class MetricInfo:
    """The range of a metric (None: unbounded) and its good direction (None: it has none)."""

    low: float | None = None
    high: float | None = None
    higher_is_better: bool | None = True

    @property
    def in_points(self) -> bool:
        """Whether differences are spoken of in percentage points."""
        return self.low == 0 and self.high == 1


BUILT_IN: Mapping[str, MetricInfo] = {
    "correct": MetricInfo(0, 1, True),
    "em": MetricInfo(0, 1, True),
    "f1": MetricInfo(0, 1, True),
    "abstain_rate": MetricInfo(0, 1, None),
    "false_answer_rate": MetricInfo(0, 1, False),
    "unsupported_rate": MetricInfo(0, 1, False),
}


@dataclass(frozen=True)
class Primary:
    """The declared comparison. `contrasts` None: all of them; `temperature` None: the first; `margin` in the metric's units."""

    contrasts: tuple[str, ...] | None = None
    metric: str = "correct"
    type: Literal["open", "closed", "all"] = "all"
    temperature: Temp | None = None
    alternative: Alternative = "two-sided"
    margin: float | None = None
    declared: bool = False
    looks: tuple[int, ...] = ()
    """Numbers of items at which an analysis is planned, ascending; (): one, at the end."""

    @property
    def share(self) -> float:
        """The share of the level that each look may use: Bonferroni over the planned looks."""
        return 1 / max(1, len(self.looks))


@dataclass(frozen=True)
class AnalysisSettings:
    """The slice of the config that determines an analysis, besides its scores."""

    bootstrap_samples: int = 5000
    permutation_samples: int = 5000
    random_seed: int = 1337
    enable_permutation: bool = True
    enable_fdr: bool = True
    risk_thresholds: tuple[float, ...] = (0.05, 0.1, 0.2)
    tost_alpha: float = 0.05
    tost_margins: Mapping[str, float] = field(default_factory=dict)
    missing_outcomes: tuple[str, ...] = ("failed",)
    """Outcomes that are missing data: where their worst-case bounds reverse a claim there is no verdict.

    Truncated and refused answers exist and count as wrong; their bounds are printed, and a caveat where they would reverse it.
    """
    robustness: bool = False
    """Also estimate the primary effect by GEE and a mixed model (needs the `robust` extra)."""
    usd_per_correct: bool = False
    """Also give the dollars per additional correct answer."""
    unsupported_sensitivity: Mapping[str, Sequence[float]] | None = None
    """Values of `threshold` and `min_token_overlap` over which the unsupported rate is estimated anew; None: not at all."""
    primary: Primary = field(default_factory=Primary)
    metrics: Mapping[str, MetricInfo] = field(default_factory=dict)

    def metric(self, name: str) -> MetricInfo:
        """What is known of metric `name`: the config's word, else the built-in one, else an unbounded 'more is better'.

        A metric that returns named numbers has columns `<metric>_<number>`: the config's word on the metric holds for them.
        """
        if found := self.metrics.get(name) or BUILT_IN.get(name):
            return found
        parents = [known for known in self.metrics if name.startswith(f"{known}_")]
        return self.metrics[max(parents, key=len)] if parents else MetricInfo()

    def margin(self, name: str) -> float | None:
        """The equivalence margin of metric `name`, or None."""
        if name == self.primary.metric and self.primary.margin is not None:
            return self.primary.margin
        return self.tost_margins.get(name)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AnalysisSettings:
        """Read `stats`, `primary` and `metrics` of a config. Raises ConfigError naming the key that is wrong."""
        stats = dict(config.get("stats") or {})
        known = {f for f in cls.__dataclass_fields__ if f not in ("primary", "metrics")}
        if unknown := sorted(set(stats) - known):
            raise ConfigError(f"unknown key {unknown[0]!r}", where="stats", remedy=f"Known are {', '.join(sorted(known))}.")
        for key in ("risk_thresholds", "missing_outcomes"):
            if key in stats:
                stats[key] = tuple(stats[key])
        if bad := [o for o in stats.get("missing_outcomes", ()) if o not in OUTCOMES]:
            raise ConfigError(f"{bad[0]!r} is no outcome", where="stats.missing_outcomes", remedy=f"Use some of {', '.join(OUTCOMES)}.")
        declared = config.get("primary")
        primary = dict(declared or {})
        if primary.get("contrasts") is not None:
            primary["contrasts"] = tuple(primary["contrasts"])
        primary["looks"] = tuple(sorted(set(primary.get("looks") or ())))
        if primary.get("margin") is not None and not primary["margin"] > 0:
            remedy = "Give it in the metric's units: 0.02 is two points."
            raise ConfigError("the margin must be above 0", where="primary.margin", remedy=remedy)
        return cls(**stats, primary=Primary(**primary, declared=bool(declared)), metrics=_metrics(config.get("metrics") or []))


def _metrics(entries: Sequence[Mapping[str, Any]]) -> dict[str, MetricInfo]:
    found = {}
    for entry in entries:
        base = BUILT_IN.get(entry["name"], MetricInfo())
        low, high = entry.get("range") or (base.low, base.high)
        found[entry["name"]] = MetricInfo(low, high, entry.get("higher_is_better", base.higher_is_better))
    return found


@dataclass(frozen=True)
class SupportCounts:
    """How far the passages support the open-book answers of a trial at one temperature."""

    temp: Temp
    strategy: str
    threshold: float
    min_token_overlap: float
    answers: Mapping[str, tuple[Sequence[Counted], Sequence[Counted]]]
    """item_key -> for control and treatment each answer's (tokens in the passage, tokens); None for an abstention."""


@dataclass(frozen=True)
class TrialInfo:
    """The facts of one trial (contrast x model x decoding) that its scores do not hold."""

    name: str
    contrast: str
    control: str
    treatment: str
    model: str
    usd_per_item: float | None = None
    """Dollars for one more item, all replicates of both arms; None where no price is known."""
    item_usd: Mapping[str, tuple[float, float]] | None = None
    """item_key -> dollars of (control, treatment) per answer: for dollars per additional correct answer."""
    support: SupportCounts | None = None
    """For the sensitivity of the unsupported rate; None where it is not asked for."""
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Declared factor -> item_key -> group, from item metadata."""
    unplanned_look: str | None = None
    """Why these results count as an unplanned look; None where they do not."""
