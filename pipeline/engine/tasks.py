"""From a step module to doit tasks: one sub-task per subject, with file dependencies, targets and an up-to-date check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.base.errors import AbidingError
from pipeline.engine.action import Action, runner
from pipeline.engine.session import current
from pipeline.records.receipts import relative
from pipeline.steps import upgrade_manifests

PAID = ("prepare", "build", "submit", "poll")
"""`doit clean` leaves what these made: answers were paid for, and the rest is what they answer."""

Task = dict[str, Any]
Tasks = Iterator[Task]


def tasks_of(step: ModuleType) -> Tasks:
    """The doit tasks of a step of this process's session."""
    session = current()
    name = step.__name__.rpartition(".")[2]
    text = (step.__doc__ or "").split("\n")[0]
    yield {"name": None, "doc": text.partition(": ")[2] or text}
    if not session.chosen(name):
        return
    for subject, ctx in session.subjects(name):
        action = Action(session, name, ctx)
        task: dict[str, Any] = {
            "name": subject,
            "doc": f"{name} {subject}",
            "file_dep": list(dict.fromkeys(relative(p, session.root) for p in action.inputs)),
            "targets": [relative(p, session.root) for p in action.targets],
            "uptodate": [action.up_to_date],
            "actions": [runner(action, session.keep_error)],
            "clean": [] if name in PAID else True,
        }
        if name == "poll":
            task["task_dep"] = [f"submit:{subject}"] if session.chosen("submit") else []
        yield task


def upgrade_task() -> Task:
    """The doit task that upgrades manifests of older versions below the experiments folder; up to date where there are none."""
    session = current()
    experiments = session.run.paths.experiments

    def act() -> Any:
        from doit.exceptions import TaskFailed

        try:
            facts = upgrade_manifests.run(experiments)
        except AbidingError as e:
            session.keep_error(e)
            return TaskFailed(str(e), report=False)
        for path in facts["upgraded"]:
            session.run.notice(f"upgraded {relative(Path(path), session.root)}; its original is beside as *.backup.*.json")
        return None

    return {"actions": [act], "uptodate": [lambda: not upgrade_manifests.inputs(experiments)]}
