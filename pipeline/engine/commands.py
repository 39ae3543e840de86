"""doit's own commands with our manners. `run` and `list` have modules of their own."""

from __future__ import annotations

from doit.cmd_clean import Clean
from doit.cmd_completion import TabCompletion
from doit.cmd_dumpdb import DumpDB
from doit.cmd_forget import Forget
from doit.cmd_ignore import Ignore
from doit.cmd_info import Info
from doit.cmd_resetdep import ResetDep
from doit.cmd_strace import Strace

from pipeline.engine.command_line import OneLine


class AbidingInfo(OneLine, Info):  # type: ignore[misc]
    """`doit info TASK`."""

    name = "info"


class AbidingClean(OneLine, Clean):  # type: ignore[misc]
    """`doit clean`: removes result files and reports, never items, requests or answers."""

    name, writes, dry_run_means = "clean", True, "--dry-run"


class AbidingForget(OneLine, Forget):  # type: ignore[misc]
    """`doit forget`: doit forgets; the receipts remember, so what is done is rechecked, not redone."""

    name, writes = "forget", True


class AbidingIgnore(OneLine, Ignore):  # type: ignore[misc]
    """`doit ignore TASK`."""

    name, writes = "ignore", True


class AbidingResetDep(OneLine, ResetDep):  # type: ignore[misc]
    """`doit reset-dep`."""

    name, writes = "reset-dep", True


class AbidingDumpDB(OneLine, DumpDB):  # type: ignore[misc]
    """`doit dumpdb`."""

    name = "dumpdb"


class AbidingStrace(OneLine, Strace):  # type: ignore[misc]
    """`doit strace TASK`."""

    name, writes = "strace", True


class AbidingTabCompletion(OneLine, TabCompletion):  # type: ignore[misc]
    """`doit tabcompletion`."""

    name = "tabcompletion"
