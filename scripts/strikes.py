"""Child runs that can be struck at a named point: `doit run` in a process of its own, announcing where it stands."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.checkpoints import VARIABLE
from pipeline.layout import find_root

START, MOMENT = "start", "moment"
"""What stands for a checkpoint where there is none: the child's first breath, and wherever it was when a delay was over."""
PROJECT_FILES = ("dodo.py", "pyproject.toml", "config")
Decide = Callable[[str, int], bool]
"""Given a checkpoint's name and how often it was announced: strike now?"""


def make_project(folder: Path) -> Path:
    """A project folder of its own (dodo.py, config): its data and experiments are nobody else's."""
    root = find_root()
    folder.mkdir(parents=True)
    for name in PROJECT_FILES:
        source = root / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
    return folder


@dataclass
class Ended:
    """How a child ended: its exit code (negative: killed by that signal), what was announced and after how many seconds, and where it was
    struck."""

    code: int
    announced: list[str]
    at: list[float]
    struck_at: str | None
    output: str

    @property
    def last_words(self) -> str:
        """The end of its output, in one line."""
        return " / ".join(self.output.strip().splitlines()[-3:])


def warm_up() -> None:
    """Import what a run imports, so that forked children start at once."""
    import doit.doit_cmd
    import jinja2
    import jsonschema
    import matplotlib.figure
    import scipy.stats

    import pipeline.engine.cmd_run
    import pipeline.engine.reporter
    import pipeline.providers.simulated
    import pipeline.reporting.trial
    import pipeline.scoring.files
    import pipeline.statistics.analysis

    assert doit and jinja2 and jsonschema and matplotlib and scipy and pipeline


def run_child(
    project: Path,
    words: Sequence[str],
    decide: Decide | None = None,
    strike: Callable[[int], None] | None = None,
    *,
    fork: bool = True,
    delay: float = 0.0,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run `doit run WORDS` in `project` as a child process. Where `decide` says so, `strike(pid)` is called while the child waits; with a
    `delay` so many seconds after it went on, or at its next announcement should that come sooner.

    The child's being there counts as the announcement `start`. With `fork` the child begins with this process's imports (the simulated
    provider); without, or with a `command` of Python in place of `-m doit run`, it is a new interpreter. `environment` is added to ours.
    """
    says, hears = os.pipe(), os.pipe()
    log = project / ".child.log"
    environment = {**os.environ, **(environment or {}), VARIABLE: f"{says[1]},{hears[0]}", "NO_COLOR": "1"}
    python = None if fork and command is None else [sys.executable, *(command or ("-m", "doit", "run")), *words]
    pid = os.fork()
    if pid == 0:
        _become(project, words, environment, log, (says[0], hears[1]), (says[1], hears[0]), python)
    os.close(says[1])
    os.close(hears[0])
    listener = _Listener(hears[1], pid, decide, strike, delay)
    listener.listen(says[0])
    _pid, status = os.waitpid(pid, 0)
    os.close(says[0])
    os.close(hears[1])
    said = log.read_text("utf-8", "replace") if log.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), listener.announced, listener.at, listener.struck_at, said)


def _become(
    project: Path,
    words: Sequence[str],
    environment: dict[str, str],
    log: Path,
    parents: tuple[int, int],
    ours: tuple[int, int],
    python: list[str] | None,
) -> None:
    """In the child: close the parent's ends, take the log as output, and run doit, or become `python`. Never returns."""
    code = 1
    try:
        for fd in parents:
            os.close(fd)
        for fd in ours:
            os.set_inheritable(fd, True)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(project)
        if python is not None:
            os.execve(sys.executable, python, environment)
        os.environ.update(environment)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
        from doit.doit_cmd import DoitMain

        code = int(DoitMain().run(["run", *words]) or 0)
    except SystemExit as e:
        code = int(e.code or 0)
    except BaseException:  # noqa: BLE001 - the child's last word before it goes: the parent reads it in the log
        traceback.print_exc()
    finally:
        os._exit(code)


class _Listener:
    """Hears what a child announces, strikes once, and lets it go on."""

    def __init__(self, answers: int, pid: int, decide: Decide | None, strike: Callable[[int], None] | None, delay: float) -> None:
        self.announced: list[str] = []
        self.at: list[float] = []
        self.struck_at: str | None = None
        self._answers, self._pid, self._decide, self._strike, self._delay = answers, pid, decide, strike, delay
        self._counts: Counter[str] = Counter()
        self._began = time.monotonic()
        self._due: float | None = None
        self._hear(START)

    def listen(self, reads: int) -> None:
        """Until the child is gone."""
        rest = b""
        while True:
            if self._due is not None and self.struck_at is None:
                left = max(0.0, self._due - time.monotonic())
                if not select.select([reads], [], [], left)[0]:
                    self._do_strike(MOMENT)
            chunk = os.read(reads, 4096)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._hear(line.decode())
                with suppress(OSError):  # the child is dead: it does not wait any more
                    os.write(self._answers, b".")

    def _hear(self, name: str) -> None:
        self.announced.append(name)
        self.at.append(time.monotonic() - self._began)
        self._counts[name] += 1
        if self.struck_at is not None or self._decide is None:
            return
        if self._due is not None:
            self._do_strike(MOMENT)
        elif self._decide(name, self._counts[name]):
            if self._delay:
                self._due = time.monotonic() + self._delay
            else:
                self._do_strike(name)

    def _do_strike(self, at: str) -> None:
        assert self._strike is not None
        self.struck_at = at
        self._strike(self._pid)


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def terminate(pid: int) -> None:
    """SIGTERM."""
    os.kill(pid, signal.SIGTERM)
