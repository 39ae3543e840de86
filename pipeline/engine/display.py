"""What a run shows while it works: lines that stay, and on a terminal below them a region that is rewritten."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from pipeline.engine.progress import PLAIN_SECONDS, Pace, count, plain_line
from pipeline.records.run_state import STEPS
from pipeline.records.stop import say_on_stderr
from pipeline.steps.context import Run

if TYPE_CHECKING:
    from rich.live import Live

REFRESH_PER_SECOND = 4


class Phase:
    """A phase under way: how many of its tasks are done, and since when it runs (monotonic seconds)."""

    def __init__(self, tasks: int) -> None:
        self.tasks, self.done = tasks, 0
        self.begun: float | None = None

    @property
    def running(self) -> bool:
        """Begun and not through."""
        return self.begun is not None and self.done < self.tasks


class Display:
    """The output of one `doit run`. A context: on leaving it the terminal is as it was, whatever happened.

    The region needs a terminal on stdout and on stderr (on one of the two alone, lines of the other would fall into it); else all is
    plain lines. It appears with the first task that runs. The cursor is never hidden: a SIGKILL could not bring it back.
    """

    def __init__(self, run: Run, steps: tuple[str, ...], *, quiet: bool) -> None:
        """`steps`: the chosen ones, in order."""
        self.run, self.steps, self.quiet = run, steps, quiet
        self.phases: dict[str, Phase] = {}
        self.published: set[str] = set()
        """Shards whose answers this process collected, by whichever task."""
        self.pace = Pace()
        self._last = time.monotonic()
        self._live: Live | None = None
        self._able = not quiet and sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_exception: Any) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    # --- lines -----------------------------------------------------------------------------------------------------------

    def say(self, line: str, stream: IO[str] | None = None) -> None:
        """A line that stays, on `stream` (stdout). Nothing with --quiet."""
        if self.quiet:
            return
        out = stream or sys.stdout
        if self._live is not None and out.isatty():
            from rich.text import Text

            self._live.console.print(Text(line), soft_wrap=True)
        else:
            print(line, file=out, flush=True)

    def notice(self, text: str) -> None:
        """A remark worth a line on stderr."""
        self.say(f"note: {text}", sys.stderr)

    def tell_stop(self, text: str) -> None:
        """A signal came: the region shows it by itself, at its next refresh."""
        if self._live is None:
            say_on_stderr(text)

    # --- progress --------------------------------------------------------------------------------------------------------

    def expect(self, tasks: Mapping[str, int]) -> None:
        """The tasks that each phase of this pass has."""
        self.phases.update((phase, Phase(number)) for phase, number in tasks.items())

    def begin(self, phase: str) -> None:
        """A task of this phase is about to run."""
        if self.phases[phase].begun is None:
            self.phases[phase].begun = time.monotonic()
        if self._able and self._live is None:
            self._start()

    def advance(self, phase: str) -> None:
        """A task of this phase is done."""
        self.phases[phase].done += 1

    def ahead(self) -> list[str]:
        """The chosen phases that have not begun."""
        waiting = [p for p in self.steps if p not in self.phases or (self.phases[p].begun is None and self.phases[p].done == 0)]
        begun = [STEPS.index(p) for p, phase in self.phases.items() if phase.begun is not None]
        return [p for p in waiting if not begun or STEPS.index(p) > max(begun)]

    def __call__(self, event: str, shard: str) -> None:
        """The queue's news: without a region, a plain line now and then."""
        if event == "published":
            self.published.add(shard)
        now = time.monotonic()
        if self._live is None and not self.quiet and now - self._last >= PLAIN_SECONDS:
            self._last = now
            print(plain_line(count(self.run.queue), self.pace), file=sys.stderr, flush=True)

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        from pipeline.engine.region import Region

        console = Console(file=sys.stderr, force_terminal=True, highlight=False)
        self._live = Live(Region(self), console=console, transient=True, refresh_per_second=REFRESH_PER_SECOND)
        self._live.start()
        console.show_cursor(True)
