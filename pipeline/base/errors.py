"""Errors a person reads: the fact, the place, the remedy, and the exit code that goes with them."""

from __future__ import annotations


class AbidingError(Exception):
    """A failure that is explained in one line and ends the command with `exit_code`.

    Raised below, translated once at the edge (the run command, a script's `main`); never shown as a traceback.
    """

    exit_code = 1

    def __init__(self, fact: str, *, where: str | None = None, remedy: str | None = None) -> None:
        """`fact` says what is wrong, `where` names file:line or key path, `remedy` says what to do."""
        self.fact, self.where, self.remedy = fact, where, remedy
        text = f"{where}: {fact}" if where else fact
        end = "" if text.endswith("?") else "."
        super().__init__(f"{text.rstrip('.')}{end} {remedy}" if remedy else text)


class StepError(AbidingError):
    """A step could not do its work (exit 1)."""


class UsageError(AbidingError):
    """Wrong usage of a command (exit 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """The config, a prompt or an item file is wrong (exit 2)."""


class ManifestError(UsageError):
    """A manifest, state or schema-bound document is wrong (exit 2)."""


class Stopped(AbidingError):
    """Stopped or not finished, and resumable: a signal, a stop request, the money cap, `--no_wait` (exit 3)."""

    exit_code = 3
    resume_with: tuple[str, ...] = ()
    """What the command that resumes has to say besides, to get further than this time."""


class Locked(AbidingError):
    """Another process works on this run (exit 4)."""

    exit_code = 4


class RequireNotMet(AbidingError):
    """The verdict is not the one that `--require` asks for (exit 5)."""

    exit_code = 5
