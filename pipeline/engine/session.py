"""One doit process at work on one run: what the command line says becomes a `Run`, its lock, its state, its stop token."""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.base.errors import AbidingError, ConfigError, ManifestError, UsageError
from pipeline.config import Config, Overrides, load
from pipeline.engine import options as opts
from pipeline.engine.display import Display
from pipeline.experiment import Condition, Experiment, Trial, Unit
from pipeline.layout import RunPaths, find_root
from pipeline.records import legacy, snapshot
from pipeline.records.digest_cache import DigestCache
from pipeline.records.manifest import TrialManifest
from pipeline.records.run_state import STEPS, WITHIN, RunState
from pipeline.steps.context import Context, Options, Run, ShardRef

ASKING = ("prepare", "build", "submit", "poll")
"""Steps that lead to requests: never taken for a run adopted from the predecessor, whose answers are all that there is."""
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # it names a folder; as in schemas/eval_config.schema.json
CONDITIONS = ("control", "treatment", "both")


class Session:
    """The run that this process is about, and what of it was chosen."""

    def __init__(self, root: Path, params: Mapping[str, Any], *, readonly: bool) -> None:
        """Read config and options; nothing is written yet. Raises ConfigError or UsageError."""
        self.root, self.params, self.readonly = root, params, readonly
        self.steps = opts.steps_chosen(params)
        self.condition = params["condition"]
        if self.condition not in CONDITIONS:
            raise UsageError(f"{self.condition!r} is no condition", where="--condition", remedy=f"Use one of {', '.join(CONDITIONS)}.")
        for name in ("limit_items", "parts_per_dataset", "lines_per_part", "max_concurrent_jobs"):
            if params[name] < 0:
                raise UsageError("the number is negative", where=f"--{name}", remedy="Give 1 or more.")
        if params["run_id"] and not RUN_ID.fullmatch(params["run_id"]):
            raise UsageError(
                f"{params['run_id']!r} is no run id", where="--run_id", remedy="Letters, digits, dots, dashes and underscores."
            )
        overrides = Overrides(
            dry_run=params["dry_run"],
            prompt_sets=opts.words(params["prompt_sets"]),
            models=opts.words(params["models"]),
            temps=opts.temps(params["temps"]),
            limit_items=params["limit_items"] or None,
            max_usd=opts.dollars(params.get("max_usd", "")),
            experiments_dir=params["experiments_dir"] or None,
            run_id=params["run_id"] or None,
        )
        self.from_snapshot = False
        self.adoption_notes: list[str] | None = None
        self.config = self._config(overrides)
        experiments = self.config.resolve(self.config["paths"]["experiments_dir"])
        if experiments.exists() and not experiments.is_dir():
            raise UsageError("not a folder", where=str(experiments), remedy="Runs lie in a folder: name one with --experiments_dir.")
        self.cache = DigestCache(experiments / ".digests.json", root, verify=bool(params.get("verify")))
        self.experiment = self._resolve(experiments, overrides)
        if self.from_snapshot:
            self._trust_origin_over_altered_snapshot(experiments, overrides)
        self.run = Run(
            root,
            self.experiment,
            RunPaths(experiments, self.experiment.run_id),
            self.cache,
            Options(
                parts_per_dataset=params["parts_per_dataset"],
                lines_per_part=params["lines_per_part"] or None,
                max_concurrent_jobs=params["max_concurrent_jobs"] or None,
                no_wait=bool(params.get("no_wait")),
                force=bool(params.get("force")),
                fresh=bool(params.get("fresh")),
                retry_failed=bool(params.get("retry_failed")),
            ),
            readonly=readonly,
        )
        if self._is_adopted(self.run.paths):
            self.steps = tuple(step for step in self.steps if step not in ASKING)
            if not self.steps:
                raise UsageError(
                    "an adopted run is never asked anew", where=f"run {self.run.paths.run_id}", remedy="Begin with --from_step parse."
                )
        self.trials = self._trials()
        self.run.trials_selected = frozenset(self.trials)
        self._manifests: dict[str, TrialManifest] = {}
        self.errors: list[AbidingError] = []
        self.display = Display(self.run, self.steps, quiet=bool(params.get("quiet")))

    def keep_error(self, error: AbidingError) -> None:
        """Remember what ended a task, to be told once at the end."""
        self.errors.append(error)

    def _config(self, overrides: Overrides) -> Config:
        """The config; of an existing run named by --run_id without --config, its own snapshot (for `run`: with --resume)."""
        named = "config" in getattr(self.params, "_non_default_keys", ())
        if overrides.run_id:
            paths = RunPaths(self.root / (overrides.experiments_dir or "experiments"), overrides.run_id)
            if legacy.unadopted(paths):
                self._adopt(paths, overrides, named)
            elif not paths.effective_config.exists() and (found := legacy.misplaced(paths.folder)) is not None:
                raise UsageError(
                    "results of the predecessor lie where no trial lies",
                    where=str(found),
                    remedy=f"Move them to {paths.folder.name}/<model>-<prompt set>-tp..-tk..-mx..-../results.",
                )
            if self._is_adopted(paths):  # only its snapshot knows what was asked
                named = False
                if not self.params.get("resume", True):
                    raise UsageError(
                        f"run {overrides.run_id} was adopted from the predecessor",
                        where="--run_id",
                        remedy="Say --resume: it goes on from its own snapshot.",
                    )
        if overrides.run_id and not named and self.params.get("resume", True):
            experiments = self.root / (overrides.experiments_dir or "experiments")
            snap, origin = self._snapshot(RunPaths(experiments, overrides.run_id), overrides)
            if origin is not None:
                return load(origin, self.root, overrides)
            if snap is not None:
                self.from_snapshot = True
                return snap
        path = Path(self.params["config"])
        shown = path if not path.is_absolute() or not path.is_relative_to(self.root) else path.relative_to(self.root)
        return load(shown if shown.is_absolute() else self.root / shown, self.root, overrides)

    def _resolve(self, experiments: Path, overrides: Overrides) -> Experiment:
        """The experiment of the config; where a snapshot names what is not there, that of the config it was made from."""
        try:
            return Experiment(self.config, self.cache.sha256)
        except ConfigError:
            origin = (
                snapshot.origin(RunPaths(experiments, overrides.run_id), self.root) if self.from_snapshot and overrides.run_id else None
            )
            if origin is None:
                raise
            self.config, self.from_snapshot = load(origin, self.root, overrides), False
            return Experiment(self.config, self.cache.sha256)

    def _trust_origin_over_altered_snapshot(self, experiments: Path, overrides: Overrides) -> None:
        """Where the snapshot no longer asks what the run's state says was asked, but the config that it was made from does: use that."""
        paths = RunPaths(experiments, self.experiment.run_id)
        try:
            asked = RunState.load(paths.state)["request_hash"]
            origin = snapshot.origin(paths, self.root)
            if asked == self.experiment.request_hash or origin is None:
                return
            config = load(origin, self.root, overrides)
            experiment = Experiment(config, self.cache.sha256)
        except (FileNotFoundError, AbidingError):
            return
        if experiment.request_hash == asked:
            self.config, self.experiment, self.from_snapshot = config, experiment, False

    def _adopt(self, paths: RunPaths, overrides: Overrides, named: bool) -> None:
        """Make a run of the predecessor ours. Raises UsageError where this command may not write."""
        if self.readonly or not self.params.get("resume"):
            raise UsageError(
                f"run {paths.run_id} was made by the predecessor and is not adopted yet",
                where=str(paths.folder),
                remedy=f"Adopt it: doit run --run_id {paths.run_id} --resume --from_step parse",
            )
        from pipeline.engine.adoption import adopt

        given = load(self.root / self.params["config"], self.root).data if named else None
        self.adoption_notes = adopt(self.root, paths, overrides, given)

    @staticmethod
    def _is_adopted(paths: RunPaths) -> bool:
        try:
            return bool(RunState.load(paths.state)["migrated"])
        except (FileNotFoundError, ManifestError):
            return False

    def _snapshot(self, paths: RunPaths, overrides: Overrides) -> tuple[Config | None, Path | None]:
        """The run's snapshot; where it is damaged, the config file that it was made from (drift is checked when the run is opened)."""
        try:
            return snapshot.load(paths, self.root, overrides), None
        except AbidingError:
            origin = snapshot.origin(paths, self.root)
            if origin is None:
                raise
            return None, origin

    def _trials(self) -> dict[str, Trial]:
        pattern = self.params["trial"]
        chosen = {slug: t for slug, t in self.experiment.trials.items() if not pattern or fnmatch.fnmatchcase(slug, pattern)}
        if not chosen:
            raise UsageError(f"no trial matches {pattern!r}", where="--trial", remedy=f"Trials are: {', '.join(self.experiment.trials)}.")
        return chosen

    # --- subjects of steps ---------------------------------------------------------------------------------------------

    @property
    def units(self) -> dict[str, Unit]:
        """The units whose requests were chosen."""
        roles: tuple[Condition, ...] = ("control", "treatment") if self.condition == "both" else (self.condition,)
        return {t.unit(role).slug: t.unit(role) for t in self.trials.values() for role in roles}

    @property
    def shards(self) -> list[ShardRef]:
        """The chosen shards; those of different units alternate, so that drift of a provider strikes both arms alike."""
        layout = [self.run.layout[slug] for slug in self.units]
        longest = max((len(refs) for refs in layout), default=0)
        return [refs[i] for i in range(longest) for refs in layout if i < len(refs)]

    def subjects(self, step: str) -> Iterator[tuple[str, Context]]:
        """(sub-task name, context) of everything that a step is about."""
        run = self.run
        if step == "prepare":
            yield run.experiment.prepared_id, Context(run)
        elif step == "build":
            for slug, unit in self.units.items():
                yield slug, Context(run, unit=unit)
        elif step in ("submit", "poll"):
            for ref in self.shards:
                yield ref.name, Context(run, unit=run.experiment.units[ref.unit], shard=ref)
        elif self.condition != "both":
            return
        elif step in (*WITHIN, "archive"):
            if len(self.trials) == len(self.experiment.trials):
                yield "run", Context(run)
        else:
            for slug, trial in self.trials.items():
                yield slug, Context(run, trial=trial)

    def chosen(self, step: str) -> bool:
        """Whether a step is selected; the aggregate and the tidy table belong to report."""
        return WITHIN.get(step, step) in self.steps

    # --- manifests -----------------------------------------------------------------------------------------------------

    def manifest(self, trial: Trial) -> TrialManifest:
        """The trial's manifest, opened once; a corrupt one is put aside and begun anew (its stages are then checked again)."""
        with self.run.manifest_lock:
            if trial.slug not in self._manifests:
                manifest, aside = TrialManifest.open(self.run.paths.trial(trial.slug).manifest, self.facts(trial), readonly=self.readonly)
                if aside is not None:
                    self.run.notice(
                        f"{trial.slug}: trial_manifest.json was corrupt and lies beside as {aside.name}; it is rebuilt from the files"
                    )
                self._manifests[trial.slug] = manifest
            return self._manifests[trial.slug]

    def facts(self, trial: Trial) -> dict[str, Any]:
        """What a trial is, as its manifest says it."""
        exp, decoding = self.experiment, trial.treatment.decoding
        return {
            "run_id": self.run.paths.run_id,
            "trial": {
                "slug": trial.slug,
                "id": trial.id,
                "contrast": {"name": trial.contrast.name, "control": trial.contrast.control, "treatment": trial.contrast.treatment},
                "model_id": trial.treatment.model.id,
                "top_p": decoding.top_p,
                "top_k": decoding.top_k,
                "max_new_tokens": {"closed_book": decoding.max_closed, "open_book": decoding.max_open},
                "units": {"control": trial.control.slug, "treatment": trial.treatment.slug},
            },
            "temps": list(trial.temps),
            "samples_per_item": {str(t): exp.samples(t) for t in trial.temps},
            "prompts": {
                c: {"path": trial.unit(c).arm.prompt_path, "sha256": trial.unit(c).arm.prompt_sha256} for c in ("control", "treatment")
            },
        }


_current: Session | None = None


def current() -> Session:
    """The session of this process, for `dodo.py`. Opened by the loader."""
    if _current is None:
        remedy = f"Change to it first: cd {find_root()}"
        print(f"error: dodo.py works in its own folder, whose pyproject.toml tells doit of abiding. {remedy}", file=sys.stderr)
        raise SystemExit(UsageError.exit_code)
    return _current


def set_current(session: Session | None) -> None:
    """Make `session` the one that `dodo.py` sees."""
    global _current
    _current = session


__all__ = ["STEPS", "Session", "current", "set_current"]
