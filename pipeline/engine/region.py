"""The part of the terminal that is rewritten while a run works: phases, answers, shards, money, what is to come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.engine.plan_table import shortened
from pipeline.engine.progress import Count, ShardCount, count
from pipeline.records.stop import ONCE_MORE

if TYPE_CHECKING:
    from pipeline.engine.display import Display, Phase

SHARDS_SHOWN = 6
OTHER_LINES = 8
"""Of a terminal's height, what the region leaves to everything but shards."""
BAR, MOST_OF_BAR = 8, 40
STYLES = {"done": "green", "running": "bold", "waiting": "yellow", "sending": "yellow", "to send": "dim"}
ORDER = ("running", "waiting", "sending", "to send", "done")


class Region:
    """Renders the display anew at each refresh."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The lines, fitted into the terminal's width and height."""
        display, width = self._display, options.max_width
        queue = display.run.__dict__.get("queue")  # made by the step that needs it, never by who only looks
        running = {name: phase for name, phase in display.phases.items() if phase.running}
        asking = [name for name in running if name in ("submit", "poll")]
        for name, phase in running.items():
            if queue is None or name not in asking:
                yield _phase(name, phase)
        if queue is not None and asking:
            now = count(queue)
            yield _answers("/".join(asking), now, display.pace.say(now), width)
            yield from _shards(now, width, min(SHARDS_SHOWN, max(1, console.size.height - OTHER_LINES)))
            if money := now.money():
                yield Text(f"  {money}", no_wrap=True, overflow="ellipsis")
        if reason := display.run.stop.reason:
            hint = "" if reason == "STOP_REQUESTED" else f" ({ONCE_MORE})"
            yield Text(f"{reason}: finishing what is in hand, then stopping{hint}", style="bold yellow")
        elif ahead := display.ahead():
            yield Text(f"  then {', '.join(ahead)}", style="dim", no_wrap=True, overflow="ellipsis")


def _phase(name: str, phase: Phase) -> Text:
    took = time.monotonic() - (phase.begun or 0.0)
    return Text.assemble((f"{name:<9}", "bold"), f"{phase.done}/{phase.tasks} task{'s' if phase.tasks != 1 else ''}, {took:.0f} s")


def _grid() -> Table:
    return Table.grid(padding=(0, 1, 0, 0))


def _answers(name: str, now: Count, pace: str, width: int) -> Table:
    said = ", ".join(filter(None, [f"{now.done}/{now.requests} answers", pace]))
    table = _grid()
    table.add_column(no_wrap=True, min_width=8)
    table.add_column()
    table.add_column(no_wrap=True, overflow="ellipsis")
    room = width - max(8, len(name)) - len(said) - 3
    bar = ProgressBar(total=max(1, now.requests), completed=now.done, width=max(BAR, min(MOST_OF_BAR, room)))
    table.add_row(Text(name, style="bold"), bar, said)
    return table


def _shards(now: Count, width: int, most: int) -> Iterator[RenderableType]:
    shown: list[ShardCount] = list(now.shards)
    if len(shown) > most:  # those at work; Python's sort keeps the order within a word
        shown = sorted(shown, key=lambda s: ORDER.index(s.word))[:most]
    digits = max(len(str(s.requests)) for s in shown)
    names = max(len(s.name) for s in shown)
    table = _grid()
    for _ in range(4):
        table.add_column(no_wrap=True)
    room = width - 2 - BAR - (2 * digits + 1) - len("running") - 4
    for s in shown:
        bar = ProgressBar(total=max(1, s.requests), completed=s.done, width=BAR)
        part = f"{s.done:>{digits}}/{s.requests:>{digits}}"
        table.add_row(f"  {shortened(s.name, max(8, min(names, room)))}", bar, part, Text(s.word, style=STYLES[s.word]))
    yield table
    if rest := [s.word for s in now.shards if s not in shown]:
        counts = Counter(rest)
        yield Text(f"  and {len(rest)} more: " + ", ".join(f"{counts[w]} {w}" for w in ORDER if counts[w]), style="dim")
