"""The plan as tables that one reads at a glance: phases, shards, cost. Fitted to a terminal, whole elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from pipeline.providers.money import EXPECTED_MARGIN

SHARDS_SHOWN = 24
COUNTS = ("requests", "done", "reuse", "poll", "repair", "send")
ALWAYS = ("requests", "send")
"""Counts that are shown even where they are zero for all shards."""
STYLES = {"execute": "bold", "skip (already done)": "green", "skip (not selected)": "dim", "blocked": "bold red"}
NARROWEST = 20
"""Characters that a reason or a shard's name is left, however narrow the terminal."""

Line = tuple[str, str]
"""A line and its style (empty: none)."""


def shortened(name: str, width: int) -> str:
    """At most `width` characters: the middle of a long name goes, its beginning (the arm) and its end (the shard) stay."""
    if len(name) <= width:
        return name
    tail = min(len(name.rpartition("/")[2]) + 1, max(0, width - 2))
    return name[: max(1, width - tail - 1)] + "…" + (name[-tail:] if tail else "")


def print_plan(plan: Mapping[str, Any], stream: IO[str] | None = None) -> None:
    """Print it: on a terminal with emphasis and no line wider than the terminal (but commands), elsewhere plain."""
    out = stream or sys.stdout
    terminal = out.isatty()
    lines = plan_lines(plan, shutil.get_terminal_size().columns if terminal else None)
    if not terminal or os.environ.get("TERM") == "dumb":
        print("\n".join(text for text, _style in lines), file=out)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, highlight=False, force_terminal=True)
    for text, style in lines:
        console.print(Text(text, style=style), soft_wrap=True)


def plan_lines(plan: Mapping[str, Any], width: int | None) -> list[Line]:
    """All lines; with `width` None names and reasons stay whole."""
    lines = [(f"run {plan['run_id']} ({plan['provider']}, {'exists' if plan['exists'] else 'new'})", ""), ("", "")]
    lines += _phases(plan["phases"], width)
    if plan["shards"]:
        lines += [("", ""), *_shards(plan["shards"], plan["total"], width), ("", ""), *_cost(plan, width)]
    notes = [*(u["line"] for u in plan["unfinished"]), *plan["warnings"]]
    return lines + [(f"note: {note}", "yellow") for note in notes]


def _phases(phases: Sequence[Mapping[str, Any]], width: int | None) -> Iterator[Line]:
    widest = max(len(p["action"]) for p in phases)
    yield f"{'phase':<9}{'action':<{widest}}  tasks  why", "dim"
    for p in phases:
        tasks = f"{p['to_run']}/{p['tasks']}" if p["tasks"] else "-"
        head = f"{p['phase']:<9}{p['action']:<{widest}}  {tasks:>5}  "
        why = re.sub(r"^(\w+):\S+ (runs before it)$", r"\1 \2", p["reason"])
        room = None if width is None else max(NARROWEST, width - len(head))
        for i, (part, style) in enumerate(_wrapped(why, room, STYLES[p["action"]])):
            yield (head if i == 0 else " " * len(head)) + part, style


def _shards(shards: Mapping[str, Mapping[str, Any]], total: Mapping[str, Any], width: int | None) -> Iterator[Line]:
    columns = [c for c in COUNTS if total[c] or c in ALWAYS]
    widths = {c: max(len(c), len(f"{total[c]:,}")) + 2 for c in columns}
    names = list(shards)[:SHARDS_SHOWN]
    room = max(len("shard"), *map(len, names))
    if width is not None:
        room = min(room, max(NARROWEST, width - sum(widths.values())))

    def row(name: str, counts: Mapping[str, Any]) -> str:
        return f"{shortened(name, room):<{room}}" + "".join(f"{counts[c]:>{widths[c]},}" for c in columns)

    yield f"{'shard':<{room}}" + "".join(f"{c:>{widths[c]}}" for c in columns), "dim"
    yield from ((row(name, shards[name]), "") for name in names)
    if len(shards) > len(names):
        yield f"... {len(shards) - len(names)} more shards (--json lists all)", "dim"
    if len(shards) > 1:
        yield row("all", total), "bold"


def _cost(plan: Mapping[str, Any], width: int | None) -> Iterator[Line]:
    total, cap = plan["total"], plan["max_usd"]
    if total["oldest_reused"]:
        yield f"the oldest answer to be reused is of {total['oldest_reused'][:10]}", ""
    if not total["send"]:
        yield "nothing to send" + (": what is under way was counted when it was sent" if total["poll"] else ", nothing to pay"), ""
        return
    yield f"{'to send':<9}{'prompt tokens':>15}{'answer tokens':>15}{'dollars':>12}", "dim"
    for name, how in (("expected", "expected"), ("at worst", "worst")):
        dollars = "no price" if total["worst_usd"] is None else f"{total[f'{how}_usd']:.4f}" if total["worst_usd"] else "free"
        yield f"{name:<9}{total[f'{how}_prompt_tokens']:>15,}{total[f'{how}_completion_tokens']:>15,}{dollars:>12}", "bold"
    if cap is not None:
        yield f"{'cap':<9}{'':>30}{cap:>12.4f}", "bold"
        if total["worst_usd"] is not None and total["worst_usd"] > cap:
            stops = "the cap may be reached before the end: the run then stops (exit 3) and says what it needs"
            yield from _wrapped(stops, width, "yellow")
    explained = f"expected: {EXPECTED_MARGIN}, answers half of max_new_tokens; worst: a token a byte, answers all of max_new_tokens"
    yield from _wrapped(explained, width, "dim")


def _wrapped(text: str, width: int | None, style: str) -> Iterator[Line]:
    return ((part, style) for part in (textwrap.wrap(text, width) if width else [text]))
