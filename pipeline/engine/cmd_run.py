"""`doit run`: gates, lock, stop token, two passes (make the layout, then the rest), and the exit code."""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
import webbrowser
from typing import Any

from doit.cmd_run import Run
from doit.control import TaskControl

from pipeline.base.errors import AbidingError, RequireNotMet, Stopped, UsageError
from pipeline.base.schemas import parse_json
from pipeline.engine import opening, plan, truth
from pipeline.engine.action import FAMILY_STEPS
from pipeline.engine.command_line import OUR_DEFECT, OneLine
from pipeline.engine.gating import check_inputs
from pipeline.engine.options import RUN_OPTIONS
from pipeline.engine.session import Session
from pipeline.steps import build

LAYOUT_STEPS = ("prepare", "build")
WITHOUT_SHARDS = (*LAYOUT_STEPS, "upgrade_manifests")
"""Tasks that need not know the shards."""


class AbidingRun(OneLine, Run):  # type: ignore[misc]
    """`doit run`, which abides interruption."""

    name = "run"
    doc_purpose = "do what is not done, to the report; also after any interruption"
    writes = locks_itself = True
    cmd_options = (*Run.cmd_options, *RUN_OPTIONS)
    sel_tasks: Any
    sel_default_tasks: bool

    def parse_execute(self, in_args: Any) -> int:
        """`--plan_only` makes this a command that only looks."""
        if "--plan_only" in in_args:
            self.writes = False
        return super().parse_execute(in_args)

    def execute(self, params: Any, args: Any) -> int:
        """Open the session, then let doit do the rest. Failures that we explain end with their exit code."""
        if params["par_type"] == "process" and "par_type" in params._non_default_keys:
            raise UsageError(
                "forked workers would outlive a killed parent and keep its lock",
                where="-P process",
                remedy="Leave it out: -n uses threads.",
            )
        if params["json"] and not params["plan_only"]:
            raise UsageError("there is JSON of the plan only", where="--json", remedy="Add --plan_only, or read the files of the run.")
        params["par_type"] = "thread"
        self.params = params
        return int(super().execute(params, args))

    @property
    def session(self) -> Session:
        """The session that the loader opened."""
        session: Session = self.loader.session
        return session

    @functools.wraps(Run._execute)  # doit passes what the signature names
    def _execute(self, *args: Any, **kwargs: Any) -> int:
        session = self.session
        if self.params["plan_only"]:
            return plan.show(session, as_json=self.params["json"])
        with contextlib.ExitStack() as stack:
            if isinstance(kwargs["outfile"], str):  # opened here: doit would empty it at the beginning of every pass
                kwargs["outfile"] = stack.enter_context(open(kwargs["outfile"], "w", encoding="utf-8"))
            return self._run(args, kwargs)

    def _run(self, args: Any, kwargs: Any) -> int:
        session = self.session
        if session.experiment.provider == "local":
            from pipeline.providers.local import keep_stderr

            keep_stderr()
        session.run.progress, session.run.notice = session.display, session.display.notice
        for warning in session.config.warnings:
            session.display.notice(warning)
        if not session.run.paths.state.exists():
            for other in plan.others(session):
                session.display.notice(other.line)
        if session.adoption_notes is not None:
            session.display.notice(
                f"run {session.run.paths.run_id} of the predecessor is adopted: its answers are used as they are, nothing is asked"
            )
            for note in session.adoption_notes:
                session.display.notice(f"uncertain: {note}")
        if session.from_snapshot:
            session.display.notice(f"run {session.run.paths.run_id} continues from its own snapshot")
        self._refuse_early()
        if build.frozen(session.run) or "prepare" not in session.steps:
            check_inputs(session)
        lock = opening.open_run(session)
        try:
            # Closing too: it waits for the model's call in hand, which a second signal cuts short.
            with session.run.stop.signals(session.display.tell_stop):
                try:
                    with session.display:
                        code = self._passes(args, kwargs)
                    code = self._finish(code)
                finally:
                    session.run.close()
                    self.dep_manager.backend.shutdown()
        finally:
            lock.release()
        return code

    def _refuse_early(self) -> None:
        """What doit or the end of the run would refuse, refused before anything is done."""
        if not self.sel_default_tasks:
            TaskControl(self.task_list).process(self.sel_tasks)
        wanted = self.params["require"]
        if wanted:
            from pipeline.statistics.verdict import WORDS

            if wanted not in WORDS:
                raise UsageError(f"{wanted!r} is no verdict", where="--require", remedy=f"Use one of {', '.join(WORDS)}.")

    def _passes(self, args: Any, kwargs: Any) -> int:
        """Shards are known once prepare and build have run: where they have not, a first pass runs these two alone."""
        session = self.session
        wanted, default = self.sel_tasks, self.sel_default_tasks
        first = [step for step in LAYOUT_STEPS if session.chosen(step)]
        no_shards = wanted and all(name.partition(":")[0] in WITHOUT_SHARDS for name in wanted)
        if first and not no_shards and not build.frozen(session.run):
            self.sel_tasks = first
            ours = kwargs["reporter"] == "abiding"  # another's report (JSON, say) is one document: that of the second pass, which has all
            code = self._pass(args, kwargs if ours else {**kwargs, "reporter": "error-only"})
            if code:
                return code
            session.run.relayout()
            self.task_list = self.loader.load_tasks(cmd=self, pos_args=[])
            self.sel_tasks = wanted
            check_inputs(session)
        elif build.frozen(session.run):
            self._say_frozen()
        if not no_shards and set(session.steps) & set(FAMILY_STEPS):
            opening.register(session)
        self.sel_tasks, self.sel_default_tasks = wanted, default
        return self._pass(args, kwargs)

    def _pass(self, args: Any, kwargs: Any) -> int:
        return int(super()._execute(*args, **kwargs))

    def _say_frozen(self) -> None:
        built = self.session.run.built()
        asked, lines = build.parts_wanted(self.session.run), self.session.run.options.lines_per_part
        given = getattr(self.params, "_non_default_keys", ())
        if built and (
            ("parts_per_dataset" in given and asked != built["layout"]["parts"])
            or ("lines_per_part" in given and lines != built["layout"]["lines_per_part"])
        ):
            self.session.display.notice(
                "batch_inputs/build_manifest.json froze the layout of this run: --parts_per_dataset and --lines_per_part change nothing"
            )

    # --- the end -------------------------------------------------------------------------------------------------------

    def _finish(self, code: int) -> int:
        session, run = self.session, self.session.run
        if run.events_written or not self.sel_default_tasks or not truth.finished(session):
            truth.refresh(session)
        truth.settle(session)
        if session.errors:
            return self._tell(session.errors)
        if code:
            return OUR_DEFECT
        if not self.params["quiet"] and not run.events_written:
            print("everything is up to date")
        self._verdicts()
        return 0

    def _tell(self, errors: list[AbidingError]) -> int:
        """One line for what ended the run: a stop outranks what the stop made fail."""
        stopped = [e for e in errors if isinstance(e, Stopped)]
        first = next((e for e in errors if not isinstance(e, Stopped)), None) or stopped[0]
        told = str(first) if str(first).startswith("stopped") else f"{'stopped' if isinstance(first, Stopped) else 'error'}: {first}"
        print(told, file=sys.stderr)
        if isinstance(first, Stopped):
            print(f"resume: {self._resume_line(first.resume_with)}", file=sys.stderr)
        return first.exit_code

    def _resume_line(self, more: tuple[str, ...]) -> str:
        experiments = self.session.config["paths"]["experiments_dir"]
        elsewhere = [] if experiments == "experiments" else ["--experiments_dir", experiments]
        return shlex.join(["doit", "run", "--run_id", self.session.run.paths.run_id, "--resume", *elsewhere, *more])

    def _verdicts(self) -> None:
        session = self.session
        files = [session.run.paths.trial(slug) for slug in session.trials]
        documents = [parse_json(t.significance.read_bytes()) for t in files if t.significance.exists()]
        complete = len(documents) == len(files) and session.condition == "both"
        if not complete or "report" not in session.steps:
            self._require(documents, complete=complete)
            return
        from pipeline.reporting.terminal import print_verdicts

        print_verdicts(documents)
        report = session.run.paths.aggregate_html if len(files) > 1 else files[0].report_html
        shown = report.relative_to(session.root) if report.is_relative_to(session.root) else report
        print(f"report: {shown}")
        if self.params["open"] and not webbrowser.open(report.resolve().as_uri()):
            session.display.notice("--open: there is no browser here; open the report by hand")
        self._require(documents, complete=True)

    def _require(self, documents: list[dict[str, Any]], *, complete: bool) -> None:
        wanted = self.params["require"]
        if not wanted:
            return
        if not complete:
            raise RequireNotMet(f"there is no verdict yet, {wanted} was required", remedy="Run on to the end: doit run")
        from pipeline.statistics.verdict import meets

        for document in documents:
            if document["verdict"]["role"] == "primary" and not meets(document["verdict"], wanted):
                raise RequireNotMet(f"the verdict of {document['trial']} is {document['verdict']['verdict']}, {wanted} was required")
