"""The pipeline: ten steps from questions and two system prompts to a verdict.

    doit list             what there is          doit run               do what is not done
    doit run --plan_only  what would be done     doit run --dry_run     the same with a simulated provider

Every step is a module in pipeline/steps with `inputs(ctx)`, `targets(ctx)` and `run(ctx)`; its sub-tasks are named after what
they are about: `submit:<unit>/t0_p00`, `stats:<trial>`.
"""

from pipeline.engine.tasks import Task, Tasks, tasks_of, upgrade_task
from pipeline.steps import aggregate, archive, build, costs, parse, poll, prepare, report, score, stats, submit, tidy

DOIT_CONFIG = {"reporter": "abiding", "verbosity": 2}


def task_prepare() -> Tasks:
    """read the sources into one immutable set of items"""
    yield from tasks_of(prepare)


def task_build() -> Tasks:
    """make the shards of requests, a set per unit, and freeze the layout"""
    yield from tasks_of(build)


def task_submit() -> Tasks:
    """get each shard's job under way, exactly once"""
    yield from tasks_of(submit)


def task_poll() -> Tasks:
    """collect each shard's answers, whole"""
    yield from tasks_of(poll)


def task_parse() -> Tasks:
    """join requests and answers into predictions.csv"""
    yield from tasks_of(parse)


def task_score() -> Tasks:
    """score every answer into per_item_scores.csv"""
    yield from tasks_of(score)


def task_stats() -> Tasks:
    """effects, intervals, tests and the verdict: significance.json"""
    yield from tasks_of(stats)


def task_costs() -> Tasks:
    """tokens and dollars of the answers used: costs.json"""
    yield from tasks_of(costs)


def task_report() -> Tasks:
    """report.md and report.html of each trial, provenance beside them"""
    yield from tasks_of(report)


def task_aggregate() -> Tasks:
    """the run's report over all trials"""
    yield from tasks_of(aggregate)


def task_tidy() -> Tasks:
    """one row per request of the whole run: results.csv and results.parquet"""
    yield from tasks_of(tidy)


def task_archive() -> Tasks:
    """the checksums of a finished run: archive_manifest.json"""
    yield from tasks_of(archive)


def task_upgrade_manifests() -> Task:
    """bring trial manifests of older versions to version 2, with a backup"""
    return upgrade_task()
