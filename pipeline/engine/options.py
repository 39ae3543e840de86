"""What may be said on the command line: options of every doit command, and those of `doit run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.base.errors import UsageError
from pipeline.records.run_state import STEPS

WHICH, ASKED, PART, HOW, TOLD = "which run", "what is asked", "which part of it", "how", "what is told"
SECTIONS = (WHICH, ASKED, PART, HOW, TOLD)
"""Headings of `doit help`, in order; doit's own options come after them."""


def _option(section: str, name: str, kind: type, default: Any, text: str, metavar: str = "") -> dict[str, Any]:
    return {
        "section": section, "name": name, "short": "", "long": name, "type": kind, "default": default, "help": text,
        "metavar": metavar or ("N" if kind is int else name.upper()),
    }  # fmt: skip


LOADER_OPTIONS = (
    _option(WHICH, "config", str, "config/eval_config.yaml", "the experiment's config [default: %(default)s]", "FILE"),
    _option(WHICH, "run_id", str, "", "work on this run instead of the one the config's content names"),
    _option(WHICH, "dry_run", bool, False, "ask the simulated provider: costs nothing, another run than the paid one"),
    _option(WHICH, "experiments_dir", str, "", "folder of runs [default: experiments, or paths.experiments_dir]", "FOLDER"),
    _option(ASKED, "prompt_sets", str, "", "prompt sets to compare, a comma-separated list", "A,B"),
    _option(ASKED, "models", str, "", "models to ask, a comma-separated list", "A,B"),
    _option(ASKED, "temps", str, "", "temperatures, a comma-separated list", "T,T"),
    _option(PART, "condition", str, "both", "control, treatment or both: whose requests are sent [default: %(default)s]", "WHICH"),
    _option(PART, "trial", str, "", "work on the trials that match this pattern (as in a shell)", "GLOB"),
    _option(ASKED, "limit_items", int, 0, "ask at most so many items of each source (0: all)"),
    _option(ASKED, "parts_per_dataset", int, 1, "shards per unit and temperature [default: %(default)s]"),
    _option(ASKED, "lines_per_part", int, 0, "at most so many requests a shard (0: no limit)"),
    _option(HOW, "max_concurrent_jobs", int, 0, "at most so many jobs in flight (0: the provider's limit)"),
)
RUN_OPTIONS = (
    _option(WHICH, "resume", bool, False, "continue a run that must exist and whose requests must not have changed"),
    _option(PART, "from_step", str, "", f"begin with this step: {', '.join(STEPS)}", "STEP"),
    _option(PART, "to_step", str, "", "end with this step", "STEP"),
    _option(PART, "only_step", str, "", "this step alone", "STEP"),
    _option(TOLD, "plan_only", bool, False, "print what would be done, and what it would cost; write nothing"),
    _option(TOLD, "json", bool, False, "with --plan_only: as JSON"),
    _option(WHICH, "force", bool, False, "accept that the requests of an existing run changed (recorded)"),
    _option(HOW, "verify", bool, False, "hash every file anew instead of trusting unchanged time stamps"),
    _option(HOW, "max_usd", str, "", "hard cap in dollars on all that this run ever spends", "USD"),
    _option(HOW, "fresh", bool, False, "pay for all answers again: a new generation (recorded)"),
    _option(HOW, "retry_failed", bool, False, "ask again what was given up"),
    _option(HOW, "no_wait", bool, False, "send, look once, and leave: run again later to collect"),
    _option(TOLD, "require", str, "", "exit 5 unless every primary verdict is at least: better, equivalent, not_inferior ...", "VERDICT"),
    _option(TOLD, "open", bool, False, "open the report at the end"),
    _option(TOLD, "quiet", bool, False, "print errors and the verdict only"),
)


def words(text: str) -> tuple[str, ...] | None:
    """A comma-separated list; None for an empty one."""
    found = tuple(w.strip() for w in text.split(",") if w.strip())
    return found or None


def temps(text: str) -> tuple[float | str, ...] | None:
    """Temperatures: numbers, or `default`. Raises UsageError."""
    found: list[float | str] = []
    for word in words(text) or ():
        try:
            value = word if word == "default" else float(word)
            if not isinstance(value, str) and not 0 <= value < float("inf"):
                raise ValueError(word)
        except ValueError:
            raise UsageError(f"{word!r} is no temperature", where="--temps", remedy="Give numbers, or the word default.") from None
        found.append(value)
    return tuple(found) or None


def dollars(text: str) -> float | None:
    """A sum of money; None for none given. Raises UsageError."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{text!r} is no sum in dollars", where="--max_usd", remedy="Give a number, as in --max_usd 2.50.")
    return value


def steps_chosen(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps that `--from_step --to_step --only_step` leave, in order. Raises UsageError naming the allowed words."""
    for option in ("from_step", "to_step", "only_step"):
        if params.get(option) and params[option] not in STEPS:
            raise UsageError(f"there is no step {params[option]!r}", where=f"--{option}", remedy=f"Steps are: {', '.join(STEPS)}.")
    if params.get("only_step"):
        if params.get("from_step") or params.get("to_step"):
            raise UsageError("--only_step goes neither with --from_step nor with --to_step", where="--only_step", remedy="Use one of them.")
        return (params["only_step"],)
    first = STEPS.index(params.get("from_step") or STEPS[0])
    last = STEPS.index(params.get("to_step") or STEPS[-1])
    if first > last:
        raise UsageError(f"step {STEPS[first]!r} comes after {STEPS[last]!r}", where="--from_step", remedy="Swap them.")
    return STEPS[first : last + 1]
