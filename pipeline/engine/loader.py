"""The loader plugin: adds abiding's options to every doit command and opens the session that `dodo.py` speaks of."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from doit.cmd_base import DodoTaskLoader

from pipeline.base.errors import ManifestError, UsageError
from pipeline.engine import options
from pipeline.engine.backend import DurableSqliteDB
from pipeline.engine.checker import DigestChecker
from pipeline.engine.session import Session, set_current
from pipeline.records.lock import RunLock
from pipeline.records.run_state import RunState

SETTLED = {"backend": "--backend", "dep_file": "--db-file", "check_file_uptodate": "--check_file_uptodate"}


class AbidingLoader(DodoTaskLoader):  # type: ignore[misc]
    """Loads `dodo.py` for one run."""

    cmd_options = (*DodoTaskLoader.cmd_options, *options.LOADER_OPTIONS)
    readonly = True
    """Set by the command: False only for commands that change something."""
    exclusive = False
    """Set by commands other than run that change something: they wait for nobody, but never work beside a run."""
    session: Session
    lock: RunLock | None = None

    def __init__(self) -> None:
        """Refuse empty words here already: doit's own parser trips over them before any command is asked."""
        super().__init__()
        if "" in sys.argv[1:]:
            given = sys.argv[sys.argv.index("", 1) - 1]
            remedy = "Is a shell variable unset? Leave the option out for its default."
            print(f"error: an empty word after {given}. {remedy}", file=sys.stderr)
            raise SystemExit(UsageError.exit_code)

    def setup(self, opt_values: Any) -> None:
        """Change into dodo.py's folder, read the config, open the session. Raises AbidingError."""
        for name, option in SETTLED.items():
            if name in getattr(opt_values, "_non_default_keys", ()):
                raise UsageError(
                    "what doit remembers, and how, is settled here: it has to survive a kill", where=option, remedy="Leave it out."
                )
        if self.readonly:  # not even dodo.py's bytecode
            sys.dont_write_bytecode = True
        super().setup(opt_values)
        self.session = Session(Path.cwd(), opt_values, readonly=self.readonly)
        paths = self.session.run.paths
        if self.exclusive and paths.folder.is_dir():
            lock = RunLock(paths.lock)
            lock.acquire()
            self.lock = lock
        if self.readonly:  # who only looks sees the receipts as they are; a damaged state is the next run's to mend
            with contextlib.suppress(FileNotFoundError, ManifestError):
                self.session.run.state = RunState.load(paths.state)
        DigestChecker.cache = self.session.cache
        DurableSqliteDB.readonly = self.readonly
        set_current(self.session)

    def load_doit_config(self) -> dict[str, Any]:
        """Where doit keeps its database (in the run's folder) and how it compares files."""
        found = dict(super().load_doit_config())
        found.setdefault("sort", "definition")  # the listing is the table of contents
        found.update(dep_file=str(self.session.run.paths.doit_db), backend="durable", check_file_uptodate=DigestChecker, par_type="thread")
        return found
