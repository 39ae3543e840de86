"""Adopting a run of the predecessor: its answers get our layout, its manifests version 2, its state is synthesised. Nothing is asked.

Everything is derived and written again alike should this be interrupted; `run_state.json`, which makes the run ours, comes last.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pipeline.base.digests import digest, sha256_bytes, sha256_file
from pipeline.base.errors import ConfigError
from pipeline.base.files import atomic_writer, put_aside, write_atomic
from pipeline.base.rows import Failure, Place, RequestRow, ResultRow, encode
from pipeline.base.schemas import write_document
from pipeline.config import Overrides
from pipeline.experiment import Experiment, Trial
from pipeline.layout import RunPaths, temp_slug
from pipeline.records import legacy, legacy_config, snapshot
from pipeline.records.clock import now_iso
from pipeline.records.digest_cache import DigestCache
from pipeline.records.lock import RunLock
from pipeline.records.manifest import STAGE_OF_STEP
from pipeline.records.receipts import relative
from pipeline.records.repair import UNBUILT
from pipeline.records.run_state import RunState
from pipeline.records.submission import SubmissionRecord, attempt_key
from pipeline.records.upgrade import part_key
from pipeline.records.upgrade_files import NAME, breadcrumbs, keep_backup, upgrade_file
from pipeline.steps import prepare
from pipeline.steps.context import Context, Run

OLD_RESULTS = (
    "results/predictions.csv",
    "results/per_item_scores.csv",
    "results/significance.json",
    "results/costs.json",
    "reports/report.md",
)
Answers = list[tuple[str, legacy.Request, ResultRow]]


def adopt(root: Path, paths: RunPaths, overrides: Overrides, base: Mapping[str, Any] | None) -> list[str]:
    """Adopt the run below `paths`. `base` is the config given beside (its sources and analysis count). Returns what is uncertain."""
    lock = RunLock(paths.lock)
    lock.acquire()
    try:
        return _adopt(root, paths, overrides, base)
    finally:
        lock.release()


def _adopt(root: Path, paths: RunPaths, overrides: Overrides, base: Mapping[str, Any] | None) -> list[str]:
    trials = [legacy.read_trial(folder) for folder in legacy.trial_folders(paths.folder)]
    passed_over: dict[str, list[str]] = {t.folder.name: [] for t in trials}
    answers: dict[str, Answers] = {t.folder.name: list(legacy.answers(t, passed_over[t.folder.name])) for t in trials}
    controls = {slug: _digest_of_control(rows) for slug, rows in answers.items()}
    asked = {slug: [request for _key, request, _answer in rows] for slug, rows in answers.items()}
    config, texts = legacy_config.config_of(paths, root, trials, asked, controls, base)
    _write_config(paths, config, texts)
    found = snapshot.load(paths, root, Overrides(run_id=paths.run_id, experiments_dir=overrides.experiments_dir))
    assert found is not None
    cache = DigestCache(paths.digest_cache, root)
    exp = Experiment(found, cache.sha256)
    run = Run(root, exp, paths, cache)
    prepare.run(Context(run))
    uncertain = [f"{t.folder.name}: {line}" for t in trials for line in (*t.unknown, *passed_over[t.folder.name])]
    uncertain += _lay_out(run, trials, answers)
    for trial in trials:
        if trial.manifest["stage_status"]["parsed"]["inputs_digest"] is None:  # no step of ours made them
            _keep_old_results(trial.folder)
        upgrade_file(trial.results / NAME) if (trial.results / NAME).exists() else write_document(
            trial.results / NAME, trial.manifest, "trial_manifest.v2"
        )
    if paths.state.exists():
        uncertain.append(f"run_state.json was corrupt and lies beside as {put_aside(paths.state).name}; what else it knew is lost")
    _write_state(run, trials, uncertain)
    run.close()
    return uncertain


def _digest_of_control(rows: Answers) -> str:
    """What tells one asking of a control from another; empty where there are no answers."""
    found = sorted([r.custom_id, a.text, a.outcome] for _key, r, a in rows if r.condition == "control")
    return digest(found) if found else ""


def _write_config(paths: RunPaths, config: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        write_atomic(paths.inputs / name, text)
    data = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).encode()
    if paths.effective_config.exists() and paths.effective_config.read_bytes() != data:
        keep_backup(paths.effective_config, paths.effective_config.read_bytes())
    write_atomic(paths.effective_config, data)


# --- answers in our layout -------------------------------------------------------------------------------------------------


def _lay_out(run: Run, trials: list[legacy.LegacyTrial], answers: Mapping[str, Answers]) -> list[str]:
    """Write shards, answers, submissions and the build manifest. Raises ConfigError where an asked item is not among the items."""
    known = {(item.dataset, item.id, kind) for kind, items in run.items.items() for item in items}
    units: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for old in sorted(trials, key=lambda t: not any(r.condition == "control" for _k, r, _a in answers[t.folder.name])):
        slug, rows = old.folder.name, answers[old.folder.name]
        if slug not in run.experiment.trials:
            raise ConfigError(
                f"the trial would get the folder {next(iter(run.experiment.trials))}, not {slug}",
                where=str(old.folder),
                remedy="Give the folder the name of its model, prompt set and decoding.",
            )
        strangers = [r.item for _k, r, _a in rows if r.item not in known]
        if strangers:
            raise ConfigError(
                f"{len(strangers)} answers are to items that are not among the items, first {'|'.join(strangers[0])}",
                where=str(run.prepared),
                remedy="Give the prepared items that this run was made from.",
            )
        trial = run.experiment.trials[slug]
        wanted = list(dict.fromkeys((float(r.place.temp), r.item, r.place.sample_index) for _k, r, _a in rows))
        for condition in ("control", "treatment"):
            unit = trial.unit(condition)
            mine = {(float(r.place.temp), r.item, r.place.sample_index): (key, r, a) for key, r, a in rows if r.condition == condition}
            if unit.slug in units and (not mine or condition == "control"):
                continue  # a control that trials share: laid out with the first of them
            if not mine:
                raise ConfigError(
                    f"no answer of the {condition} is here",
                    where=str(old.results),
                    remedy="Copy its part folders here, from where its control was shared.",
                )
            shards, missing = _shards_of(run, old, trial, condition, wanted, mine)
            units[unit.slug] = {
                "arm": unit.arm.name,
                "model": unit.model.id,
                "receipt": {"inputs_digest": UNBUILT, "artifacts": {}},
                "shards": shards,
            }
            if missing:
                notes.append(f"{slug}: {missing} requests of the {condition} have no answer; they count as failed")
    parts = max(len(u["shards"]) for u in units.values())
    document = {
        "schema_version": 1,
        "request_hash": run.experiment.request_hash,
        "prepared": run.experiment.prepared_id,
        "layout": {"parts": parts, "lines_per_part": None},
        "units": units,
    }
    write_document(run.paths.build_manifest, document, "build_manifest")
    return notes


def _shards_of(
    run: Run, old: legacy.LegacyTrial, trial: Trial, condition: str, wanted: list[Any], mine: Mapping[Any, Any]
) -> tuple[dict[str, Any], int]:
    """The shards of one unit. An item's replicates stay together, in the part where the item first stands; parts keep their names."""
    part_of: dict[Any, str] = {}
    order: dict[str, dict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    last: dict[float, str] = {}
    for temp, item, sample in wanted:
        key = mine[temp, item, sample][0] if (temp, item, sample) in mine else last.get(temp, "joined")
        part = part_of.setdefault((temp, item), _shard_key(temp, key))
        last[temp] = key
        order[part][temp, item].append(sample)
    shards, missing = {}, 0
    unit = trial.unit(condition)  # type: ignore[arg-type]
    for part in sorted(order):
        requests, results = [], []
        for (temp, item), samples in order[part].items():
            for sample in sorted(samples):
                found = mine.get((temp, item, sample))
                custom_id = f"{item[0]}|{item[1]}|{condition}|{temp}|{sample}|{item[2]}" if found is None else found[1].custom_id
                ours = sha256_bytes(f"{unit.slug}\x1f{custom_id}".encode())[:32]
                place = Place(dataset=item[0], item_id=item[1], type=item[2], temp=temp, sample_index=sample)
                requests.append(
                    RequestRow(
                        custom_id=ours,
                        answer_key=sha256_bytes(f"legacy\x1f{run.paths.run_id}\x1f{ours}".encode()),
                        place=place,
                        body={"legacy_custom_id": custom_id},
                    )
                )
                if found is None:
                    missing += 1
                    results.append(
                        ResultRow(
                            custom_id=ours, outcome="failed", error=Failure(code="missing", message="no answer in the predecessor's files")
                        )
                    )
                else:
                    results.append(msgspec.structs.replace(found[2], custom_id=ours))
        shards[part] = _write_shard(run, old, unit.slug, part, condition, requests, results)
    return shards, missing


def _shard_key(temp: float, part: str) -> str:
    number = part.rpartition("_p")[2]
    return f"{temp_slug(temp)}_p{int(number) if number.isdigit() else 0:02d}"


def _write_shard(
    run: Run, old: legacy.LegacyTrial, unit: str, part: str, condition: str, requests: list[RequestRow], results: list[ResultRow]
) -> dict[str, Any]:
    paths = run.paths.shard(unit, part)
    for path, rows in ((paths.rows, requests), (paths.results, results)):
        with atomic_writer(path) as f:
            f.writelines(encode(row) + b"\n" for row in rows)
    sha256 = sha256_file(paths.rows)
    record = SubmissionRecord.new(
        paths, unit=unit, key=part, sha256=sha256, requests=len(requests), generation=0, provider=run.experiment.provider
    )
    failed = {r.custom_id: f"{r.error.code}: {r.error.message}"[:500] for r in results if r.error}
    at, manifest = old.manifest["timestamps"]["created_at"], old.manifest
    key = part.replace("_p", f"_{condition}_p")
    crumb = next((said for name, said in breadcrumbs(old.results).items() if part_key(name) == key), {})
    names = {
        "job": (manifest["jobs"].get(key) or [crumb.get("name")])[0],
        "input_dataset": (manifest["datasets"].get(key) or [None])[0],
        "output_dataset": crumb.get("output_dataset"),
    }
    ids = {k: v for k, v in names.items() if v}
    attempt = record_of_attempt(at, ids, requests, results, failed)
    record.document["attempts"].append(attempt)
    attempt["key"] = attempt_key(record.document, None, 0)
    record.document["failed"] = failed
    record.publish({"path": paths.results.name, "size": paths.results.stat().st_size, "sha256": sha256_file(paths.results)})
    return {
        "path": f"{unit}/{part}.jsonl",
        "temp": requests[0].place.temp,
        "requests": len(requests),
        "bytes": paths.rows.stat().st_size,
        "sha256": sha256,
        "expected_prompt_tokens": 0,
        "worst_prompt_tokens": 0,
        "max_completion_tokens": 0,
    }


def record_of_attempt(
    at: str, ids: dict[str, Any], requests: list[RequestRow], results: list[ResultRow], failed: Mapping[str, str]
) -> dict[str, Any]:
    """The one attempt that a predecessor's part was, settled."""
    return {
        "number": 0, "key": "", "state": "settled", "rows": None, "requests": len(requests), "ids": ids,
        "intent_at": at, "submitted_at": at, "settled_at": at, "reserved_usd": None, "billed_usd": None,
        "prompt_tokens": sum(r.usage.prompt_tokens for r in results),
        "completion_tokens": sum(r.usage.completion_tokens for r in results), "cached_tokens": 0,
        "answered": len(results) - len(failed), "failed": len(failed), "missing": 0, "duplicates": 0, "foreign": 0,
        "outcome": "adopted", "message": "asked by the predecessor",
    }  # fmt: skip


# --- what was there ----------------------------------------------------------------------------------------------------------


def _keep_old_results(folder: Path) -> None:
    """Copies of the result files that our steps will write anew, in `<trial>/legacy_v1/`; an existing copy stays."""
    for name in OLD_RESULTS:
        source, kept = folder / name, folder / "legacy_v1" / Path(name).name
        if source.exists() and not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            beside = kept.with_name(f"{kept.name}.part")
            shutil.copyfile(source, beside)
            beside.replace(kept)


def _write_state(run: Run, trials: list[legacy.LegacyTrial], uncertain: list[str]) -> None:
    exp, paths = run.experiment, run.paths
    state = RunState.new(
        paths.state, run_id=paths.run_id, config_path=relative(paths.effective_config, run.root),
        provider=exp.provider, config_hash=exp.config_hash, request_hash=exp.request_hash, primary_hash=digest(exp.primary), migrated=True,
    )  # fmt: skip
    at = now_iso()
    evidence = {step: {t.manifest["stage_status"][stage]["status"] for t in trials} for step, stage in STAGE_OF_STEP.items()}
    for step, phase in state.document["phases"].items():
        if step in ("prepare", "build", "submit", "poll") or evidence[step] == {"completed"}:
            phase.update(status="completed", updated_at=at)
    state.document["notes"] = [
        f"adopted from the predecessor at {at}; its primary analysis was not registered before the answers were seen",
        *(f"uncertain: {line}" for line in uncertain),
    ]
    run.events.add("adopted", trials=[t.folder.name for t in trials], uncertain=uncertain)
    state.save()
