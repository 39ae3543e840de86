"""`doit list`: the plan at a glance. Writes nothing, needs no key and no network."""

from __future__ import annotations

import functools
from typing import Any

from doit.cmd_list import List

from pipeline.engine.command_line import OneLine
from pipeline.engine.plan import foresee
from pipeline.steps import upgrade_manifests

LETTER = {"run": "R", "done": "U", "blocked": "E", "not selected": "U"}


class AbidingList(OneLine, List):  # type: ignore[misc]
    """As doit's, but with `--status` a task whose upstream will run is R, and a group is R where one of its tasks is."""

    name = "list"

    @functools.wraps(List._execute)  # doit passes what the signature names
    def _execute(self, *args: Any, status: bool = False, **kwargs: Any) -> int:
        self._letters: dict[str, str] = {}
        if status:
            for entry in foresee(self.loader.session):
                letter = LETTER[entry.verdict]
                self._letters[entry.task] = letter
                group = self._letters.get(entry.step, "U")
                self._letters[entry.step] = max(group, letter, key="UER".index)
            self._letters["upgrade_manifests"] = "R" if upgrade_manifests.inputs(self.loader.session.run.paths.experiments) else "U"
        return int(super()._execute(*args, status=status, **kwargs))

    def _print_task(self, template: str, task: Any, status: bool, list_deps: bool, tasks: Any) -> None:
        if not status:
            super()._print_task(template, task, status, list_deps, tasks)
            return
        ignored = self.dep_manager.status_is_ignore(task)
        letter = "I" if ignored else self._letters.get(task.name) or ("U" if task.has_subtask else "R")
        self.outstream.write(template.format(name=task.name, doc=task.doc, status=letter))
        if list_deps:
            for dep in task.file_dep:
                self.outstream.write(f" -  {dep}\n")
            self.outstream.write("\n")
