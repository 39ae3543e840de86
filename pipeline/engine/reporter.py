"""What `doit run` prints: a line per phase while it works, plain on a pipe; doit calls these methods."""

from __future__ import annotations

import sys
import time
from typing import Any

from pipeline.engine import truth
from pipeline.engine.session import Session, current
from pipeline.records.run_state import STEPS, WITHIN


def session_is_narrow(session: Session) -> bool:
    """Whether --condition or --trial leave something out."""
    return session.condition != "both" or len(session.trials) < len(session.experiment.trials)


class AbidingReporter:
    """Progress by phase. Keeps the run state's phases in step with what doit reports."""

    desc = "a line per phase"

    def __init__(self, outstream: Any, options: Any) -> None:
        self._out = outstream
        self._session = current()
        self._display = self._session.display
        self._left: dict[str, int] = {}
        self._partial: set[str] = set()
        self._ran: dict[str, int] = {}
        self._began: dict[str, float] = {}

    @staticmethod
    def _phase(task: Any) -> str | None:
        base = task.name.partition(":")[0]
        base = WITHIN.get(base, base)
        return base if base in STEPS and task.actions else None

    def initialize(self, tasks: dict[str, Any], selected_tasks: list[str]) -> None:
        """Count the tasks of each phase that this pass will see."""
        needed: set[str] = set()
        todo = list(selected_tasks)
        while todo:
            name = todo.pop()
            if name not in needed and name in tasks:
                needed.add(name)
                todo += [*tasks[name].task_dep, *tasks[name].setup_tasks]
        every: dict[str, int] = {}
        for name, task in tasks.items():
            if phase := self._phase(task):
                every[phase] = every.get(phase, 0) + 1
                if name in needed:
                    self._left[phase] = self._left.get(phase, 0) + 1
        self._partial = {p for p, count in self._left.items() if session_is_narrow(self._session) or count < every[p]}
        self._display.expect(self._left)

    def get_status(self, task: Any) -> None:
        """doit looks at a task."""

    def execute_task(self, task: Any) -> None:
        """doit is about to run a task."""
        if phase := self._phase(task):
            self._began.setdefault(phase, time.monotonic())
            self._display.begin(phase)

    def add_failure(self, task: Any, fail: Any) -> None:
        """A task failed: the error itself is told at the end; what is not ours is told here, whole."""
        run, phase = self._session.run, self._phase(task)
        if phase and run.state is not None and run.state.status(phase) == "in_progress":
            stopped = any(e.exit_code == 3 for e in self._session.errors)
            run.state.move(
                phase, "stopped" if stopped else "failed", str(self._session.errors[-1]) if self._session.errors else fail.get_msg()
            )
        if not self._session.errors:
            print(f"error: {task.name}: {fail.get_name()}\n{fail.get_msg()}", file=sys.stderr)

    def add_success(self, task: Any) -> None:
        """A task ran."""
        if not (phase := self._phase(task)):
            return
        facts = (task.values or {}).get("facts", {})
        if not facts.get("rechecked") or (phase == "poll" and task.name.partition(":")[2] in self._display.published):
            self._ran[phase] = self._ran.get(phase, 0) + 1
        self._finish_one(phase)

    def skip_uptodate(self, task: Any) -> None:
        """A task needed not run."""
        if phase := self._phase(task):
            self._finish_one(phase)

    def skip_ignore(self, task: Any) -> None:
        """A task was set aside by `doit ignore`."""
        if phase := self._phase(task):
            self._finish_one(phase)

    def _finish_one(self, phase: str) -> None:
        self._left[phase] -= 1
        self._display.advance(phase)
        if self._left[phase]:
            return
        state = self._session.run.state
        if state is not None:
            if state.status(phase) != "completed" and state.status(phase) != "in_progress":
                state.move(phase, "in_progress")
            if phase not in self._partial or truth.all_done(self._session, phase):
                state.move(phase, "completed")
            elif state.status(phase) == "in_progress":
                state.move(phase, "stopped", "only a part of it was chosen")
        if ran := self._ran.get(phase, 0):
            took = time.monotonic() - self._began.get(phase, time.monotonic())
            self._display.say(f"{phase:<8} {ran} task{'s' if ran != 1 else ''} done, {took:.1f} s", self._out)

    def cleanup_error(self, exception: Any) -> None:
        """A teardown failed."""
        print(f"error: {exception.get_msg()}", file=sys.stderr)

    def runtime_error(self, msg: str) -> None:
        """doit itself refused."""
        print(f"error: {msg}", file=sys.stderr)

    def teardown_task(self, task: Any) -> None:
        """doit tears a task down."""

    def complete_run(self) -> None:
        """doit is through with this pass."""
