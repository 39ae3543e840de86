"""How doit's commands take their words: options before or after task names, mistakes in one line with exit code 2."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import sqlite3
import sys
from collections.abc import Sequence
from typing import Any

from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask

from pipeline.base.errors import AbidingError
from pipeline.engine.helping import help_of

WRONG_USAGE = 2
FAILED = 1
OUR_DEFECT = 1


class OneLine:
    """Mixin for doit commands. `writes` says whether the command may change the run's folder."""

    writes = False
    locks_itself = False
    dry_run_means: str | None = None
    """What `--dry_run` is taken for (`doit clean` has an option of that kind of its own)."""

    def parse_execute(self, in_args: Sequence[str]) -> int:
        """Parse and run; every failure we know of becomes one line on stderr and its exit code."""
        loader: Any = self.loader  # type: ignore[attr-defined]
        loader.readonly, loader.exclusive = not self.writes, self.writes and not self.locks_itself
        if {"--help", "-h"} & set(in_args):
            print(self.help())
            return 0
        try:
            return int(super().parse_execute(self._options_first(list(in_args))) or 0)  # type: ignore[misc]
        except AbidingError as e:
            print(f"error: {e}", file=sys.stderr)
            return e.exit_code
        except (CmdParseError, InvalidCommand, InvalidDodoFile, InvalidTask) as e:
            hint = self._meant(e) or f"doit help {self.get_name()} lists what there is"  # type: ignore[attr-defined]
            print(f"error: {_in_short(e)} ({hint})", file=sys.stderr)
            return WRONG_USAGE
        except BrokenPipeError:  # `doit list | head`
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except sqlite3.Error as e:
            hint = "Is the disk full, or a *.db there damaged?"
            print(f"error: a database of the experiments folder does not work: {e}. {hint}", file=sys.stderr)
            return FAILED
        except OSError as e:  # a full disk, a folder that may not be written: nobody's defect, so no traceback
            session = getattr(loader, "session", None)
            where = e.filename or (session.run.paths.folder if session else self.get_name())  # type: ignore[attr-defined]
            remedy = "Make room and run again" if e.errno == errno.ENOSPC else "Mend that and run again"
            print(f"error: {where}: {e.strerror or e}. {remedy}.", file=sys.stderr)
            return FAILED
        finally:
            if loader.lock is not None:
                loader.lock.release()

    def help(self) -> str:
        """What `doit help COMMAND` and `--help` print."""
        return help_of(self)

    def _meant(self, error: Exception) -> str | None:
        """What a wrong option, command or task was probably meant to be."""
        option = re.match(r"option (--\w[\w-]*) not recognized", _in_short(error))
        word = re.match(r'Invalid parameter: "(.+?)"', _in_short(error))
        if option:
            known = [f"--{o.long}" for o in self.cmdparser.options if o.long]  # type: ignore[attr-defined]
        elif word:
            known = [*self.loader.cmd_names, *(t.name for t in getattr(self, "task_list", None) or [])]  # type: ignore[attr-defined]
        else:
            return None
        close = difflib.get_close_matches((option or word)[1], known, n=1, cutoff=0.65)  # type: ignore[index]
        return f"did you mean {close[0]}?" if close else None

    def _options_first(self, args: list[str]) -> list[str]:
        """Move known options before task names: doit's parser stops at the first word that is none."""
        parser: Any = self.cmdparser  # type: ignore[attr-defined]
        takes_value = {}
        for option in parser.options:
            for form in ([f"--{option.long}"] if option.long else []) + ([f"-{option.short}"] if option.short else []):
                takes_value[form] = option.type is not bool
            if option.inverse:
                takes_value[f"--{option.inverse}"] = False

        def wants_value(name: str) -> bool:
            """As doit's parser has it: an unambiguous beginning of a long option will do."""
            meant = {takes for form, takes in takes_value.items() if form.startswith(name)} if name.startswith("--") else set()
            return takes_value.get(name, meant == {True})

        front, rest, i = [], [], 0
        while i < len(args):
            word = args[i]
            if self.dry_run_means and word in ("--dry_run", "--dry-run"):
                word = self.dry_run_means
            name = word.split("=", 1)[0]
            if word == "--":
                rest += args[i + 1 :]
                break
            if name in takes_value or name.startswith("--"):
                front.append(word)
                if wants_value(name) and "=" not in word and i + 1 < len(args):
                    i += 1
                    front.append(args[i])
            elif word.startswith("-") and len(word) > 1:
                front.append(word)
                if takes_value.get(word[:2]) and len(word) == 2 and i + 1 < len(args):
                    i += 1
                    front.append(args[i])
            else:
                rest.append(word)
            i += 1
        return front + rest


def _in_short(error: Exception) -> str:
    """What doit says of a wrong word, without the list of all options that it puts behind."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    wrong_value = re.match(r"Error parsing parameter '(\w+)' <class '(\w+)'>", lines[0])
    if wrong_value:
        name, kind = wrong_value.groups()
        return f"--{name}: {lines[-1].rpartition(': ')[2]} is no {'whole number' if kind == 'int' else kind}"
    return lines[0].removeprefix("Error parsing Command: ").partition(" (parsing options:")[0]
