"""stats: turns the scores of a trial, and of the trials that share its family, into `significance.json`: effects, intervals, verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.rows import Item, read_rows
from pipeline.base.schemas import write_document
from pipeline.experiment import TYPES, Trial
from pipeline.providers.money import price_of
from pipeline.records import looks
from pipeline.steps.context import Context, Run
from pipeline.steps.foresight import check_subgroups

if TYPE_CHECKING:
    from pipeline.statistics.settings import AnalysisSettings, TrialInfo
    from pipeline.statistics.table import ScoreTable

SETTINGS = ("stats", "primary", "metrics", "subgroups", "pricing", "use_batch_api", "unsupported", "abstention", "dataset_kinds")
CODE = ("pipeline/statistics", "pipeline/steps/stats.py", "pipeline/steps/stats_extras.py", "pipeline/scoring")
"""Scoring too: `unsupported_sensitivity` scores anew."""


def family(this: Run, trial: Trial) -> list[Trial]:
    """The trials that are judged together: all of the run that are scored, or will be. Simultaneous intervals need the primary ones,
    q-values all. A trial scored later joins, and the others are judged anew."""
    return [t for t in this.experiment.trials.values() if t == trial or this.selected(t) or this.paths.trial(t.slug).scores.exists()]


def inputs(ctx: Context) -> list[Path]:
    """The family's scores; the items too where subgroups are declared, and whatever else an optional analysis asks for."""
    this = ctx.run
    config, stats = this.experiment.config, this.experiment.config.get("stats") or {}
    found = [this.paths.trial(t.slug).scores for t in family(this, ctx.the_trial)]
    again = stats.get("unsupported_sensitivity") is not None
    if config.get("subgroups") or again:
        found += [this.item_file(kind) for kind in TYPES]
    if stats.get("usd_per_correct") or again:
        found.append(this.paths.trial(ctx.the_trial.slug).predictions)
    return found


def targets(ctx: Context) -> list[Path]:
    """`significance.json`."""
    return [ctx.run.paths.trial(ctx.the_trial.slug).significance]


def run(ctx: Context) -> dict[str, Any]:
    """Analyse; facts are the verdict."""
    from pipeline.statistics.analysis import analyse
    from pipeline.statistics.settings import AnalysisSettings, TrialInfo
    from pipeline.statistics.table import read_scores

    this = ctx.run
    trials = family(this, ctx.the_trial)
    config = this.experiment.settings(("stats", "primary", "metrics"))
    settings = AnalysisSettings.from_config({k: v for k, v in config.items() if v})
    groups = _groups(this)
    infos = {
        t.slug: TrialInfo(
            t.slug,
            t.contrast.name,
            t.contrast.control,
            t.contrast.treatment,
            t.treatment.model.alias,
            usd_per_item=_usd_per_item(this, t),
            groups=groups,
            unplanned_look=_unplanned_look(this, t, settings),
        )
        for t in trials
    }
    tables = {t.slug: read_scores(this.paths.trial(t.slug).scores) for t in trials}
    slug = ctx.the_trial.slug
    infos[slug] = _with_extras(this, ctx.the_trial, infos[slug], tables[slug], settings)
    document = analyse(tables, infos, settings, slug)
    _record_look(this, ctx.the_trial, settings, document["verdict"])
    write_document(targets(ctx)[0], document, "significance")
    return {"verdict": document["verdict"]["verdict"]}


def _asked(this: Run) -> dict[str, Any] | None:
    """What the run asks, as it was locked; None where no lock says so."""
    locked = this.state["locked"] if this.state is not None else None
    return locked.get("asked") if locked else None


def _unplanned_look(this: Run, trial: Trial, settings: AnalysisSettings) -> str | None:
    asked = _asked(this)
    return looks.objection(this.state["looks"], trial.slug, asked, settings.primary.looks) if this.state is not None else None


def _record_look(this: Run, trial: Trial, settings: AnalysisSettings, verdict: dict[str, Any]) -> None:
    """Before the results are there to be seen: an analysis that nobody saw does less harm than one that nobody knows of."""
    if (asked := _asked(this)) is not None:
        could = verdict["informative_clusters"] >= verdict["informative_needed"]
        comparison = looks.comparison_of(this.experiment, trial)
        with this.manifest_lock:
            looks.record(
                this.paths.registry, comparison, asked, this.paths.run_id, could_decide=could, declared=settings.primary.looks
            )


def _with_extras(this: Run, trial: Trial, info: TrialInfo, table: ScoreTable, settings: AnalysisSettings) -> TrialInfo:
    """What the optional analyses need besides scores, where they are asked for."""
    from pipeline.statistics.analysis import primary_temperature
    from pipeline.statistics.settings import SupportCounts
    from pipeline.steps.score import scoring_settings
    from pipeline.steps.stats_extras import support_of_items, usd_of_items

    temp = primary_temperature(table, settings)
    if settings.usd_per_correct:
        info = replace(info, item_usd=usd_of_items(this, trial, temp))
    if settings.unsupported_sensitivity is not None:
        scoring = scoring_settings(this)
        rule, answers = scoring.support, support_of_items(this, trial, temp, scoring)
        info = replace(info, support=SupportCounts(temp, rule.strategy, rule.threshold, rule.min_token_overlap, answers))
    return info


def _usd_per_item(this: Run, trial: Trial) -> float | None:
    """What one more item would probably cost in both arms, going by the requests as built; None where a model has no price."""
    config, built = this.experiment.config, this.built()
    usd = 0.0
    for unit in (trial.control, trial.treatment):
        price = price_of(unit.model.id, config["provider"], config["pricing"], use_batch=config.get("use_batch_api", True))
        if price is None or built is None:
            return None
        shards = built["units"][unit.slug]["shards"].values()
        usd += price.usd(sum(s["expected_prompt_tokens"] for s in shards), sum(s["max_completion_tokens"] for s in shards) // 2)
    items = this.item_count()
    return round(usd / items, 9) or None if items else None  # what costs nothing is not spoken of


def _groups(this: Run) -> dict[str, dict[str, str]]:
    """Declared factor -> item key -> group, from the items' metadata."""
    factors = this.experiment.config.get("subgroups") or []
    groups: dict[str, dict[str, str]] = {factor: {} for factor in factors}
    if factors:
        items = [item for kind in TYPES for item in read_rows(this.item_file(kind), Item)]
        check_subgroups(this.experiment.config, items)
        for item in items:
            for factor in factors:
                if item.meta.get(factor) not in (None, ""):
                    groups[factor][item.key] = str(item.meta[factor])
    return groups
