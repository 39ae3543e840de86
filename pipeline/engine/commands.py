"""doit's own commands with our manners. `run` and `list` have modules of their own."""

from __future__ import annotations

import json
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.cmd_clean import Clean
from doit.cmd_completion import TabCompletion
from doit.cmd_forget import Forget
from doit.cmd_ignore import Ignore
from doit.cmd_info import Info
from doit.cmd_resetdep import ResetDep
from doit.cmd_strace import Strace

from pipeline.base.errors import UsageError
from pipeline.engine import completion
from pipeline.engine.command_line import OneLine
from pipeline.engine.plan import foresee

STATUS = {"done": "up-to-date", "blocked": "error"}
"""doit's words for our verdicts."""


class AbidingInfo(OneLine, Info):  # type: ignore[misc]
    """`doit info TASK`: its files, whether it would run (then exit 1) and why, as `doit list --status` and the plan have it."""

    name = "info"
    doc_purpose = "show a task's files, whether it would run, and why (exit 1 where it would)"

    def _execute(self, pos_args: Any, hide_status: bool = False) -> int:
        unknown = [name for name in pos_args if name not in {t.name for t in self.task_list}]
        if unknown:
            raise UsageError(f"there is no task {unknown[0]!r}", remedy="`doit list --all` has their names.")
        found = [a for a in foresee(self.loader.session) if pos_args and pos_args[0] in (a.task, a.step)]
        code = int(super()._execute(pos_args, hide_status or bool(found)) or 0)
        if hide_status or not found:
            return code
        self.outstream.write("\nstatus     :\n")
        for entry in found:
            self.outstream.write(f" - {entry.task}: {STATUS.get(entry.verdict, entry.verdict)} ({entry.reason})\n")
        return int(any(entry.verdict in ("run", "blocked") for entry in found))


class AbidingClean(OneLine, Clean):  # type: ignore[misc]
    """`doit clean`: removes result files and reports, never items, requests or answers."""

    name, writes, dry_run_means = "clean", True, "--dry-run"
    doc_purpose = "remove result files and reports, never items, requests or answers (--dry_run: only say which)"
    doc_description = "Without a task: all of the run that --config or --run_id name. A dry run's: --run_id R."


class AbidingForget(OneLine, Forget):  # type: ignore[misc]
    """`doit forget`: doit forgets; the receipts remember, so what is done is rechecked, not redone."""

    name, writes = "forget", True
    doc_purpose = "let doit forget what was done: it is rechecked by its receipts, not redone"
    sel_tasks: list[str] | None

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> int:
        if self.sel_tasks is None:  # no task is named and dodo.py has no default ones: all are meant, as with `doit run`
            self.sel_tasks = [t.name for t in self.task_list if not t.subtask_of]
        return int(super()._execute(forget_sub, forget_disable_default, forget_all) or 0)


class AbidingIgnore(OneLine, Ignore):  # type: ignore[misc]
    """`doit ignore TASK`."""

    name, writes = "ignore", True


class AbidingResetDep(OneLine, ResetDep):  # type: ignore[misc]
    """`doit reset-dep`."""

    name, writes = "reset-dep", True


class AbidingDumpDB(OneLine, DoitCmdBase):  # type: ignore[misc]
    """`doit dumpdb`: what doit remembers of each task of the run."""

    name = "dumpdb"
    doc_purpose = "dump what doit remembers of each task"
    doc_usage = ""
    doc_description = None
    cmd_options = ()

    def _execute(self, dep_file: str) -> int:
        for task in sorted(self.task_list, key=lambda t: str(t.name)):
            for key, value in sorted(self.dep_manager.backend._get_task_data(task.name).items()):
                self.outstream.write(f"{task.name} {key} {json.dumps(value, sort_keys=True)}\n")
        return 0


class AbidingStrace(OneLine, Strace):  # type: ignore[misc]
    """`doit strace TASK`."""

    name, writes = "strace", True


class AbidingTabCompletion(OneLine, TabCompletion):  # type: ignore[misc]
    """`doit tabcompletion`: prints a script for bash or zsh."""

    name = "tabcompletion"
    cmds: dict[str, Any]

    def execute(self, opt_values: Any, pos_args: Any) -> int:
        """Print it."""
        made = {name: self.cmds[name](**self.init_kwargs) for name in sorted(self.cmds)}
        self.outstream.write(completion.zsh(made) if opt_values["shell"] == "zsh" else completion.bash(made))
        return 0
