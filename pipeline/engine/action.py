"""What a doit task does: check the receipt, run the step, leave a receipt. The one place where steps meet records."""

from __future__ import annotations

import functools
import importlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pipeline
from pipeline.base.checkpoints import announce
from pipeline.base.digests import digest
from pipeline.base.errors import AbidingError, ManifestError, StepError, Stopped
from pipeline.base.schemas import read_document, write_document
from pipeline.engine.session import Session
from pipeline.providers.shard_files import sweep
from pipeline.records import receipts
from pipeline.records.manifest import STAGE_OF_STEP
from pipeline.records.run_state import WITHIN
from pipeline.records.submission import SubmissionRecord
from pipeline.steps import prepare
from pipeline.steps.context import Context

PACKAGE_ROOT = Path(pipeline.__file__).resolve().parents[1]
FAMILY_STEPS = ("submit", "poll")


def module(step: str) -> Any:
    """The step's module."""
    return importlib.import_module(f"pipeline.steps.{step}")


class Action:
    """One step on one subject: a doit action, its up-to-date check, and the reason for either, in words."""

    def __init__(self, session: Session, step: str, ctx: Context) -> None:
        """`step` names the module in `pipeline/steps`."""
        self.session, self.step, self.ctx = session, step, ctx
        self._module = module(step)

    @property
    def targets(self) -> list[Path]:
        """The files that the step makes."""
        found: list[Path] = self._module.targets(self.ctx)
        return found

    @property
    def inputs(self) -> list[Path]:
        """The files that the step reads."""
        found: list[Path] = self._module.inputs(self.ctx)
        return found

    # --- verdicts ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The slice of the config that the step reads (and, for submit and poll, the generation)."""
        found = self.session.experiment.settings(self._module.SETTINGS)
        if self.step in FAMILY_STEPS:
            found["generation"] = self._generation
        return found

    @property
    def _generation(self) -> int:
        state = self.session.run.state
        generation = state["generation"] if state else 0
        return generation + 1 if self.session.readonly and self.session.run.options.fresh else generation

    @functools.cached_property
    def settings_digest(self) -> str:
        """Of the settings and of the step's code: what `config_changed` would compare."""
        return digest([self.settings, code_digest(self.session, self._module.CODE)])

    def up_to_date(self, task: Any, values: Mapping[str, Any]) -> bool:
        """For doit: whether the targets are those that the last run of this task left, under the same settings."""
        if values.get("settings") != self.settings_digest or self._must_retry():
            return False
        if self.step not in (*FAMILY_STEPS, "prepare") and not self._receipt():
            return False  # doit remembers, but the manifest was lost or damaged: it gets its receipt again
        cache, root = self.session.cache, self.session.root
        return all(cache.matches(root / name, size, sha) for name, size, sha in values["kept"])

    def _must_retry(self) -> bool:
        if self.step not in FAMILY_STEPS or not self.session.run.options.retry_failed:
            return False
        try:
            return bool(SubmissionRecord.load(self.session.run.shard_paths(self.ctx.the_shard))["failed"])
        except (FileNotFoundError, ManifestError):
            return True

    def why_not_done(self) -> str | None:
        """Why the step must run, by its receipt; None where the receipt holds. Writes nothing."""
        session, ctx = self.session, self.ctx
        if self.step in FAMILY_STEPS:
            return "asked again (--retry_failed)" if self._must_retry() else self._why_shard()
        if self.step == "prepare":
            if prepare.intact(session.run):
                return None
            return "prepared items are damaged" if session.run.prepared.exists() else "not prepared yet"
        missing = [p for p in self.inputs if not p.is_file()]
        if missing:
            return f"{missing[0].name} is not there yet"
        return receipts.why_not(self._receipt(), self.inputs_digest(), self.targets, session.cache) if ctx else None

    def inputs_digest(self) -> str:
        """Digest of input bytes, settings and code."""
        return receipts.inputs_digest(self.inputs, self.settings, code_digest(self.session, self._module.CODE), self.session.cache)

    def _why_shard(self) -> str | None:
        this, ref = self.session.run, self.ctx.the_shard
        try:
            record = SubmissionRecord.load(this.shard_paths(ref))
        except FileNotFoundError:
            return "not sent yet"
        except ManifestError:
            return "submission.json is damaged"
        if record["shard"]["sha256"] != ref.sha256 or record["generation"] != self._generation:
            return "its requests changed"
        if record["state"] == "published":
            results = record["results"]
            if self.step == "submit" or this.cache.matches(this.shard_paths(ref).results, results["size"], results["sha256"]):
                return None
            return "results.jsonl is missing or damaged"
        if self.step == "submit" and record["state"] == "submitted":
            return None
        return {"intent": "promised: its job is looked for", "submitted": "its job is under way", "owing": "some requests are still owed"}[
            record["state"]
        ]

    # --- receipts ----------------------------------------------------------------------------------------------------

    def _receipt(self) -> Mapping[str, Any] | None:
        run = self.session.run
        if self.ctx.trial is not None:
            stage = self.session.manifest(self.ctx.trial).stage(STAGE_OF_STEP[self.step])
            return stage if stage["inputs_digest"] else None
        if self.step == "build":
            built = run.built()
            unit = built["units"].get(self.ctx.the_unit.slug) if built else None
            return unit["receipt"] if unit else None
        return run.state["receipts"].get(self.step) if run.state else None

    def _keep_receipt(self, receipt: receipts.Receipt) -> None:
        run = self.session.run
        if self.ctx.trial is not None:
            self.session.manifest(self.ctx.trial).set_stage(STAGE_OF_STEP[self.step], "completed", receipt=receipt)
        elif self.step == "build":
            with run.manifest_lock:
                document = read_document(run.paths.build_manifest, "build_manifest")
                document["units"][self.ctx.the_unit.slug]["receipt"] = receipt
                write_document(run.paths.build_manifest, document, "build_manifest")
        elif run.state is not None:
            run.state.update(receipts={**run.state["receipts"], self.step: receipt})

    # --- the action --------------------------------------------------------------------------------------------------

    def perform(self) -> dict[str, Any]:
        """Do it, or find that it is done ('rechecked'). Raises AbidingError; a stop leaves the step as `stopped`."""
        session, run = self.session, self.session.run
        run.stop.check()
        if session.params.get("always") or (why := self.why_not_done()) is not None:
            announce(f"pre-{self.step}")
            self._enter(why if not session.params.get("always") else "asked for (--always-execute)")
            try:
                facts = self._module.run(self.ctx)
            except Stopped as e:
                self._leave("stopped", str(e))
                raise
            except AbidingError as e:
                self._leave("failed", str(e))
                raise
            except sqlite3.Error as e:
                self._leave("failed", str(e))
                raise StepError(
                    f"a database of the experiments folder does not work: {e}",
                    where=str(run.paths.experiments),
                    remedy="Is the disk full, or a *.db there damaged? A bad answers.db may be moved away: runs keep their own answers.",
                ) from e
            except OSError as e:
                self._leave("failed", str(e))
                raise StepError(
                    f"{type(e).__name__}: {e.strerror or e}",
                    where=str(e.filename or self.step),
                    remedy="Mend that and run again: nothing that was paid for is lost.",
                ) from e
            if self.step not in (*FAMILY_STEPS, "prepare"):
                self._keep_receipt(receipts.make_receipt(self.inputs_digest(), self.targets, session.root, session.cache))
            self._done(facts)
            announce(f"post-{self.step}")
        else:
            facts = {"rechecked": True}
            if self.step == "poll":
                sweep(run.shard_paths(self.ctx.the_shard))  # a kill between publishing and sweeping left it
            if self.ctx.trial is not None:
                session.manifest(self.ctx.trial).set_stage(STAGE_OF_STEP[self.step], "completed")
        return {"settings": self.settings_digest, "kept": self._kept(), "facts": facts}

    def _kept(self) -> list[tuple[str, int, str]]:
        """Files whose bytes doit compares at the next run. `submission.json` goes on changing until its answers are published."""
        paths = self.targets
        if self.step == "submit":
            paths = []
        elif self.step == "poll":
            paths = [*paths, self.session.run.shard_paths(self.ctx.the_shard).submission]
        cache, root = self.session.cache, self.session.root
        return [(receipts.relative(p, root), p.stat().st_size, cache.sha256(p)) for p in paths]

    def _enter(self, why: str | None) -> None:
        run = self.session.run
        run.events.add("begin", step=self.step, subject=self._subject, why=why)
        if run.state is not None:
            phase = WITHIN.get(self.step, self.step)
            run.state.move(phase, "in_progress")
        if self.ctx.trial is not None:
            self.session.manifest(self.ctx.trial).set_stage(STAGE_OF_STEP[self.step], "in_progress")

    def _leave(self, status: str, reason: str) -> None:
        run = self.session.run
        run.events.add(status, step=self.step, subject=self._subject, reason=reason)
        if self.ctx.trial is not None:
            self.session.manifest(self.ctx.trial).set_stage(STAGE_OF_STEP[self.step], status)

    def _done(self, facts: Mapping[str, Any]) -> None:
        run = self.session.run
        run.events.add("done", step=self.step, subject=self._subject, facts=dict(facts))
        if run.state is not None:
            phase = WITHIN.get(self.step, self.step)
            run.state.checkpoint(phase, self._subject, self.ctx.trial.slug if self.ctx.trial else None)

    @property
    def _subject(self) -> str:
        ctx = self.ctx
        if ctx.shard is not None:
            return ctx.shard.name
        if ctx.trial is not None:
            return ctx.trial.slug
        return ctx.unit.slug if ctx.unit is not None else "run"


_codes: dict[tuple[str, ...], str] = {}


def code_digest(session: Session, code: tuple[str, ...]) -> str:
    """Digest of the source files of these modules or packages: changed scoring code scores anew."""
    if code not in _codes:
        files: list[Path] = []
        for name in code:
            path = PACKAGE_ROOT / name
            files += sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts) if path.is_dir() else [path]
        _codes[code] = digest([[f.relative_to(PACKAGE_ROOT).as_posix(), session.cache.sha256(f)] for f in files])
    return _codes[code]


def runner(action: Action, report: Callable[[AbidingError], None]) -> Callable[[], Any]:
    """The action as doit calls it: our errors are kept for the edge, where they are told once, in one line."""
    from doit.exceptions import TaskFailed

    def act() -> Any:
        try:
            return action.perform()
        except AbidingError as e:
            report(e)
            return TaskFailed(str(e), report=False)

    return act
