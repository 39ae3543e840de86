"""`doit help COMMAND`: our options first, by what they are about; then doit's own, those that mean something here."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from pipeline.engine.options import SECTIONS

WIDTH, COLUMN = 110, 30
DOITS_OWN = "doit's own"
HIDDEN = frozenset({"dep_file", "backend", "check_file_uptodate", "par_type", "dodoFile", "cwdPath", "seek_file"})
"""Options of doit that are settled here: where and how it remembers, threads, and the folder of dodo.py."""
TRUE_HERE: Mapping[str, tuple[str, str]] = {
    "num_process": ("N", "so many tasks at a time, in threads [default: 0, one after another]"),
    "reporter": ("NAME", "who tells of the tasks: abiding, console, error-only, executed-only, json or zero [default: abiding]"),
    "outfile": ("FILE", "write what the reporter says there instead of on standard output"),
    "verbosity": ("N", "of what a task prints show 0 nothing, 1 standard error, 2 all [default: 2]"),
}
"""(value, text) of doit's options where doit's own words are not true here."""


def help_of(command: Any) -> str:
    """The help of one of our commands."""
    lines = ["PURPOSE", f"    {command.doc_purpose}", "", "USAGE", f"    doit {command.get_name()} [OPTIONS] {command.doc_usage}".rstrip()]
    options: dict[str, list[str]] = {section: [] for section in (*SECTIONS, DOITS_OWN)}
    hidden = HIDDEN | ({"dry_run"} if command.dry_run_means else set())
    for option in command.cmdparser.options:
        if (option.short or option.long) and option.name not in hidden:
            section = option.section if option.section in SECTIONS else DOITS_OWN
            options[section].append(_option(option))
    lines += ["", "OPTIONS (before or after task names)"]
    for section, told in options.items():
        if told:
            lines += ["", f"  {section}", *told]
    if command.doc_description:
        lines += ["", "DESCRIPTION", textwrap.fill(command.doc_description, WIDTH, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines)


def text_of(option: Any) -> str:
    """What an option does, in one line."""
    _metavar, text = TRUE_HERE.get(option.name, ("", " ".join((option.help % {"default": option.default}).split())))
    return str(text).removesuffix(" [default: False]")


def _option(option: Any) -> str:
    metavar = TRUE_HERE[option.name][0] if option.name in TRUE_HERE else option.metavar
    forms = ", ".join([f"-{option.short}"] * bool(option.short) + [f"--{option.long}"] * bool(option.long))
    head = f"    {forms}" + ("" if option.type is bool else f" {metavar}")
    first = f"{head:<{COLUMN}}" if len(head) < COLUMN else f"{head}\n{'':<{COLUMN}}"
    lines = textwrap.wrap(text_of(option), WIDTH - COLUMN)
    return first + f"\n{'':<{COLUMN}}".join(lines)
