"""How far the answers are: a line that is rewritten on a terminal, and now and then a plain one elsewhere."""

from __future__ import annotations

import sys
import time

from pipeline.providers.queue import Queue
from pipeline.steps.context import Run

ON_TERMINAL, ON_PIPE = 0.5, 30.0
"""Seconds between two lines."""


class Progress:
    """Counts answers over all shards; rate and time left go by what this process has seen."""

    def __init__(self, run: Run, quiet: bool) -> None:
        """Prints to stderr, so that stdout keeps phases and verdict."""
        self._run, self._quiet = run, quiet
        self._last = self._begun = time.monotonic()
        self._first: int | None = None
        self._terminal = sys.stderr.isatty()

    def __call__(self, _event: str, _shard: str) -> None:
        """Something happened to a shard."""
        now = time.monotonic()
        if self._quiet or now - self._last < (ON_TERMINAL if self._terminal else ON_PIPE):
            return
        self._last = now
        line = self.line(self._run.queue, now - self._begun)
        print(f"\x1b[2K{line}\r" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr, flush=True)

    def line(self, queue: Queue, seconds: float) -> str:
        """`answers 34/180, 2 shards in flight, 17 a minute, about 9 min left, $0.0012 of $2.0000`."""
        shards = queue.shards.values()
        total = sum(s.requests for s in shards)
        done = 0
        for s in shards:
            status = queue.status.get(s.name)
            done += s.requests if s.published else (status.done or 0) if status else 0
        if self._first is None:
            self._first = done
        flying = sum(s.in_flight for s in shards)
        parts = [f"answers {done}/{total}", f"{flying} shard{'s' if flying != 1 else ''} in flight"]
        fresh = done - self._first
        if fresh > 0 and seconds > 0:
            rate = fresh / seconds
            left = (total - done) / rate
            parts += [f"{rate * 60:.0f} a minute", f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left"]
        desk = next((s.desk for s in shards), None)
        if desk is not None and desk.budget.cap is not None:
            parts.append(f"${desk.budget.spent:.4f} of ${desk.budget.cap:.4f}")
        return ", ".join(parts)
